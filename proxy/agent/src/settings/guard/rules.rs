//! The prefixes of sources that a listener of the guard denies and allows.

use std::collections::BTreeMap;

use ipnet::{IpNet, Ipv4Net};

use super::GuardVerdict;
use crate::settings::merge::list;
use crate::settings::{SettingsError, file, value};

/// Bits before the IPv4 address in one that is mapped into IPv6 (RFC 4291 section 2.5.5.2).
const MAPPED_BITS: u8 = 96;

/// What an entry says about prefixes, each of which is then there once.
pub(super) fn rules(
    key: &str,
    written: &file::GuardListener,
) -> Result<Vec<(IpNet, GuardVerdict)>, SettingsError> {
    let deny = list(&format!("{key}.deny"), written.deny.as_ref(), prefix)?;
    let allow = list(&format!("{key}.allow"), written.allow.as_ref(), prefix)?;
    let mut rules: BTreeMap<_, _> = deny
        .into_iter()
        .map(|net| (net, GuardVerdict::Deny))
        .collect();
    for net in allow {
        if rules.insert(net, GuardVerdict::Allow) == Some(GuardVerdict::Deny) {
            return Err(SettingsError::Conflict(format!(
                "{key} has {net} in both deny and allow: take it out of one of them (of different prefixes the longest wins)"
            )));
        }
    }
    Ok(rules.into_iter().collect())
}

/// A network without host bits, or a single address.
fn prefix(text: &str) -> Result<IpNet, String> {
    let net = value::network(text)?;
    if net != net.trunc() {
        return Err(format!(
            "it has bits set behind the prefix: write {} for the network, or {} for the address alone",
            net.trunc(),
            IpNet::from(net.addr())
        ));
    }
    match as_ipv4(net) {
        Some(ipv4) => Err(format!(
            "packets of IPv4 come with IPv4 addresses: write {ipv4}"
        )),
        None => Ok(net),
    }
}

/// The IPv4 network that one of IPv6 stands for.
fn as_ipv4(net: IpNet) -> Option<Ipv4Net> {
    let IpNet::V6(net) = net else {
        return None;
    };
    let bits = net.prefix_len().checked_sub(MAPPED_BITS)?;
    Ipv4Net::new(net.addr().to_ipv4_mapped()?, bits).ok()
}
