//! Which objects are served, and how.

use std::collections::BTreeSet;

use tidegate_controller::translate;
use tidegate_model::{Policy, RedirectPolicy, Timeouts};

use super::file::{self, File, Scalar};
use super::merge::{list, one, parse};
use super::{SettingsError, value};
use crate::cli::ClassFlags;

/// How objects are translated.
pub(super) fn translation(
    flags: ClassFlags,
    file: &File,
) -> Result<translate::Settings, SettingsError> {
    let ingress_class = match flags.ingress_class {
        names if names.is_empty() => file
            .ingress_class
            .as_ref()
            .map(|names| list("ingressClass", Some(names), value::text))
            .transpose()?,
        names => Some(names),
    };
    let namespaces = match flags.namespaces {
        names if names.is_empty() => list("namespaces", file.namespaces.as_ref(), value::text)?,
        names => names,
    };
    let without_class = one(
        "watchIngressWithoutClass",
        flags.watch_ingress_without_class,
        file.watch_ingress_without_class.as_ref(),
        value::boolean,
    )?;
    let from_file = file.default_backend.as_ref().map(default_backend);
    Ok(translate::Settings {
        ingress_class: ingress_class.map(BTreeSet::from_iter),
        watch_ingress_without_class: without_class.unwrap_or_default(),
        namespaces: namespaces.into_iter().collect(),
        selector: one(
            "selector",
            flags.selector,
            file.selector.as_ref(),
            value::selector,
        )?
        .unwrap_or_default(),
        default_backend: flags.default_backend.map(Ok).or(from_file).transpose()?,
        default_certificate: one(
            "defaultCertificate",
            flags.default_certificate,
            file.default_certificate.as_ref(),
            value::namespaced_name,
        )?,
        policy: policy(file)?,
    })
}

fn default_backend(
    written: &file::DefaultBackend,
) -> Result<translate::ServicePort, SettingsError> {
    let namespace = parse("defaultBackend.namespace", &written.namespace, value::text)?;
    let name = parse("defaultBackend.name", &written.name, value::text)?;
    Ok(translate::ServicePort {
        service: tidegate_model::NamespacedName::new(namespace, name),
        port: parse("defaultBackend.port", &written.port, value::port_ref)?,
    })
}

fn policy(file: &File) -> Result<Policy, SettingsError> {
    let redirect = RedirectPolicy::default();
    let written = &file.ssl_redirect;
    let timeouts = Timeouts::default();
    let limit = |key, written: &Option<Scalar>, default| {
        one(key, None, written.as_ref(), value::duration).map(|found| found.unwrap_or(default))
    };
    let times = &file.timeouts;
    Ok(Policy {
        redirect: RedirectPolicy {
            mode: one(
                "sslRedirect.mode",
                None,
                written.mode.as_ref(),
                value::redirect_mode,
            )?
            .unwrap_or(redirect.mode),
            status: one(
                "sslRedirect.status",
                None,
                written.status.as_ref(),
                value::redirect_status,
            )?
            .unwrap_or(redirect.status),
            port: one("sslRedirect.port", None, written.port.as_ref(), value::port)?
                .unwrap_or(redirect.port),
        },
        timeouts: Timeouts {
            handshake: limit("timeouts.handshake", &times.handshake, timeouts.handshake)?,
            request_head: limit(
                "timeouts.requestHead",
                &times.request_head,
                timeouts.request_head,
            )?,
            idle: limit("timeouts.idle", &times.idle, timeouts.idle)?,
            connect: limit("timeouts.connect", &times.connect, timeouts.connect)?,
            response_head: limit(
                "timeouts.responseHead",
                &times.response_head,
                timeouts.response_head,
            )?,
            upstream_idle: limit(
                "timeouts.upstreamIdle",
                &times.upstream_idle,
                timeouts.upstream_idle,
            )?,
        },
        trusted_proxies: list(
            "trustedProxies",
            file.trusted_proxies.as_ref(),
            value::network,
        )?,
    })
}
