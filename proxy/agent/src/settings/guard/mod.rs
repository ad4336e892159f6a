//! What is kept from the listeners before a connection is made: the `guard:` block of the settings file.

mod rules;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::num::NonZeroU32;

use ipnet::IpNet;
use tidegate_dataplane::ListenAddress;

use super::SettingsError;
use super::addresses::overlap;
use super::file::{self, File};
use super::merge::{Layers, list, one};
use super::{key, value};
use rules::rules;

/// Longest name of a network interface: `IFNAMSIZ` of the kernel without the zero at its end.
const LONGEST_INTERFACE: usize = 15;
/// 2, unless a setting says otherwise.
const BURST_OVER_RATE: NonZeroU32 = NonZeroU32::MIN.saturating_add(1);

/// What is kept from the listeners, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuardSettings {
    /// Network interfaces by name, each once; empty for those that have a default route.
    pub interfaces: Vec<String>,
    /// Where on the packet's way the program stands.
    pub mode: GuardMode,
    /// At least one. No connection is for two of them.
    pub listeners: Vec<GuardListener>,
}

/// Where on a packet's way the guard's program stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GuardMode {
    /// In the driver where it can, else as `Generic`.
    #[default]
    Auto,
    /// In the driver, or not at all.
    Native,
    /// Behind the driver: works with every interface and costs more for each packet.
    Generic,
}

/// What is kept from one listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuardListener {
    /// The listener's address, or a part of it: one address of a listener that is on every one. An unspecified IP
    /// (`0.0.0.0`, `[::]`) is every address of its family.
    pub address: ListenAddress,
    /// How often one source address may begin connections; `None` for as often as it likes.
    pub syn: Option<SynLimit>,
    /// What happens to sources by prefix: the longest one wins. Each prefix is there once and has no host bits.
    pub rules: Vec<(IpNet, GuardVerdict)>,
    /// What happens to sources that no prefix names.
    pub default: GuardVerdict,
}

/// How often one source address may begin connections (a token bucket).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SynLimit {
    /// SYNs a second for as long as it likes.
    pub rate: NonZeroU32,
    /// SYNs at once after a rest.
    pub burst: NonZeroU32,
}

/// What happens to a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GuardVerdict {
    /// It goes on.
    #[default]
    Allow,
    /// It is dropped.
    Deny,
}

/// What the file has of it, for a process that serves on these addresses.
pub(super) fn of_file(
    file: &File,
    serving: &[ListenAddress],
    layers: &mut Layers<'_>,
) -> Result<Option<GuardSettings>, SettingsError> {
    let block = file.guard.as_ref().map(serde_saphyr::to_string);
    let block = block.transpose().map_err(|error| {
        SettingsError::Conflict(format!("guard: cannot be written as YAML: {error}"))
    })?;
    layers.block(key::GUARD, block);
    let written = file.guard.as_ref();
    written.map(|written| guard(written, serving)).transpose()
}

/// Parses the block for a process that serves on these addresses.
pub(super) fn guard(
    written: &file::Guard,
    serving: &[ListenAddress],
) -> Result<GuardSettings, SettingsError> {
    let mut interfaces = list(
        "guard.interfaces",
        written.interfaces.as_ref(),
        interface_name,
    )?;
    let mut seen = BTreeSet::new();
    interfaces.retain(|name| seen.insert(name.clone()));
    let mode = one("guard.mode", written.mode.as_ref(), mode)?;
    if written.listeners.is_empty() {
        return Err(SettingsError::Conflict(
            "guard.listeners is empty: list ports to guard, such as `- port: 443`, or leave `guard:` out".to_owned(),
        ));
    }
    let mut listeners = Vec::new();
    for (index, written) in written.listeners.iter().enumerate() {
        let key = format!("guard.listeners[{index}]");
        for listener in listener(&key, written, serving)? {
            refuse_overlap(&key, &listener, &listeners)?;
            listeners.push(listener);
        }
    }
    Ok(GuardSettings {
        interfaces,
        mode: mode.unwrap_or_default(),
        listeners,
    })
}

/// What one entry says: as many listeners as are on its port, with the same rules.
fn listener(
    key: &str,
    written: &file::GuardListener,
    serving: &[ListenAddress],
) -> Result<Vec<GuardListener>, SettingsError> {
    let addresses = addresses(key, written, serving)?;
    let syn = syn_limit(key, written)?;
    let rules = rules(key, written)?;
    let default = one(&format!("{key}.default"), written.default.as_ref(), verdict)?;
    let default = default.unwrap_or_default();
    if syn.is_none() && default == GuardVerdict::Allow && !rules.iter().any(denies) {
        return Err(SettingsError::Conflict(format!(
            "{key} keeps nothing out: give it synRate, deny or `default: deny`, or take it out"
        )));
    }
    let guarded = |address| GuardListener {
        address,
        syn,
        rules: rules.clone(),
        default,
    };
    Ok(addresses.into_iter().map(guarded).collect())
}

fn denies((_, verdict): &(IpNet, GuardVerdict)) -> bool {
    *verdict == GuardVerdict::Deny
}

/// The listeners that an entry names.
fn addresses(
    key: &str,
    written: &file::GuardListener,
    serving: &[ListenAddress],
) -> Result<Vec<ListenAddress>, SettingsError> {
    let port_key = format!("{key}.port");
    let address_key = format!("{key}.address");
    let port = one(&port_key, written.port.as_ref(), value::port)?;
    let address = one(&address_key, written.address.as_ref(), socket_address)?;
    let (key, value, found) = match (port, address) {
        (Some(port), None) => (port_key, port.to_string(), on_port(port, serving)),
        (None, Some(address)) => (
            address_key,
            address.to_string(),
            on_address(address, serving),
        ),
        _ => {
            return Err(SettingsError::Conflict(format!(
                "{key} needs either port or address, such as `port: 443` or `address: \"203.0.113.7:443\"`"
            )));
        }
    };
    if found.is_empty() {
        let serving: Vec<_> = serving.iter().map(ToString::to_string).collect();
        return Err(SettingsError::value(
            key,
            value,
            format!(
                "nothing listens there: write one of {}, or add it to http or https",
                serving.join(", ")
            ),
        ));
    }
    Ok(found)
}

fn on_port(port: u16, serving: &[ListenAddress]) -> Vec<ListenAddress> {
    let has_port = |listener: &&ListenAddress| match listener {
        ListenAddress::Port(other) => *other == port,
        ListenAddress::Socket(other) => other.port() == port,
    };
    serving.iter().filter(has_port).copied().collect()
}

/// The address itself when a listener is there, or on every address of its port.
fn on_address(address: SocketAddr, serving: &[ListenAddress]) -> Vec<ListenAddress> {
    let is_there = |listener: &ListenAddress| match listener {
        ListenAddress::Port(port) => *port == address.port(),
        ListenAddress::Socket(other) => {
            let every = other.ip().is_unspecified() && other.is_ipv4() == address.is_ipv4();
            *other == address || (every && other.port() == address.port())
        }
    };
    let found = serving.iter().any(is_there);
    found
        .then_some(ListenAddress::Socket(address))
        .into_iter()
        .collect()
}

fn refuse_overlap(
    key: &str,
    listener: &GuardListener,
    before: &[GuardListener],
) -> Result<(), SettingsError> {
    let address = listener.address;
    let both = before.iter().find(|other| shared(other.address, address));
    both.map_or(Ok(()), |other| {
        Err(SettingsError::Conflict(format!(
            "{key} guards {address}, and an entry before it guards {}: connections would be for both; make them one entry, \
             or give each an address of its own",
            other.address
        )))
    })
}

/// Whether a packet could be for both.
fn shared(one: ListenAddress, other: ListenAddress) -> bool {
    let every = |address: ListenAddress| matches!(address, ListenAddress::Socket(it) if it.ip().is_unspecified());
    let (ListenAddress::Socket(a), ListenAddress::Socket(b)) = (one, other) else {
        return overlap(one, other);
    };
    let same_family = a.is_ipv4() == b.is_ipv4();
    a == b || (a.port() == b.port() && same_family && (every(one) || every(other)))
}

fn syn_limit(key: &str, written: &file::GuardListener) -> Result<Option<SynLimit>, SettingsError> {
    let count = |name: &str, written| one(&format!("{key}.{name}"), written, syn_count);
    let rate = count("synRate", written.syn_rate.as_ref())?;
    let burst = count("synBurst", written.syn_burst.as_ref())?;
    match (rate, burst) {
        (None, None) => Ok(None),
        (None, Some(burst)) => Err(SettingsError::Conflict(format!(
            "{key}.synBurst is {burst}, but there is no synRate: give synRate, the SYNs a second from one address, or take \
             synBurst out"
        ))),
        (Some(rate), burst) => Ok(Some(SynLimit {
            rate,
            burst: burst.unwrap_or_else(|| rate.saturating_mul(BURST_OVER_RATE)),
        })),
    }
}

fn syn_count(text: &str) -> Result<NonZeroU32, String> {
    text.parse().map_err(|_| {
        format!(
            "write how many SYNs from one address, from 1 to {}; without a limit leave the key out",
            u32::MAX
        )
    })
}

fn socket_address(text: &str) -> Result<SocketAddr, String> {
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() != 0 => Ok(address),
        _ => Err("write IP:PORT, such as 203.0.113.7:443 or [2001:db8::7]:443; for a port on every address write `port: 443`".to_owned()),
    }
}

/// Whether the machine has the interface is known when the program is attached.
fn interface_name(text: &str) -> Result<String, String> {
    let ends = |byte: u8| byte == b'/' || byte == b':' || byte.is_ascii_whitespace() || byte == 0;
    let fits = (1..=LONGEST_INTERFACE).contains(&text.len());
    match fits && !matches!(text, "." | "..") && !text.bytes().any(ends) {
        true => Ok(text.to_owned()),
        false => Err(format!(
            "write the name of a network interface, at most {LONGEST_INTERFACE} bytes, such as eth0 (`ip link` lists them)"
        )),
    }
}

fn mode(text: &str) -> Result<GuardMode, String> {
    match text {
        "auto" => Ok(GuardMode::Auto),
        "native" => Ok(GuardMode::Native),
        "generic" => Ok(GuardMode::Generic),
        _ => Err("write auto, native or generic".to_owned()),
    }
}

fn verdict(text: &str) -> Result<GuardVerdict, String> {
    match text {
        "allow" => Ok(GuardVerdict::Allow),
        "deny" => Ok(GuardVerdict::Deny),
        _ => Err("write allow or deny".to_owned()),
    }
}

#[cfg(test)]
mod tests;
