//! Certificates and TLS: issuers, what is ordered from them, and what clients are offered.

mod dns;
mod issuer;
mod secret;
mod tls;
mod wanted;

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Serialize;
use tidegate_certificates::issuer::ChallengeSettings;
use tidegate_certificates::settings::Limits;
use tidegate_certificates::{CertificateSettings, Issuer, Issuers};
use tidegate_controller::translate::{CanWildcard, CertificateDefaults, Hosts, Issue};
use tidegate_model::{AllowRoutes, Asks, OnDemand, Problem, TlsPolicy};

use super::file::{self, File};
use super::key::{self, Key};
use super::merge::{Layers, one};
use super::{SettingsError, value};
use crate::cli::CertificateFlags;

pub(crate) use issuer::{Directory, contact, directory};
pub(crate) use tls::min_version;

/// All that settings say about certificates and TLS.
pub(super) struct Certificates {
    pub(super) settings: CertificateSettings,
    pub(super) defaults: CertificateDefaults,
    pub(super) on_demand: Option<OnDemand>,
    pub(super) tls: TlsPolicy,
    /// What is left out of them.
    pub(super) problems: Vec<Problem>,
}

/// What is said about certificates and TLS.
pub(super) fn certificates(
    flags: &CertificateFlags,
    file: &File,
    layers: &mut Layers<'_>,
) -> Result<Certificates, SettingsError> {
    let issuers = issuers(flags, file, layers)?;
    let written = &file.certificates;
    let defaults = defaults(flags, written, &issuers, layers)?;
    layers.block(
        key::CERTIFICATES_NAMES,
        yaml(key::CERTIFICATES_NAMES, written.names.as_ref())?,
    );
    layers.block(
        key::CERTIFICATES_ON_DEMAND,
        yaml(key::CERTIFICATES_ON_DEMAND, written.on_demand.as_ref())?,
    );
    layers.block(
        key::CERTIFICATES_LIMITS,
        yaml(key::CERTIFICATES_LIMITS, written.limits.as_ref())?,
    );
    let usual = CertificateSettings::default();
    let on_demand = wanted::on_demand(written.on_demand.as_ref(), &defaults, &issuers)?;
    let (tls, problems) = tls::policy(flags, &file.tls, layers)?;
    let settings = CertificateSettings {
        certificates: wanted::certificates(
            written.names.as_deref().unwrap_or_default(),
            &defaults,
            &issuers,
        )?,
        grace: layers.one(
            key::CERTIFICATES_GRACE,
            None,
            written.grace.as_ref(),
            value::written(usual.grace),
            value::duration,
        )?,
        ticket_rotation: layers.one(
            key::TLS_TICKET_ROTATION,
            None,
            file.tls.ticket_rotation.as_ref(),
            value::written(usual.ticket_rotation),
            |text| within(text, tls::TICKET_ROTATION),
        )?,
        limits: limits(written.limits.as_ref())?,
        on_demand,
        issuers,
    };
    Ok(Certificates {
        on_demand: settings.on_demand.as_ref().map(|on_demand| OnDemand {
            suffixes: on_demand.suffixes.clone(),
            routes: match on_demand.routes {
                true => AllowRoutes::Yes,
                false => AllowRoutes::No,
            },
            asks: match on_demand.ask {
                Some(_) => Asks::Yes,
                None => Asks::No,
            },
            wait: on_demand.wait,
        }),
        settings,
        defaults,
        tls,
        problems,
    })
}

/// Those of `issuers:`, or the one of the short form.
fn issuers(
    flags: &CertificateFlags,
    file: &File,
    layers: &mut Layers<'_>,
) -> Result<Issuers, SettingsError> {
    let directory = layers.optional(
        key::ACME_DIRECTORY,
        flags.acme_directory.clone(),
        file.acme.directory.as_ref(),
        issuer::directory,
    )?;
    let email = layers.optional(
        key::ACME_EMAIL,
        flags.acme_email.clone(),
        file.acme.email.as_ref(),
        issuer::contact,
    )?;
    layers.block(key::ISSUERS, yaml(key::ISSUERS, file.issuers.as_ref())?);
    let written = file.issuers.as_deref().unwrap_or_default();
    if directory.is_none() && email.is_none() {
        return issuer::issuers(written);
    }
    if !written.is_empty() {
        let set = [key::ACME_DIRECTORY, key::ACME_EMAIL];
        let set: Vec<_> = set
            .iter()
            .filter(|key| match key.name {
                "acme.directory" => directory.is_some(),
                _ => email.is_some(),
            })
            .map(|key| format!("{} ({})", key.name, layers.effective().origin(*key)))
            .collect();
        return Err(SettingsError::Conflict(format!(
            "issuers and {} are both set, and acme is a short form of one issuer: drop it, and write its directory and \
             contact in an entry of issuers",
            set.join(" and ")
        )));
    }
    Ok(Issuers(vec![issuer::short(directory, email)]))
}

fn defaults(
    flags: &CertificateFlags,
    written: &file::Certificates,
    issuers: &Issuers,
    layers: &mut Layers<'_>,
) -> Result<CertificateDefaults, SettingsError> {
    let all = issuers.0.iter();
    let all = all.map(|issuer| (issuer.name.clone(), can_wildcard(issuer)));
    let issuer = layers.optional(
        key::CERTIFICATES_ISSUER,
        None,
        written.issuer.as_ref(),
        |text| known(text, issuers),
    )?;
    let defaults = CertificateDefaults {
        issue: layers.one(
            key::CERTIFICATES_ISSUE,
            flags.certificates,
            written.issue.as_ref(),
            "none",
            issue,
        )?,
        hosts: layers.one(
            key::CERTIFICATES_HOSTS,
            flags.certificate_hosts,
            written.hosts.as_ref(),
            "tls",
            hosts,
        )?,
        issuer: issuer.or_else(|| issuers.0.first().map(|first| first.name.clone())),
        known_issuers: Some(all.collect()),
    };
    if defaults.issue == Issue::Acme && issuers.0.is_empty() {
        return Err(SettingsError::Conflict(format!(
            "certificates.issue is acme ({}), but there is no issuer: name one under `issuers:`, or with --acme-directory \
             letsencrypt",
            layers.effective().origin(key::CERTIFICATES_ISSUE)
        )));
    }
    Ok(defaults)
}

fn can_wildcard(issuer: &Issuer) -> CanWildcard {
    match issuer.challenge {
        ChallengeSettings::Dns01(_) => CanWildcard::Yes,
        ChallengeSettings::Http01 | ChallengeSettings::TlsAlpn01 => CanWildcard::No,
    }
}

fn limits(written: Option<&file::LimitsBlock>) -> Result<Limits, SettingsError> {
    let usual = Limits::default();
    let Some(written) = written else {
        return Ok(usual);
    };
    let limit = |name: &str, scalar, usual| {
        let key = format!("{}.{name}", key::CERTIFICATES_LIMITS.name);
        Ok::<_, SettingsError>(one(&key, scalar, positive)?.unwrap_or(usual))
    };
    Ok(Limits {
        duplicates_per_week: limit(
            "duplicatesPerWeek",
            written.duplicates_per_week.as_ref(),
            usual.duplicates_per_week,
        )?,
        per_domain_per_week: limit(
            "perDomainPerWeek",
            written.per_domain_per_week.as_ref(),
            usual.per_domain_per_week,
        )?,
        failures_per_hour: limit(
            "failuresPerHour",
            written.failures_per_hour.as_ref(),
            usual.failures_per_hour,
        )?,
        orders_per_3_hours: limit(
            "ordersPer3Hours",
            written.orders_per_3_hours.as_ref(),
            usual.orders_per_3_hours,
        )?,
    })
}

/// A mapping or list of the file as it is printed.
fn yaml<T: Serialize>(key: Key, written: Option<&T>) -> Result<Option<String>, SettingsError> {
    let text = written.map(serde_saphyr::to_string).transpose();
    text.map_err(|error| {
        SettingsError::Conflict(format!("{}: cannot be written as YAML: {error}", key.name))
    })
}

/// `acme` or `none`
pub(crate) fn issue(text: &str) -> Result<Issue, String> {
    match text {
        "acme" => Ok(Issue::Acme),
        "none" => Ok(Issue::None),
        _ => Err("write acme or none".to_owned()),
    }
}

/// `tls` or `rules`
pub(crate) fn hosts(text: &str) -> Result<Hosts, String> {
    match text {
        "tls" => Ok(Hosts::Tls),
        "rules" => Ok(Hosts::Rules),
        _ => Err(
            "write tls (hosts under spec.tls) or rules (those, and the hosts of every rule)"
                .to_owned(),
        ),
    }
}

/// The name of an issuer that there is.
fn known(text: &str, issuers: &Issuers) -> Result<String, String> {
    if issuers.find(Some(text)).is_some() {
        return Ok(text.to_owned());
    }
    let names: BTreeSet<_> = issuers
        .0
        .iter()
        .map(|issuer| issuer.name.as_str())
        .collect();
    Err(match names.is_empty() {
        true => "there is no issuer: add one of this name under `issuers:`".to_owned(),
        false => {
            let names: Vec<_> = names.into_iter().collect();
            format!(
                "there is no issuer of this name: write {}, or add one under `issuers:`",
                names.join(" or ")
            )
        }
    })
}

fn positive(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(number @ 1..) => Ok(number),
        _ => Err(format!("write a number from 1 to {}", u32::MAX)),
    }
}

/// A time that is neither shorter nor longer than these.
fn within(text: &str, (shortest, longest): (Duration, Duration)) -> Result<Duration, String> {
    let time = value::duration(text)?;
    match (shortest..=longest).contains(&time) {
        true => Ok(time),
        false => Err(format!(
            "write a time from {} to {}",
            value::written(shortest),
            value::written(longest)
        )),
    }
}

#[cfg(test)]
mod tests;
