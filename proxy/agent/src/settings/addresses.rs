//! Where the listeners are to be.

use tidegate_dataplane::ListenAddress;

use super::file::{Scalar, Scalars};
use super::merge::{list, one};
use super::value::{self, Listen};
use super::{DEFAULT_ADMIN, Settings, SettingsError};

/// Where a listener of this key is to be, which may be nowhere.
pub(super) fn listeners(
    key: &str,
    flags: Vec<Listen>,
    file: Option<&Scalars>,
    default: ListenAddress,
) -> Result<Vec<ListenAddress>, SettingsError> {
    let wanted = match (flags.is_empty(), file) {
        (false, _) => flags,
        (true, Some(_)) => list(key, file, str::parse)?,
        (true, None) => vec![Listen::On(default)],
    };
    value::addresses(&wanted)
        .map_err(|problem| SettingsError::Conflict(format!("{key}: {problem}")))
}

/// Where the admin pages are to be.
pub(super) fn admin(
    flag: Option<Listen>,
    file: Option<&Scalar>,
) -> Result<Option<ListenAddress>, SettingsError> {
    let default = Scalar(DEFAULT_ADMIN.to_owned());
    match one("admin", flag, Some(file.unwrap_or(&default)), str::parse)? {
        Some(Listen::On(address)) => Ok(Some(address)),
        Some(Listen::Off) | None => Ok(None),
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
