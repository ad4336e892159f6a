//! How certificates stand, by the report of the process that keeps them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet};
use tidegate_certificates::report::Report;
use tokio::sync::watch;

use super::{count, gauge, gauges};

/// Metrics of the process that orders; others have none of these.
#[derive(Debug)]
pub(crate) struct CertificateMetrics {
    report: watch::Receiver<Arc<Report>>,
}

impl CertificateMetrics {
    pub(crate) fn new(report: watch::Receiver<Arc<Report>>) -> Self {
        Self { report }
    }
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelSet)]
struct Next {
    next: String,
}

#[derive(Debug, EncodeLabelSet)]
struct Directory {
    directory: String,
}

impl Collector for CertificateMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let report = self.report.borrow().clone();
        if !report.leader {
            return Ok(());
        }
        let encoder = &mut encoder;
        let mut sets: BTreeMap<Next, usize> = BTreeMap::new();
        for outlook in &report.outlook {
            let next = outlook.next.to_string();
            *sets.entry(Next { next }).or_default() += 1;
        }
        gauges(
            encoder,
            "certificate_sets",
            "Sets of names that certificates are kept for, by what comes next",
            sets.iter().map(|(next, number)| (next, count(*number))),
        )?;
        let failing = report.outlook.iter();
        let failing = failing.filter(|outlook| outlook.last_error.is_some());
        gauge(
            encoder,
            "certificate_sets_failing",
            "Sets of names whose last order failed",
            &count(failing.count()),
        )?;
        gauge(
            encoder,
            "acme_orders_in_flight",
            "Orders that were begun and have not come to an end",
            &count(report.ledger.in_flight),
        )?;
        let directories: Vec<_> = report
            .ledger
            .directories
            .iter()
            .map(|(url, known)| {
                let directory = url.clone();
                (Directory { directory }, known)
            })
            .collect();
        gauges(
            encoder,
            "acme_orders_recent",
            "Orders placed at a directory in the last 3 hours",
            directories
                .iter()
                .map(|(labels, known)| (labels, count(known.orders))),
        )?;
        let closed = directories
            .iter()
            .filter_map(|(labels, known)| Some((labels, known.closed_until?.0)));
        gauges(
            encoder,
            "acme_closed_until_timestamp_seconds",
            "When a directory that asked for patience may be asked again",
            closed,
        )
    }
}
