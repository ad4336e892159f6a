//! The keys of the settings, each once: its name in the file, its flag, and whether it can change while Tidegate serves.

/// One setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    /// As the file has it, with the key that it stands under: `timeouts.idle`.
    pub(crate) name: &'static str,
    /// The id of its flag.
    pub(super) argument: Option<&'static str>,
    /// When a new value is in force.
    pub(super) change: Effect,
}

/// When a new value of a setting is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// At once, in this part of the instance.
    Live(Part),
    /// When the process is started again.
    AfterRestart,
}

/// Who follows a setting while it serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Translation,
    Publish,
    Resolver,
    Drain,
    Log,
    Certificates,
}

impl Key {
    const fn live(part: Part, name: &'static str) -> Self {
        Self {
            name,
            argument: None,
            change: Effect::Live(part),
        }
    }

    const fn fixed(name: &'static str) -> Self {
        Self {
            name,
            argument: None,
            change: Effect::AfterRestart,
        }
    }

    const fn flag(self, argument: &'static str) -> Self {
        Self {
            argument: Some(argument),
            ..self
        }
    }

    /// A value as people write it: a YAML reader takes `off` for a boolean.
    pub(super) fn spelled(self, text: &str) -> String {
        let is_switch = [HTTP, HTTPS, ADMIN, ACCESS_LOG].contains(&self);
        match text {
            "false" if is_switch => "off".to_owned(),
            _ => text.to_owned(),
        }
    }
}

macro_rules! keys {
    ($($constant:ident = $key:expr;)*) => {
        $(pub(super) const $constant: Key = $key;)*

        /// Every key, in the order in which they are printed.
        pub(super) const ALL: &[Key] = &[$($constant),*];
    };
}

use Part::{Certificates, Drain, Log, Publish, Resolver, Translation};

keys! {
    INSTANCE = Key::fixed("instance").flag("instance");
    MANIFESTS = Key::fixed("manifests").flag("manifests");
    KUBECONFIG = Key::fixed("kubeconfig").flag("kubeconfig");
    CONTEXT = Key::fixed("context").flag("context");
    CONFIG_MAP = Key::fixed("configMap").flag("config_map");
    DATA_DIR = Key::fixed("dataDir").flag("data_dir");
    DATA_KEY_FILE = Key::fixed("dataKeyFile").flag("data_key_file");
    BIND_ADDRESS = Key::fixed("bindAddress").flag("bind_address");
    HTTP = Key::fixed("http").flag("http");
    HTTPS = Key::fixed("https").flag("https");
    ADMIN = Key::fixed("admin").flag("admin");
    PROBE_SOCKET = Key::fixed("probeSocket").flag("probe_socket");
    WORKERS = Key::fixed("workers").flag("workers");
    MAX_CONNECTIONS = Key::fixed("maxConnections").flag("max_connections");
    ACCEPT = Key::fixed("accept").flag("accept");
    STEERING = Key::fixed("steering").flag("steering");
    AFTER_HAND_OVER = Key::fixed("afterHandOver").flag("after_hand_over");
    INGRESS_CLASS = Key::live(Translation, "ingressClass").flag("ingress_class");
    WATCH_INGRESS_WITHOUT_CLASS =
        Key::live(Translation, "watchIngressWithoutClass").flag("watch_ingress_without_class");
    NAMESPACES = Key::live(Translation, "namespaces").flag("namespaces");
    NAMESPACE_SELECTOR = Key::live(Translation, "namespaceSelector").flag("namespace_selector");
    SELECTOR = Key::live(Translation, "selector").flag("selector");
    DEFAULT_BACKEND = Key::live(Translation, "defaultBackend").flag("default_backend");
    DEFAULT_CERTIFICATE = Key::live(Translation, "defaultCertificate").flag("default_certificate");
    PUBLISH_ADDRESS = Key::live(Publish, "publishAddress").flag("publish_address");
    PUBLISH_SERVICE = Key::fixed("publishService").flag("publish_service");
    PUBLISH_NODE_ADDRESSES =
        Key::live(Publish, "publishNodeAddresses").flag("publish_node_addresses");
    REDIRECT_MODE = Key::live(Translation, "sslRedirect.mode");
    REDIRECT_STATUS = Key::live(Translation, "sslRedirect.status");
    REDIRECT_PORT = Key::live(Translation, "sslRedirect.port");
    TRUSTED_PROXIES = Key::live(Translation, "trustedProxies");
    HANDSHAKE_TIMEOUT = Key::live(Translation, "timeouts.handshake");
    REQUEST_HEAD_TIMEOUT = Key::live(Translation, "timeouts.requestHead");
    IDLE_TIMEOUT = Key::live(Translation, "timeouts.idle");
    CONNECT_TIMEOUT = Key::live(Translation, "timeouts.connect");
    RESPONSE_HEAD_TIMEOUT = Key::live(Translation, "timeouts.responseHead");
    UPSTREAM_IDLE_TIMEOUT = Key::live(Translation, "timeouts.upstreamIdle");
    DRAIN_TIMEOUT = Key::live(Drain, "timeouts.drain").flag("drain_timeout");
    RESOLVER_SERVERS = Key::live(Resolver, "resolver.servers");
    GUARD = Key::fixed("guard");
    ACME_DIRECTORY = Key::live(Certificates, "acme.directory").flag("acme_directory");
    ACME_EMAIL = Key::live(Certificates, "acme.email").flag("acme_email");
    ISSUERS = Key::live(Certificates, "issuers");
    CERTIFICATES_ISSUE = Key::live(Certificates, "certificates.issue").flag("certificates");
    CERTIFICATES_HOSTS = Key::live(Certificates, "certificates.hosts").flag("certificate_hosts");
    CERTIFICATES_ISSUER = Key::live(Certificates, "certificates.issuer");
    CERTIFICATES_NAMES = Key::live(Certificates, "certificates.names");
    CERTIFICATES_ON_DEMAND = Key::live(Certificates, "certificates.onDemand");
    CERTIFICATES_GRACE = Key::live(Certificates, "certificates.grace");
    CERTIFICATES_LIMITS = Key::live(Certificates, "certificates.limits");
    TLS_MIN_VERSION = Key::live(Translation, "tls.minVersion").flag("tls_min_version");
    TLS_CIPHER_SUITES = Key::live(Translation, "tls.cipherSuites");
    TLS_TICKET_ROTATION = Key::live(Certificates, "tls.ticketRotation");
    ACCESS_LOG = Key::fixed("accessLog").flag("access_log");
    LOG_LEVEL = Key::live(Log, "log.level").flag("log_level");
    LOG_FORMAT = Key::fixed("log.format").flag("log_format");
}
