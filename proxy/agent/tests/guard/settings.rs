//! Settings of the guard as the tests want them, and what it reports.

use std::num::NonZeroU32;
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tidegate::Guard;
use tidegate::settings::{GuardListener, GuardMode, GuardSettings, GuardVerdict, SynLimit};
use tidegate_dataplane::ListenAddress;

/// For tests where no other program is on the interface.
pub(crate) const NO_PATIENCE: Duration = Duration::ZERO;

pub(crate) fn guard(
    interface: &str,
    mode: GuardMode,
    listeners: &[GuardListener],
) -> GuardSettings {
    GuardSettings {
        interfaces: vec![interface.to_owned()],
        mode,
        listeners: listeners.to_vec(),
    }
}

/// A listener that lets everyone pass.
pub(crate) fn listener(address: &str) -> GuardListener {
    GuardListener {
        address: address.parse::<ListenAddress>().unwrap(),
        syn: None,
        rules: Vec::new(),
        default: GuardVerdict::Allow,
    }
}

pub(crate) trait Rules {
    fn deny(self, net: &str) -> Self;
    fn allow(self, net: &str) -> Self;
    fn deny_others(self) -> Self;
    fn limit(self, rate: u32, burst: u32) -> Self;
}

impl Rules for GuardListener {
    fn deny(mut self, net: &str) -> Self {
        self.rules.push((net.parse().unwrap(), GuardVerdict::Deny));
        self
    }

    fn allow(mut self, net: &str) -> Self {
        self.rules.push((net.parse().unwrap(), GuardVerdict::Allow));
        self
    }

    fn deny_others(mut self) -> Self {
        self.default = GuardVerdict::Deny;
        self
    }

    fn limit(mut self, rate: u32, burst: u32) -> Self {
        self.syn = Some(SynLimit {
            rate: NonZeroU32::new(rate).unwrap(),
            burst: NonZeroU32::new(burst).unwrap(),
        });
        self
    }
}

/// The guard's metrics as text.
pub(crate) fn metrics(guard: &Guard) -> String {
    let mut registry = Registry::with_prefix("tidegate");
    guard.register(&mut registry);
    let mut text = String::new();
    encode(&mut text, &registry).unwrap();
    text
}

/// Packets with a verdict.
pub(crate) fn packets(guard: &Guard, verdict: &str) -> u64 {
    let name = format!("tidegate_guard_packets_total{{verdict=\"{verdict}\"}} ");
    let text = metrics(guard);
    let value = text.lines().find_map(|line| line.strip_prefix(&name));
    value
        .unwrap_or_else(|| panic!("no {name}in {text}"))
        .parse()
        .unwrap()
}

/// The guard's mode on an interface.
pub(crate) fn state(guard: &Guard, interface: &str) -> String {
    let name = format!("tidegate_guard_state{{interface=\"{interface}\",mode=\"");
    let text = metrics(guard);
    let line = text.lines().find_map(|line| line.strip_prefix(&name));
    let mode = line.and_then(|rest| rest.split('"').next());
    mode.unwrap_or_else(|| panic!("no state of {interface} in {text}"))
        .to_owned()
}
