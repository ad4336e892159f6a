//! Certificates of the settings themselves, and those that clients cause.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tidegate_certificates::settings::{OnDemandSettings, WantedCertificate};
use tidegate_certificates::{Issuer, Issuers, NameSet};
use tidegate_controller::translate::{CanWildcard, CertificateDefaults};
use tidegate_model::{HostPattern, Hostname};

use super::issuer::web_url;
use super::{can_wildcard, known, positive, within};
use crate::settings::file::{CertificateBlock, OnDemandBlock};
use crate::settings::merge::{list, one};
use crate::settings::{SettingsError, key, value};

/// Most names of a certificate, as CAs have it.
const MOST_NAMES: usize = 100;

const PER_HOUR: u32 = 20;
const WAIT: Duration = Duration::from_secs(10);
const WAITS: (Duration, Duration) = (Duration::from_millis(1), Duration::from_secs(60));
const FORGET_AFTER: Duration = Duration::from_secs(30 * 24 * 3600);
const FORGET_AFTERS: (Duration, Duration) = (
    Duration::from_secs(1),
    Duration::from_secs(3650 * 24 * 3600),
);

/// What `certificates.names` says.
pub(super) fn certificates(
    written: &[CertificateBlock],
    defaults: &CertificateDefaults,
    issuers: &Issuers,
) -> Result<Vec<WantedCertificate>, SettingsError> {
    let mut places = BTreeMap::new();
    let mut certificates = Vec::new();
    for (index, written) in written.iter().enumerate() {
        let key = format!("{}[{index}]", key::CERTIFICATES_NAMES.name);
        let names = names(&key, written)?;
        let shown = names.to_string();
        if let Some(before) = places.insert(names.clone(), key.clone()) {
            return Err(SettingsError::value(
                format!("{key}.names"),
                shown,
                format!("{before} is for the same names: drop one of them"),
            ));
        }
        let named = one(&format!("{key}.issuer"), written.issuer.as_ref(), |text| {
            known(text, issuers)
        })?;
        let named = named.or_else(|| defaults.issuer.clone());
        let issuer = issuers.find(named.as_deref());
        let issuer = issuer.ok_or_else(|| {
            SettingsError::value(
                format!("{key}.names"),
                shown,
                "there is no issuer to order it from: name one under `issuers:`, or with --acme-directory letsencrypt",
            )
        })?;
        can_prove(&key, &names, issuer)?;
        certificates.push(WantedCertificate {
            names: names.iter().cloned().collect(),
            issuer: named,
            secret: one(
                &format!("{key}.secret"),
                written.secret.as_ref(),
                value::namespaced_name,
            )?,
        });
    }
    Ok(certificates)
}

fn names(key: &str, written: &CertificateBlock) -> Result<NameSet, SettingsError> {
    let key = format!("{key}.names");
    let list = list(&key, written.names.as_ref(), host)?;
    let mut seen = BTreeSet::new();
    if let Some(twice) = list.iter().find(|name| !seen.insert(*name)) {
        return Err(SettingsError::value(
            key,
            twice.to_string(),
            "it is there twice: write each name once",
        ));
    }
    if list.len() > MOST_NAMES {
        return Err(SettingsError::value(
            key,
            format!("{} names", list.len()),
            format!("a certificate has at most {MOST_NAMES} names: make several of it"),
        ));
    }
    NameSet::new(list).ok_or_else(|| {
        SettingsError::Conflict(format!(
            "{key} is empty: write the names of the certificate, such as [example.com, www.example.com]"
        ))
    })
}

fn host(text: &str) -> Result<HostPattern, String> {
    match HostPattern::parse(text) {
        Ok(HostPattern::Any) => {
            Err("write a DNS name, or a wildcard such as *.example.com".to_owned())
        }
        Ok(name) => Ok(name),
        Err(error) => Err(error.to_string()),
    }
}

fn can_prove(key: &str, names: &NameSet, issuer: &Issuer) -> Result<(), SettingsError> {
    let is_wildcard = |name: &&HostPattern| matches!(name, HostPattern::Wildcard(_));
    match (names.iter().find(is_wildcard), can_wildcard(issuer)) {
        (Some(name), CanWildcard::No) => Err(SettingsError::value(
            format!("{key}.names"),
            name.to_string(),
            format!(
                "issuer '{}' cannot prove a wildcard: name an issuer whose challenge is dns-01, with `issuer:` beside it",
                issuer.name
            ),
        )),
        _ => Ok(()),
    }
}

/// What `certificates.onDemand` says.
pub(super) fn on_demand(
    written: Option<&OnDemandBlock>,
    defaults: &CertificateDefaults,
    issuers: &Issuers,
) -> Result<Option<OnDemandSettings>, SettingsError> {
    let Some(written) = written else {
        return Ok(None);
    };
    let part = |name: &str| format!("{}.{name}", key::CERTIFICATES_ON_DEMAND.name);
    let routes = one(&part("routes"), written.routes.as_ref(), value::boolean)?;
    let per_hour = one(&part("perHour"), written.per_hour.as_ref(), positive)?;
    let wait = one(&part("wait"), written.wait.as_ref(), |text| {
        within(text, WAITS)
    })?;
    let forget_after = one(
        &part("forgetAfter"),
        written.forget_after.as_ref(),
        |text| within(text, FORGET_AFTERS),
    )?;
    let issuer = one(&part("issuer"), written.issuer.as_ref(), |text| {
        known(text, issuers)
    })?;
    let settings = OnDemandSettings {
        suffixes: list(&part("suffixes"), written.suffixes.as_ref(), suffix)?,
        routes: routes.unwrap_or_default(),
        ask: one(&part("ask"), written.ask.as_ref(), web_url)?,
        issuer: issuer.or_else(|| defaults.issuer.clone()),
        per_hour: per_hour.unwrap_or(PER_HOUR),
        wait: wait.unwrap_or(WAIT),
        forget_after: forget_after.unwrap_or(FORGET_AFTER),
    };
    let name = key::CERTIFICATES_ON_DEMAND.name;
    if settings.suffixes.is_empty() && !settings.routes && settings.ask.is_none() {
        return Err(SettingsError::Conflict(format!(
            "{name} allows no name: give it suffixes, `routes: true` or ask, or take it out"
        )));
    }
    if issuers.0.is_empty() {
        return Err(SettingsError::Conflict(format!(
            "{name} is set, but there is no issuer: name one under `issuers:`, or with --acme-directory letsencrypt"
        )));
    }
    Ok(Some(settings))
}

/// A name that stands for itself and all below it.
fn suffix(text: &str) -> Result<Hostname, String> {
    Hostname::parse(text).map_err(|error| {
        format!("{error}; write a name such as example.com, which stands for itself and all names below it")
    })
}
