//! Which objects are served, and how.

use std::collections::BTreeSet;
use std::time::Duration;

use tidegate_controller::translate;
use tidegate_model::{Policy, RedirectPolicy, Timeouts};

use super::certificates::Certificates;
use super::file::{self, BackendParts, DefaultBackend, File, Scalar};
use super::key::{self, Key};
use super::merge::{Layers, parse};
use super::{SettingsError, value};
use crate::cli::ClassFlags;

/// How objects are translated.
pub(super) fn translation(
    flags: &ClassFlags,
    file: &File,
    certificates: &Certificates,
    layers: &mut Layers<'_>,
) -> Result<translate::Settings, SettingsError> {
    let ingress_class = layers.optional_list(
        key::INGRESS_CLASS,
        &flags.ingress_class,
        file.ingress_class.as_ref(),
        value::text,
    )?;
    let without_class = layers.one(
        key::WATCH_INGRESS_WITHOUT_CLASS,
        flags.watch_ingress_without_class,
        file.watch_ingress_without_class.as_ref(),
        "false",
        value::boolean,
    )?;
    let namespaces = layers.list(
        key::NAMESPACES,
        &flags.namespaces,
        file.namespaces.as_ref(),
        &[],
        value::text,
    )?;
    let namespace_selector = layers.optional(
        key::NAMESPACE_SELECTOR,
        flags.namespace_selector.clone(),
        file.namespace_selector.as_ref(),
        value::selector,
    )?;
    let selector = layers.optional(
        key::SELECTOR,
        flags.selector.clone(),
        file.selector.as_ref(),
        value::selector,
    )?;
    Ok(translate::Settings {
        ingress_class: ingress_class.map(BTreeSet::from_iter),
        watch_ingress_without_class: without_class,
        namespaces: namespaces.into_iter().collect(),
        selector: selector.unwrap_or_default(),
        default_backend: default_backend(flags, file, layers)?,
        default_certificate: layers.optional(
            key::DEFAULT_CERTIFICATE,
            flags.default_certificate.clone(),
            file.default_certificate.as_ref(),
            value::namespaced_name,
        )?,
        policy: policy(file, certificates, layers)?,
        namespace_selector: namespace_selector.unwrap_or_default(),
        own_namespace: None,
        certificates: certificates.defaults.clone(),
        instance_label: String::new(),
    })
}

fn default_backend(
    flags: &ClassFlags,
    file: &File,
    layers: &mut Layers<'_>,
) -> Result<Option<translate::ServicePort>, SettingsError> {
    let written = match &file.default_backend {
        None => None,
        Some(DefaultBackend::Text(text)) => Some(text.clone()),
        Some(DefaultBackend::Parts(parts)) => Some(Scalar(service_port(parts)?.to_string())),
    };
    layers.optional(
        key::DEFAULT_BACKEND,
        flags.default_backend.clone(),
        written.as_ref(),
        value::service_port,
    )
}

fn service_port(written: &BackendParts) -> Result<translate::ServicePort, SettingsError> {
    let namespace = parse("defaultBackend.namespace", &written.namespace, value::text)?;
    let name = parse("defaultBackend.name", &written.name, value::text)?;
    Ok(translate::ServicePort {
        service: tidegate_model::NamespacedName::new(namespace, name),
        port: parse("defaultBackend.port", &written.port, value::port_ref)?,
    })
}

fn policy(
    file: &File,
    certificates: &Certificates,
    layers: &mut Layers<'_>,
) -> Result<Policy, SettingsError> {
    Ok(Policy {
        redirect: redirect(&file.ssl_redirect, layers)?,
        trusted_proxies: layers.list(
            key::TRUSTED_PROXIES,
            &[],
            file.trusted_proxies.as_ref(),
            &[],
            value::network,
        )?,
        timeouts: timeouts(&file.timeouts, layers)?,
        tls: certificates.tls.clone(),
        on_demand: certificates.on_demand.clone(),
    })
}

fn redirect(
    file: &file::SslRedirect,
    layers: &mut Layers<'_>,
) -> Result<RedirectPolicy, SettingsError> {
    let (mode, status, port) = (file.mode.as_ref(), file.status.as_ref(), file.port.as_ref());
    let default = RedirectPolicy::default();
    let (usual_status, usual_port) = (default.status.to_string(), default.port.to_string());
    Ok(RedirectPolicy {
        mode: layers.one(
            key::REDIRECT_MODE,
            None,
            mode,
            "tls-hosts",
            value::redirect_mode,
        )?,
        status: layers.one(
            key::REDIRECT_STATUS,
            None,
            status,
            usual_status,
            value::redirect_status,
        )?,
        port: layers.one(key::REDIRECT_PORT, None, port, usual_port, value::port)?,
    })
}

fn timeouts(file: &file::Timeouts, layers: &mut Layers<'_>) -> Result<Timeouts, SettingsError> {
    let usual = Timeouts::default();
    let mut time = |key: Key, file: &Option<Scalar>, usual: Duration| {
        layers.one(
            key,
            None,
            file.as_ref(),
            value::written(usual),
            value::duration,
        )
    };
    Ok(Timeouts {
        handshake: time(key::HANDSHAKE_TIMEOUT, &file.handshake, usual.handshake)?,
        request_head: time(
            key::REQUEST_HEAD_TIMEOUT,
            &file.request_head,
            usual.request_head,
        )?,
        idle: time(key::IDLE_TIMEOUT, &file.idle, usual.idle)?,
        connect: time(key::CONNECT_TIMEOUT, &file.connect, usual.connect)?,
        response_head: time(
            key::RESPONSE_HEAD_TIMEOUT,
            &file.response_head,
            usual.response_head,
        )?,
        upstream_idle: time(
            key::UPSTREAM_IDLE_TIMEOUT,
            &file.upstream_idle,
            usual.upstream_idle,
        )?,
    })
}
