//! Flags over the file over defaults.

use super::*;
use clap::Parser;
use tidegate_controller::translate::PortRef;
use tidegate_model::{Policy, RedirectMode, RedirectPolicy};

use crate::cli::{Cli, Command, SERVE_EXAMPLES};

fn flags(arguments: &[&str]) -> ServeFlags {
    let line = ["tidegate", "serve"].iter().chain(arguments);
    match Cli::parse_from(line).command {
        Command::Serve(flags) => flags,
        other => panic!("{other:?}"),
    }
}

fn merged(arguments: &[&str], file: &str) -> Result<Settings, SettingsError> {
    Settings::merge(flags(arguments), &File::parse(file).unwrap())
}

#[test]
fn defaults() -> Result<(), SettingsError> {
    let settings = merged(&[], "")?;
    assert_eq!(settings.dataplane.http, [ListenAddress::Port(80)]);
    assert_eq!(settings.dataplane.https, [ListenAddress::Port(443)]);
    assert_eq!(settings.dataplane.access_log, AccessLog::Off);
    let admin = DEFAULT_ADMIN.parse().unwrap();
    assert_eq!(settings.admin, Some(ListenAddress::Socket(admin)));
    assert_eq!(settings.drain, DEFAULT_DRAIN);
    assert_eq!(settings.instance.as_str(), "tidegate");
    assert_eq!(settings.steering, SteeringMode::LeastLoaded);
    assert_eq!(settings.after_hand_over, AfterHandOver::usual());
    assert_eq!(settings.guard, None);
    assert_eq!(settings.log, LogSettings::default());
    assert_eq!(settings.translation.ingress_class, None);
    assert_eq!(settings.translation.policy, Policy::default());
    Ok(())
}

#[test]
fn flags_win_over_the_file_key_by_key() -> Result<(), SettingsError> {
    let settings = merged(
        &[
            "--http",
            "8080",
            "--ingress-class",
            "a",
            "--drain-timeout",
            "5",
            "--instance",
            "edge-1",
            "--steering",
            "cpu",
        ],
        "instance: edge-2\nsteering: kernel\nafterHandOver: wait\nhttp: 80\nhttps: off\ningressClass: [b]\ntimeouts: {drain: 1m, idle: 2m}\naccessLog: json\n",
    )?;
    assert_eq!(settings.dataplane.http, [ListenAddress::Port(8080)]);
    assert_eq!(settings.dataplane.https, []);
    assert_eq!(settings.dataplane.access_log, AccessLog::Json);
    assert_eq!(settings.drain, Duration::from_secs(5));
    assert_eq!(
        settings.translation.policy.timeouts.idle,
        Duration::from_secs(120)
    );
    assert_eq!(settings.instance.as_str(), "edge-1");
    assert_eq!(settings.steering, SteeringMode::Cpu);
    assert_eq!(settings.after_hand_over, AfterHandOver::Wait);
    let class = settings.translation.ingress_class.unwrap_or_default();
    assert_eq!(class.into_iter().collect::<Vec<_>>(), ["a"]);
    Ok(())
}

#[test]
fn every_key_of_the_file_arrives() -> Result<(), SettingsError> {
    let settings = merged(
        &[],
        "
instance: edge-3
steering: kernel
afterHandOver: exit
guard: {listeners: [{port: 8443, synRate: 50}]}
http: [80, '127.0.0.1:8000']
https: '[::1]:8443'
admin: off
workers: 3
maxConnections: 1000
manifests: [a, b]
ingressClass: internal
watchIngressWithoutClass: true
selector: tier in (edge, core)
namespaces: [shop]
defaultBackend: {namespace: ingress, name: not-found, port: http}
defaultCertificate: ingress/default-tls
sslRedirect: {mode: all, status: 301, port: 8443}
trustedProxies: [10.0.0.0/8, '::1']
timeouts: {handshake: 1s, requestHead: 2s, idle: 3s, connect: 4s, responseHead: 5s, upstreamIdle: 6s, drain: 7s}
accessLog: off
log: {level: 'warn,tidegate=debug', format: json}
resolver: {servers: [10.96.0.10, '127.0.0.1:5353']}
",
    )?;
    assert_eq!(settings.dataplane.http.len(), 2);
    assert_eq!(settings.instance.as_str(), "edge-3");
    assert_eq!(settings.steering, SteeringMode::Kernel);
    assert_eq!(settings.after_hand_over, AfterHandOver::Exit);
    let guard = settings.guard.unwrap();
    assert_eq!(guard.listeners[0].address.to_string(), "[::1]:8443");
    assert_eq!(settings.admin, None);
    assert_eq!(settings.dataplane.workers.get(), 3);
    assert_eq!(settings.dataplane.max_connections.get(), 1000);
    assert_eq!(settings.manifests.len(), 2);
    assert!(settings.translation.watch_ingress_without_class);
    assert!(settings.translation.namespaces.contains("shop"));
    let backend = settings.translation.default_backend.unwrap();
    assert_eq!(backend.service.to_string(), "ingress/not-found");
    assert_eq!(backend.port, PortRef::Name("http".to_owned()));
    let certificate = settings.translation.default_certificate.unwrap();
    assert_eq!(certificate.to_string(), "ingress/default-tls");
    let policy = settings.translation.policy;
    assert_eq!(
        policy.redirect,
        RedirectPolicy {
            mode: RedirectMode::All,
            status: 301,
            port: 8443
        }
    );
    assert_eq!(policy.trusted_proxies.len(), 2);
    let seconds = [
        policy.timeouts.handshake,
        policy.timeouts.request_head,
        policy.timeouts.idle,
        policy.timeouts.connect,
        policy.timeouts.response_head,
        policy.timeouts.upstream_idle,
        settings.drain,
    ];
    assert_eq!(seconds.map(|time| time.as_secs()), [1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(settings.log.level, "warn,tidegate=debug");
    assert_eq!(settings.log.format, LogFormat::Json);
    assert_eq!(settings.resolver.servers.len(), 2);
    Ok(())
}

#[test]
fn the_file_that_the_help_shows_is_taken() -> Result<(), SettingsError> {
    let (_, rest) = SERVE_EXAMPLES.split_once("log and resolver:\n").unwrap();
    let (file, _) = rest.split_once("\n\n").unwrap();
    let settings = merged(&[], file)?;
    let guard = settings.guard.unwrap();
    assert_eq!(guard.listeners[0].rules.len(), 2);
    assert_eq!(guard.listeners[0].syn.unwrap().burst.get(), 100);
    Ok(())
}

#[test]
fn an_error_names_key_value_and_remedy() {
    let wrong = [
        (
            "timeouts: {idle: 10 parsecs}",
            ["timeouts.idle", "10 parsecs", "10s"],
        ),
        ("http: 80000", ["http", "80000", "PORT"]),
        ("workers: 0", ["workers", "\"0\"", "at least 1"]),
        (
            "sslRedirect: {status: 200}",
            ["sslRedirect.status", "200", "308"],
        ),
        (
            "sslRedirect: {mode: some}",
            ["sslRedirect.mode", "some", "tls-hosts"],
        ),
        (
            "trustedProxies: [10.0.0.0/40]",
            ["trustedProxies", "10.0.0.0/40", "10.0.0.0/8"],
        ),
        ("instance: Edge", ["instance", "Edge", "a-z"]),
        ("steering: fair", ["steering", "fair", "least-loaded"]),
        ("afterHandOver: stop", ["afterHandOver", "stop", "wait"]),
        (
            "guard: {listeners: [{port: 444, synRate: 1}]}",
            ["guard.listeners[0].port", "444", "443"],
        ),
        ("accessLog: xml", ["accessLog", "xml", "json"]),
        (
            "defaultCertificate: tls",
            ["defaultCertificate", "\"tls\"", "NAMESPACE/NAME"],
        ),
        (
            "defaultBackend: {namespace: a, name: b, port: 0}",
            ["defaultBackend.port", "\"0\"", "65535"],
        ),
        (
            "resolver: {servers: [dns]}",
            ["resolver.servers", "dns", "10.96.0.10"],
        ),
        (
            "watchIngressWithoutClass: sometimes",
            ["watchIngressWithoutClass", "sometimes", "true or false"],
        ),
        (
            "log: {level: 'a=b=c'}",
            ["log.level", "a=b=c", "module=level"],
        ),
        ("selector: 'a in'", ["selector", "a in", "in"]),
    ];
    for (file, parts) in wrong {
        let error = merged(&[], file).err().map(|error| error.to_string());
        let error = error.unwrap_or_else(|| panic!("{file} was taken"));
        for part in parts {
            assert!(error.contains(part), "{file}: {error}");
        }
    }
}

#[test]
fn off_beside_an_address_is_refused() {
    let error = merged(&["--http", "off", "--http", "80"], "").unwrap_err();
    assert!(error.to_string().starts_with("http: off"), "{error}");
}

#[test]
fn two_listeners_on_one_address_are_refused() -> Result<(), SettingsError> {
    let collisions = [
        ["--http", "8080", "--https", "8080"],
        ["--http", "127.0.0.1:8080", "--https", "8080"],
        ["--http", "127.0.0.1:8080", "--admin", "127.0.0.1:8080"],
    ];
    for line in collisions {
        let error = each_address_once(&merged(&line, "")?).unwrap_err();
        assert!(error.to_string().contains("8080"), "{error}");
    }
    each_address_once(&merged(
        &["--http", "127.0.0.1:0", "--https", "127.0.0.1:0"],
        "",
    )?)?;
    each_address_once(&merged(
        &["--http", "127.0.0.1:80", "--https", "[::1]:80"],
        "",
    )?)
}
