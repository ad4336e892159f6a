//! Flags over the file over defaults.

use super::key::Key;
use super::*;
use std::net::SocketAddr;
use tidegate_controller::inventory::PublishedAddress;
use tidegate_controller::translate::PortRef;
use tidegate_model::{Policy, RedirectMode, RedirectPolicy};

use crate::cli::{Cli, Command, SERVE_EXAMPLES};

/// The flags of a serve that is told these, and of manifests when it is told of no source.
pub(super) fn flags(arguments: &[&str]) -> ServeFlags {
    let line = ["tidegate", "serve"].iter().chain(arguments);
    match Cli::read(line).map(|cli| cli.command) {
        Ok(Command::Serve(flags)) => *flags,
        other => panic!("{other:?}"),
    }
}

/// What these say together; from manifests when they name no source.
fn merged(arguments: &[&str], file: &str) -> Result<Settings, SettingsError> {
    let source = ["manifests", "kubeconfig", "context"];
    let names = |text: &str| source.iter().any(|name| text.contains(name));
    let named = names(file) || arguments.iter().any(|argument| names(argument));
    let manifests: &[&str] = if named {
        &[]
    } else {
        &["--manifests", "manifests"]
    };
    told(
        &[arguments, manifests].concat(),
        file,
        &Environment::default(),
    )
}

/// What exactly these say together.
fn told(
    arguments: &[&str],
    file: &str,
    environment: &Environment,
) -> Result<Settings, SettingsError> {
    let place = Place::Path("/etc/settings.yaml".to_owned());
    let file = File::parse_at(file, &place)?;
    Settings::of(&flags(arguments), &file, Some(&place), environment)
}

fn in_cluster() -> Environment {
    Environment {
        is_in_cluster: true,
        ..Environment::default()
    }
}

/// What is printed for a key.
fn line(settings: &Settings, key: Key) -> String {
    let name = key.name.rsplit('.').next().unwrap_or_default();
    let printed = settings.printed();
    let starts = [format!("{name}:"), format!("# {name} ")];
    let mut lines = printed.lines().map(str::trim);
    let found = lines.find(|line| starts.iter().any(|start| line.starts_with(start)));
    found
        .unwrap_or_else(|| panic!("no {name} in\n{printed}"))
        .to_owned()
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
    assert_eq!(
        settings.source,
        Source::Manifests(vec!["a".into(), "b".into()])
    );
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
    let (before, rest) = SERVE_EXAMPLES.split_once("accessLog and log:\n").unwrap();
    let (file, _) = rest.split_once("\n\n").unwrap();
    let (_, named) = before.split_once("has the keys ").unwrap();
    for key in key::ALL {
        let name = key.name.split('.').next().unwrap_or_default();
        let is_last = ["accessLog", "log"].contains(&name);
        let is_named = named.split([',', ' ']).any(|word| word == name);
        assert!(is_last || is_named, "{name} is not in the help");
    }
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
        (
            "namespaceSelector: 'a in'",
            [
                "namespaceSelector",
                "a in",
                "settings file /etc/settings.yaml",
            ],
        ),
        (
            "bindAddress: '10.0.0.7:80'",
            ["bindAddress", "10.0.0.7:80", "without a port"],
        ),
        (
            "publishAddress: a_b",
            ["publishAddress", "a_b", "edge.example.com"],
        ),
        (
            "publishService: lb",
            ["publishService", "lb", "NAMESPACE/NAME"],
        ),
        (
            "publishNodeAddresses: both",
            ["publishNodeAddresses", "both", "internal or external"],
        ),
        (
            "configMap: settings",
            ["configMap", "settings", "NAMESPACE/NAME"],
        ),
        ("context: ''", ["context", "\"\"", "empty"]),
        ("dataDir: ''", ["dataDir", "\"\"", "empty"]),
        ("probeSocket: ''", ["probeSocket", "\"\"", "empty"]),
        (
            "defaultBackend: 'a/b'",
            ["defaultBackend", "a/b", "NAMESPACE/NAME:PORT"],
        ),
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
        let error = merged(&line, "").unwrap_err();
        assert!(error.to_string().contains("8080"), "{error}");
    }
    merged(&["--http", "127.0.0.1:0", "--https", "127.0.0.1:0"], "")?;
    merged(&["--http", "127.0.0.1:80", "--https", "[::1]:80"], "").map(drop)
}

/// Every new key as a flag and in the file: both mean the same, and the flag wins.
#[test]
fn keys_of_a_cluster_as_flags_and_in_the_file() -> Result<(), SettingsError> {
    let flags = [
        "--kubeconfig=/a/config",
        "--context=edge",
        "--config-map=ingress/settings",
        "--data-dir=/data",
        "--data-key-file=/key",
        "--bind-address=10.0.0.7,fd00::7",
        "--probe-socket=/run/probe.sock",
        "--publish-address=203.0.113.7,edge.example.com",
        "--publish-node-addresses=external",
        "--namespace-selector=tenant",
    ];
    let file = "
kubeconfig: /a/config
context: edge
configMap: ingress/settings
dataDir: /data
dataKeyFile: /key
bindAddress: [10.0.0.7, 'fd00::7']
probeSocket: /run/probe.sock
publishAddress: [203.0.113.7, edge.example.com]
publishNodeAddresses: external
namespaceSelector: tenant
";
    let other = "
kubeconfig: /b/config
context: other
configMap: a/b
dataDir: /b
dataKeyFile: /b
bindAddress: 10.9.9.9
probeSocket: /b
publishAddress: 10.9.9.9
publishNodeAddresses: internal
namespaceSelector: other
";
    let by_flags = merged(&flags, "")?;
    let by_file = merged(&[], file)?;
    let by_both = merged(&flags, other)?;
    for settings in [&by_flags, &by_file, &by_both] {
        let expected = ClusterSettings {
            access: Access {
                kubeconfig: Some("/a/config".into()),
                context: Some("edge".to_owned()),
            },
            config_map: Some(tidegate_model::NamespacedName::new("ingress", "settings")),
        };
        assert_eq!(settings.source, Source::Cluster(expected));
        assert_eq!(settings.data.folder.as_deref(), Some("/data".as_ref()));
        assert_eq!(settings.data.key, Some(DataKey::File("/key".into())));
        assert_eq!(
            settings.probe_socket.as_deref(),
            Some("/run/probe.sock".as_ref())
        );
        let address = "203.0.113.7".parse().unwrap();
        let addresses = [
            PublishedAddress::Ip(address),
            PublishedAddress::Hostname("edge.example.com".to_owned()),
        ];
        assert_eq!(settings.publish.addresses, addresses);
        assert_eq!(settings.publish.nodes, NodeAddresses::External);
        let tenants = "tenant".parse().unwrap();
        assert_eq!(settings.translation.namespace_selector, tenants);
        let hosts = |port| -> Vec<ListenAddress> {
            let hosts = [format!("10.0.0.7:{port}"), format!("[fd00::7]:{port}")];
            let addresses = hosts.map(|text| text.parse::<SocketAddr>().unwrap());
            addresses.map(ListenAddress::Socket).to_vec()
        };
        assert_eq!(settings.dataplane.http, hosts(80));
        assert_eq!(settings.dataplane.https, hosts(443));
    }
    for key in [
        key::KUBECONFIG,
        key::CONTEXT,
        key::CONFIG_MAP,
        key::DATA_DIR,
        key::DATA_KEY_FILE,
        key::BIND_ADDRESS,
        key::PROBE_SOCKET,
        key::PUBLISH_ADDRESS,
        key::PUBLISH_NODE_ADDRESSES,
        key::NAMESPACE_SELECTOR,
    ] {
        let flag = format!("from --{}", key.argument.unwrap().replace('_', "-"));
        assert!(
            line(&by_both, key).ends_with(&flag),
            "{}",
            line(&by_both, key)
        );
        let file = line(&by_file, key);
        assert!(file.ends_with("# from /etc/settings.yaml"), "{file}");
    }
    let service = merged(&["--publish-service", "lb/edge"], "publishService: a/b")?;
    let service = service.publish.service.map(|name| name.to_string());
    assert_eq!(service.as_deref(), Some("lb/edge"));
    let service = merged(&[], "publishService: a/b")?.publish.service;
    assert_eq!(service.map(|name| name.to_string()).as_deref(), Some("a/b"));
    Ok(())
}

#[test]
fn an_address_with_a_host_keeps_it() -> Result<(), SettingsError> {
    let settings = merged(
        &[
            "--http",
            "127.0.0.1:80",
            "--http",
            "81",
            "--bind-address",
            "10.0.0.7",
        ],
        "",
    )?;
    let texts: Vec<_> = settings
        .dataplane
        .http
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(texts, ["127.0.0.1:80", "10.0.0.7:81"]);
    let admin = DEFAULT_ADMIN.parse().unwrap();
    assert_eq!(settings.admin, Some(ListenAddress::Socket(admin)));
    Ok(())
}

#[test]
fn where_objects_come_from() {
    let cluster = |kubeconfig: Option<&str>, context: Option<&str>| {
        Source::Cluster(ClusterSettings {
            access: Access {
                kubeconfig: kubeconfig.map(PathBuf::from),
                context: context.map(str::to_owned),
            },
            config_map: None,
        })
    };
    let source = |arguments: &[&str], environment: &Environment| {
        told(arguments, "", environment).map(|settings| settings.source)
    };
    let outside = Environment::default();
    let manifests = Source::Manifests(vec!["m".into()]);
    let cases = [
        (
            &["--manifests", "m"] as &[&str],
            &outside,
            manifests.clone(),
        ),
        (&["--manifests", "m"], &in_cluster(), manifests),
        (&["--kubeconfig", "k"], &outside, cluster(Some("k"), None)),
        (&["--context", "c"], &outside, cluster(None, Some("c"))),
        (&[], &in_cluster(), cluster(None, None)),
    ];
    for (arguments, environment, expected) in cases {
        assert_eq!(
            source(arguments, environment).unwrap(),
            expected,
            "{arguments:?}"
        );
    }
    let error = source(&[], &outside).unwrap_err().to_string();
    for part in ["--manifests", "--kubeconfig", "--context"] {
        assert!(error.contains(part), "{error}");
    }
    let error = told(&["--kubeconfig", "k"], "manifests: m", &outside).unwrap_err();
    let error = error.to_string();
    for part in [
        "manifests (from /etc/settings.yaml)",
        "kubeconfig (from --kubeconfig)",
        "drop",
    ] {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn what_is_kept_over_a_restart() -> Result<(), SettingsError> {
    assert_eq!(merged(&[], "")?.data, DataSettings::default());
    let settings = told(&[], "", &in_cluster())?;
    let folder = settings.data.folder.as_deref();
    assert_eq!(folder, Some("/var/lib/tidegate".as_ref()));
    assert_eq!(
        line(&settings, key::DATA_DIR),
        "dataDir: /var/lib/tidegate  # default"
    );

    let with_key = Environment {
        data_key: Some(DataKey::text("hush".to_owned())),
        ..in_cluster()
    };
    let settings = told(&[], "", &with_key)?;
    assert_eq!(settings.data.key, Some(DataKey::Text("hush".to_owned())));
    for shown in [settings.printed(), format!("{settings:?}")] {
        assert!(!shown.contains("hush"), "{shown}");
    }
    assert!(settings.printed().contains("TIDEGATE_DATA_KEY is set"));
    let error = told(&["--data-key-file", "k"], "", &with_key).unwrap_err();
    let error = error.to_string();
    assert!(
        error.contains("--data-key-file") && error.contains("drop one"),
        "{error}"
    );
    Ok(())
}

#[test]
fn what_is_published_is_one_thing() {
    let both = ["--publish-address", "10.0.0.1", "--publish-service", "a/b"];
    let error = merged(&both, "").unwrap_err().to_string();
    for part in ["publishAddress", "publishService", "drop"] {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn each_key_is_printed_once_with_its_origin() -> Result<(), SettingsError> {
    let file = "http: [80, '127.0.0.1:8000']\ntimeouts: {idle: 2m}\nlog: {level: debug}\n";
    let settings = merged(&["--https", "off", "--manifests", "a b,c"], file)?;
    assert_eq!(
        line(&settings, key::HTTPS),
        "https: [\"off\"]  # from --https"
    );
    assert_eq!(
        line(&settings, key::MANIFESTS),
        "manifests: [\"a b\", c]  # from --manifests"
    );
    assert_eq!(
        line(&settings, key::HTTP),
        "http: [80, \"127.0.0.1:8000\"]  # from /etc/settings.yaml"
    );
    assert_eq!(
        line(&settings, key::IDLE_TIMEOUT),
        "idle: 2m  # from /etc/settings.yaml"
    );
    assert_eq!(line(&settings, key::DRAIN_TIMEOUT), "drain: 30s  # default");
    assert_eq!(line(&settings, key::SELECTOR), "# selector is not set");
    let names: Vec<_> = key::ALL.iter().map(|key| key.name).collect();
    let mut printed: Vec<_> = key::ALL
        .iter()
        .filter_map(|key| settings.effective.entry(*key))
        .map(|entry| entry.key.name)
        .collect();
    printed.dedup();
    assert_eq!(printed, names, "a key is missing or double");
    Ok(())
}

#[test]
fn what_is_printed_says_the_same_as_a_file() -> Result<(), SettingsError> {
    let guard = "
guard:
  interfaces: [eth0]
  listeners:
    - {port: 80, synRate: 50, deny: ['192.0.2.0/24'], allow: ['192.0.2.7/32']}
    - {address: '[::1]:8443', default: deny}
defaultBackend: {namespace: ingress, name: not-found, port: http}
ingressClass: [a, b]
";
    let arguments = [
        "--https=[::1]:8443",
        "--drain-timeout=0",
        "--selector=tier in (a, b),!c",
        "--default-certificate=a/b",
        "--watch-ingress-without-class",
        "--log-level=warn,tidegate=debug",
        "--publish-address=203.0.113.7,fd00::7,edge.example.com",
        "--namespaces=one,two",
    ];
    let cases = [
        merged(&[], "")?,
        merged(&arguments, guard)?,
        told(&["--bind-address=10.0.0.7"], "http: off", &in_cluster())?,
    ];
    for first in cases {
        let environment = match first.source {
            Source::Cluster(_) => in_cluster(),
            Source::Manifests(_) => Environment::default(),
        };
        let printed = first.printed();
        let again = told(&[], &printed, &environment)?;
        // Everything but the origins.
        let without = |mut settings: Settings| {
            settings.effective = Effective::default();
            format!("{settings:#?}")
        };
        assert_eq!(without(again), without(first), "{printed}");
    }
    Ok(())
}
