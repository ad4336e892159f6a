//! What is recorded of an exchange when it is over, however it ends.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use tidegate_model::RouteLabels;

use crate::access_log::Line;
use crate::downstream::Downstream;
use crate::fault::Fault;
use crate::message::RequestHead;
use crate::metrics::RouteMetrics;
use crate::upstream::EndpointState;

/// Lives as long as the exchange; recorded when it is dropped.
pub(crate) struct Completion {
    pub(crate) downstream: Rc<Downstream>,
    /// The request, with the edits that were made for the endpoint.
    pub(crate) head: RequestHead,
    started: Instant,
    /// 0 until a response's head was there.
    status: u16,
    /// Bytes of the response's body that went to the client.
    sent: u64,
    complete: bool,
    metrics: Option<Arc<RouteMetrics>>,
    route: Option<Arc<RouteLabels>>,
    endpoint: Option<Rc<str>>,
    fault: Option<Fault>,
}

impl Completion {
    /// An exchange begins.
    pub(crate) fn begin(downstream: &Rc<Downstream>, head: RequestHead) -> Self {
        Self {
            downstream: downstream.clone(),
            head,
            started: Instant::now(),
            status: 0,
            sent: 0,
            complete: false,
            metrics: None,
            route: None,
            endpoint: None,
            fault: None,
        }
    }

    /// The route that was found.
    pub(crate) fn route(&mut self, labels: &Arc<RouteLabels>) {
        let worker = &self.downstream.worker;
        self.metrics = Some(worker.route_metrics(labels));
        if worker.access_log.is_some() {
            self.route = Some(labels.clone());
        }
    }

    /// The endpoint that answered.
    pub(crate) fn endpoint(&mut self, endpoint: &EndpointState) {
        if self.downstream.worker.access_log.is_some() {
            self.endpoint = Some(endpoint.name.clone());
        }
    }

    /// Why Tidegate answers itself.
    pub(crate) fn fault(&mut self, fault: Fault) {
        self.downstream.worker.metrics.fault(fault);
        self.fault = Some(fault);
    }

    /// The head of the response is there.
    pub(crate) fn answered(&mut self, status: u16) {
        self.status = status;
    }

    /// Bytes of the response's body passed.
    pub(crate) fn sent(&mut self, bytes: u64) {
        self.sent += bytes;
    }

    /// The last byte has passed.
    pub(crate) fn complete(mut self) {
        self.complete = true;
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        let worker = &self.downstream.worker;
        let elapsed = self.started.elapsed();
        // 499 is what the field calls a client that left before the answer; it is never sent.
        let status = if self.status == 0 { 499 } else { self.status };
        match &self.metrics {
            Some(metrics) => metrics.observe(status, elapsed),
            None => worker.metrics.unrouted.observe(status, elapsed),
        }
        worker.metrics.requests.add(1);
        if let Some(log) = &worker.access_log {
            log.write(&Line {
                downstream: &self.downstream,
                head: &self.head,
                route: self.route.as_deref(),
                endpoint: self.endpoint.as_deref(),
                fault: self.fault,
                status,
                bytes: self.sent,
                elapsed,
                complete: self.complete,
            });
        }
    }
}
