//! TLS with clients: versions and cipher suites.

use std::time::Duration;

use tidegate_model::{
    CipherSuite, Level, NamespacedName, ObjectRef, Problem, Reason, TlsPolicy, TlsVersion,
};

use crate::cli::CertificateFlags;
use crate::settings::effective::Place;
use crate::settings::file;
use crate::settings::key;
use crate::settings::merge::Layers;
use crate::settings::{SettingsError, value};

/// Shortest and longest time from one ticket key to the next: a ticket lives for 7 days at most (RFC 8446 section 4.6.1).
pub(super) const TICKET_ROTATION: (Duration, Duration) =
    (Duration::from_secs(1), Duration::from_secs(7 * 24 * 3600));

/// What clients are offered, and what of it cannot be.
pub(super) fn policy(
    flags: &CertificateFlags,
    written: &file::Tls,
    layers: &mut Layers<'_>,
) -> Result<(TlsPolicy, Vec<Problem>), SettingsError> {
    let min_version = layers.one(
        key::TLS_MIN_VERSION,
        flags.tls_min_version,
        written.min_version.as_ref(),
        "1.2",
        min_version,
    )?;
    let names = layers.list(
        key::TLS_CIPHER_SUITES,
        &[],
        written.cipher_suites.as_ref(),
        &[],
        value::text,
    )?;
    let (cipher_suites, problems) = suites(&names, layers.place());
    let policy = TlsPolicy {
        min_version,
        cipher_suites,
    };
    Ok((policy, problems))
}

/// `1.2` or `1.3`
pub(crate) fn min_version(text: &str) -> Result<TlsVersion, String> {
    match text {
        "1.2" => Ok(TlsVersion::Tls12),
        "1.3" => Ok(TlsVersion::Tls13),
        _ => Err("write 1.2 or 1.3; earlier versions are not offered".to_owned()),
    }
}

/// The suites of these names that there are, and a Problem for each other one.
pub(super) fn suites(names: &[String], place: Option<&Place>) -> (Vec<CipherSuite>, Vec<Problem>) {
    let mut suites = Vec::new();
    let mut refused = Vec::new();
    for (index, name) in names.iter().enumerate() {
        match CipherSuite::parse(name) {
            Ok(suite) if suites.contains(&suite) => {}
            Ok(suite) => suites.push(suite),
            Err(error) => refused.push((index, error)),
        }
    }
    let outcome = match suites.is_empty() {
        true => "No other suite is named, so that all that there are are offered.",
        false => "It is left out.",
    };
    let problems = refused.into_iter().map(|(index, error)| Problem {
        level: Level::Warning,
        object: object(place),
        field: format!("{}[{index}]", key::TLS_CIPHER_SUITES.name),
        reason: Reason::UnsupportedCipherSuite,
        message: format!("{error}. {outcome}"),
    });
    let problems = problems.collect();
    (suites, problems)
}

fn object(place: Option<&Place>) -> ObjectRef {
    match place {
        Some(Place::ConfigMap(name)) => {
            let (namespace, name) = name.split_once('/').unwrap_or(("", name));
            ObjectRef::new("ConfigMap", NamespacedName::new(namespace, name))
        }
        Some(Place::Path(path)) => ObjectRef::new("File", NamespacedName::new("", path)),
        None => ObjectRef::new("File", NamespacedName::new("", "settings")),
    }
}
