//! What is recorded of an exchange when it is over, however it ends.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use tidegate_model::RouteLabels;

use crate::access_log::Record;
use crate::downstream::Downstream;
use crate::fault::Fault;
use crate::head::RequestHead;
use crate::metrics::RouteMetrics;
use crate::upstream::InFlight;

/// Lives as long as the exchange; recorded when it is dropped.
pub(crate) struct Completion {
    downstream: Rc<Downstream>,
    started: Instant,
    /// 0 until a response's head was there.
    status: u16,
    /// Bytes of the response's body that went to the client.
    sent: u64,
    complete: bool,
    metrics: Option<Arc<RouteMetrics>>,
    in_flight: Option<InFlight>,
    /// Only when there is an access log.
    record: Option<Box<Record>>,
}

impl Completion {
    /// An exchange begins.
    pub(crate) fn begin(downstream: &Rc<Downstream>, head: &RequestHead) -> Self {
        downstream.begin();
        let record = downstream
            .worker
            .access_log
            .is_some()
            .then(|| Box::new(Record::new(downstream, head)));
        Self {
            downstream: downstream.clone(),
            started: Instant::now(),
            status: 0,
            sent: 0,
            complete: false,
            metrics: None,
            in_flight: None,
            record,
        }
    }

    /// The route that was found.
    pub(crate) fn route(&mut self, labels: &Arc<RouteLabels>) {
        self.metrics = Some(self.downstream.worker.route_metrics(labels));
        if let Some(record) = &mut self.record {
            record.route = Some(labels.clone());
        }
    }

    /// The endpoint that answered.
    pub(crate) fn endpoint(&mut self, address: SocketAddr) {
        if let Some(record) = &mut self.record {
            record.endpoint = Some(address);
        }
    }

    /// Why Tidegate answers itself.
    pub(crate) fn fault(&mut self, fault: Fault) {
        self.downstream.worker.metrics.fault(fault);
        if let Some(record) = &mut self.record {
            record.fault = Some(fault);
        }
    }

    /// The head of the response is there.
    pub(crate) fn answered(&mut self, status: u16) {
        self.status = status;
        self.downstream.answer();
    }

    /// Counts the request at its endpoint until the exchange is over.
    pub(crate) fn hold(&mut self, in_flight: InFlight) {
        self.in_flight = Some(in_flight);
    }

    /// A part of the response's body passed.
    pub(crate) fn sent(&mut self, bytes: usize) {
        self.sent += bytes as u64;
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
        if let (Some(record), Some(log)) = (&self.record, &worker.access_log) {
            log.write(record, status, self.sent, elapsed, self.complete);
        }
        if self.status == 0 {
            self.downstream.give_up();
        } else {
            self.downstream.end();
        }
    }
}
