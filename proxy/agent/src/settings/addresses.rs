//! Where the listeners are to be.

use std::net::{IpAddr, SocketAddr};

use tidegate_dataplane::ListenAddress;

use super::file::{File, Scalars};
use super::key::{self, Key};
use super::merge::Layers;
use super::value::{self, Listen};
use super::{DEFAULT_ADMIN, Settings, SettingsError};
use crate::cli::ServeFlags;

/// Listeners for clients.
pub(super) struct Listeners {
    pub(super) http: Vec<ListenAddress>,
    pub(super) https: Vec<ListenAddress>,
}

/// Where clients are listened to.
pub(super) fn listeners(
    flags: &ServeFlags,
    file: &File,
    layers: &mut Layers<'_>,
) -> Result<Listeners, SettingsError> {
    let mut hosts = layers.list(
        key::BIND_ADDRESS,
        &flags.bind_address,
        file.bind_address.as_ref(),
        &[],
        value::ip,
    )?;
    hosts.sort();
    hosts.dedup();
    let mut of = |key, flags: &[Listen], file: &Option<Scalars>, default| {
        of_protocol(key, flags, file.as_ref(), default, layers)
            .map(|addresses| at_hosts(&hosts, addresses))
    };
    Ok(Listeners {
        http: of(key::HTTP, &flags.http, &file.http, "80")?,
        https: of(key::HTTPS, &flags.https, &file.https, "443")?,
    })
}

/// Where listeners of this key are to be, which may be nowhere.
fn of_protocol(
    key: Key,
    flags: &[Listen],
    file: Option<&Scalars>,
    default: &str,
    layers: &mut Layers<'_>,
) -> Result<Vec<ListenAddress>, SettingsError> {
    let wanted = layers.list(key, flags, file, &[default], str::parse)?;
    value::addresses(&wanted)
        .map_err(|problem| SettingsError::Conflict(format!("{}: {problem}", key.name)))
}

/// The same addresses, with each of these hosts for those that are a port alone.
fn at_hosts(hosts: &[IpAddr], addresses: Vec<ListenAddress>) -> Vec<ListenAddress> {
    if hosts.is_empty() {
        return addresses;
    }
    let with_hosts = addresses.into_iter().flat_map(|address| match address {
        ListenAddress::Port(port) => hosts
            .iter()
            .map(|host| ListenAddress::Socket(SocketAddr::new(*host, port)))
            .collect(),
        ListenAddress::Socket(_) => vec![address],
    });
    with_hosts.collect()
}

/// Where the admin pages are to be.
pub(super) fn admin(
    flags: &ServeFlags,
    file: &File,
    layers: &mut Layers<'_>,
) -> Result<Option<ListenAddress>, SettingsError> {
    let (flag, file) = (flags.admin, file.admin.as_ref());
    match layers.one(key::ADMIN, flag, file, DEFAULT_ADMIN, str::parse)? {
        Listen::On(address) => Ok(Some(address)),
        Listen::Off => Ok(None),
    }
}

/// Fails when two listeners are to be on one address: connections would go to either of them by chance.
pub(super) fn each_address_once(settings: &Settings) -> Result<(), SettingsError> {
    let listeners = &settings.dataplane;
    let named = [("http", &listeners.http), ("https", &listeners.https)];
    let all = named
        .iter()
        .flat_map(|(key, list)| list.iter().map(move |address| (*key, *address)));
    let all: Vec<_> = all
        .chain(settings.admin.map(|address| ("admin", address)))
        .collect();
    for (index, (key, address)) in all.iter().enumerate() {
        if let Some((other, _)) = all[..index]
            .iter()
            .find(|(_, before)| overlap(*before, *address))
        {
            return Err(SettingsError::Conflict(format!(
                "{other} and {key} are both to listen on {address}: give one of them another port"
            )));
        }
    }
    Ok(())
}

/// Whether a connection could be for either of them.
pub(super) fn overlap(one: ListenAddress, other: ListenAddress) -> bool {
    let port = |address| match address {
        ListenAddress::Port(port) => port,
        ListenAddress::Socket(address) => address.port(),
    };
    // Port 0 is another one each time.
    let (a, b) = (port(one), port(other));
    match (one, other) {
        _ if a != b || a == 0 => false,
        (ListenAddress::Socket(one), ListenAddress::Socket(other)) => one.ip() == other.ip(),
        _ => true,
    }
}
