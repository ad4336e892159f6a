//! Figures that workers count and a scrape adds up.
//!
//! Each worker has counters of its own that no other thread writes, so counting is a load and a store: no lock, no
//! contended cache line.

mod collect;
mod route;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use hashbrown::{HashMap, HashSet};
use tidegate_model::{RouteLabels, RouteTable};

pub(crate) use collect::Collected;
pub(crate) use route::RouteMetrics;

use crate::fault::Fault;

/// A number that one thread writes and any may read.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    /// Adds; only the owning worker may.
    pub(crate) fn add(&self, more: u64) {
        self.0
            .store(self.read().wrapping_add(more), Ordering::Relaxed);
    }

    /// Sets a value that goes up and down; only the owning worker may.
    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Figures of one worker.
#[derive(Debug, Default)]
pub(crate) struct WorkerMetrics {
    /// Connections accepted in plain text.
    pub(crate) accepted_http: Count,
    /// Connections accepted for TLS.
    pub(crate) accepted_https: Count,
    /// Connections open now.
    pub(crate) open: Count,
    /// Connections cut by a deadline.
    pub(crate) timed_out: Count,
    /// Accepts that failed.
    pub(crate) accept_failures: Count,
    /// TLS handshakes done with a full exchange of keys.
    pub(crate) handshakes_full: Count,
    /// TLS handshakes that resumed a session.
    pub(crate) handshakes_resumed: Count,
    /// TLS handshakes by which an ACME server was answered.
    pub(crate) handshakes_challenge: Count,
    /// TLS handshakes that failed.
    pub(crate) handshakes_failed: Count,
    /// TLS handshakes that waited for a certificate and got it.
    pub(crate) demand_served: Count,
    /// TLS handshakes that waited for a certificate in vain.
    pub(crate) demand_timed_out: Count,
    /// TLS handshakes whose clients went away while they waited for a certificate.
    pub(crate) demand_left: Count,
    /// TLS handshakes that would have waited for a certificate, had there been room.
    pub(crate) demand_crowded: Count,
    /// Names that a certificate was asked for.
    pub(crate) demand_names: Count,
    /// Exchanges that are over.
    pub(crate) requests: Count,
    /// Connections opened to endpoints.
    pub(crate) upstream_connections: Count,
    /// Connections to endpoints kept for later.
    pub(crate) upstream_idle: Count,
    /// Endpoints that refused or did not answer a connection.
    pub(crate) connect_failures: Count,
    /// Requests sent again because a kept connection was stale.
    pub(crate) retries: Count,
    /// Lines of the access log that could not be written.
    pub(crate) log_lines_dropped: Count,
    /// Requests that no route was found for.
    pub(crate) unrouted: RouteMetrics,
    faults: Mutex<HashMap<(&'static str, &'static str), u64>>,
    routes: Mutex<HashMap<Arc<RouteLabels>, Arc<RouteMetrics>>>,
    /// How many routes are remembered before those that are gone are looked for again.
    trim_at: Count,
}

/// Routes that are remembered whether they are in force or not: a series that comes back goes on counting.
const REMEMBERED: u64 = 1000;

impl WorkerMetrics {
    /// Counts an answer of Tidegate's own.
    pub(crate) fn fault(&self, fault: Fault) {
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        *faults
            .entry((fault.reason(), fault.source().as_str()))
            .or_default() += 1;
    }

    /// The figures of a route, made at its first request. A lock is taken: callers keep the answer.
    pub(crate) fn route(&self, labels: &Arc<RouteLabels>) -> Arc<RouteMetrics> {
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        routes.entry(labels.clone()).or_default().clone()
    }

    /// Forgets routes that are gone, once so many are remembered that looking through those in force is worth it.
    pub(crate) fn trim_routes(&self, in_force: &RouteTable) {
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        if (routes.len() as u64) < self.trim_at.read().max(REMEMBERED) {
            return;
        }
        let hosts = in_force.hosts();
        let all = hosts
            .values()
            .flat_map(|host| host.routes().into_iter().chain(host.default_route()));
        let live: HashSet<&RouteLabels> = all.map(|route| &*route.labels).collect();
        routes.retain(|labels, _| live.contains(&**labels));
        self.trim_at.set(2 * routes.len() as u64);
    }
}

#[cfg(test)]
mod tests {
    use tidegate_model::NamespacedName;

    use super::*;

    #[test]
    fn routes_that_are_gone_are_forgotten_in_the_end() {
        let metrics = WorkerMetrics::default();
        for number in 0..5000 {
            let ingress = Some(NamespacedName::new("default", format!("web-{number}")));
            metrics.route(&Arc::new(RouteLabels {
                ingress,
                service: String::new(),
            }));
            metrics.trim_routes(&RouteTable::default());
        }
        let remembered = metrics.routes.lock().unwrap().len() as u64;
        assert!(remembered < REMEMBERED, "{remembered}");
    }
}
