//! The flags of `tidegate serve`, and those of its flags that other commands have, too.

use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, ValueEnum};
use tidegate_controller::inventory::PublishedAddress;
use tidegate_controller::translate::{Hosts, Issue, Selector, ServicePort};
use tidegate_dataplane::{AcceptMode, AccessLog};
use tidegate_model::{NamespacedName, TlsVersion};

use super::Given;
use crate::settings::{
    self, AfterHandOver, Directory, InstanceName, Listen, LogFormat, NodeAddresses, SteeringMode,
};

pub(crate) const SERVE_EXAMPLES: &str = "\
ADDR is PORT (every address, IPv4 and IPv6), IP:PORT such as 127.0.0.1:8080 or [::1]:8080, or off.

Objects come from the API server of the cluster that it runs in, or that --kubeconfig or --context names; or, with \
--manifests, from folders and files and from no cluster.

Examples:
  tidegate serve --manifests manifests/ --http 8080 --https 8443
  tidegate serve --kubeconfig ~/.kube/config --context edge --publish-address 203.0.113.7
  tidegate serve --manifests a/ --manifests b.yaml --http 80 --http 127.0.0.1:8000 --https off
  tidegate serve --config /etc/tidegate/settings.yaml --access-log json
  tidegate serve --instance edge-2 --manifests manifests/ --http 8081 --https 8444 --admin 9091
  tidegate serve --instance internal --ingress-class internal --bind-address 10.0.0.7 --admin 9091
  tidegate serve --config /etc/tidegate/settings.yaml --print-config

Flags go before variables, variables before the settings file. The file is followed while Tidegate serves, and so is the \
ConfigMap of --config-map, which stands in its place once it is there: what can change takes effect without touching a \
connection, and what needs a restart is named in the log. It has the keys instance, manifests, kubeconfig, context, configMap, \
dataDir, dataKeyFile, bindAddress, http, https, admin, probeSocket, workers, maxConnections, accept, steering, afterHandOver, \
ingressClass, watchIngressWithoutClass, namespaces, namespaceSelector, selector, defaultBackend, defaultCertificate, \
publishAddress, publishService, publishNodeAddresses, sslRedirect, trustedProxies, timeouts, resolver, guard, acme, issuers, \
certificates, tls, accessLog and log:
  http: [80, \"127.0.0.1:8000\"]
  https: 443
  manifests: /etc/tidegate/manifests
  ingressClass: [internal, tidegate]
  sslRedirect: { mode: tls-hosts, status: 308, port: 443 }
  trustedProxies: [10.0.0.0/8]
  timeouts: { requestHead: 10s, idle: 75s, responseHead: 1m, drain: 30s }
  guard:                        # off without this key
    interfaces: [eth0]          # else those with a default route
    mode: auto                  # auto (native, else generic), native or generic
    listeners:                  # by a port of http or https, or by address: \"203.0.113.7:443\"
      - port: 443
        synRate: 50             # SYNs a second from one source address; synBurst: 100 at once
        deny: [192.0.2.0/24]    # the longest prefix of deny and allow wins
        allow: [192.0.2.7/32]
        default: allow          # sources that no prefix names: allow or deny
  issuers:                      # the first is the one that is meant where none is named
    - name: letsencrypt
      directory: letsencrypt    # or letsencrypt-staging, or a URL
      contact: admin@example.com
      challenge: http-01        # or tls-alpn-01, or dns-01 with `dns:`
  certificates:
    issue: acme                 # for Ingresses that do not say themselves; else none
    hosts: tls                  # or rules: the hosts of every rule, too
    names: [{ names: [example.com, www.example.com] }]
  tls: { minVersion: \"1.2\" }

Hand-over: a serve takes over from a running one with the same --instance and listeners: new connections go to it as soon \
as it is ready, and the old process finishes what it has open. Two that serve side by side need names of their own.

Signals: SIGTERM and SIGINT make /readyz fail at once, stop accepting and finish what is in flight within the drain \
timeout; a second one ends the process at once with exit code 1.";

/// What `tidegate serve` is told.
#[derive(Clone, Debug, Args)]
pub(crate) struct ServeFlags {
    /// Which Tidegate of this machine it is; it takes over from a running one of the same name [default: tidegate]
    #[arg(long, value_name = "NAME", env = "TIDEGATE_INSTANCE")]
    pub(crate) instance: Option<InstanceName>,

    /// Folder or file with manifests, followed; repeat it for several. No cluster is asked then
    #[arg(
        long,
        value_name = "PATH",
        env = "TIDEGATE_MANIFESTS",
        value_delimiter = ','
    )]
    pub(crate) manifests: Vec<PathBuf>,

    /// Print the settings in effect, and where each is from, as a settings file, and end
    #[arg(long)]
    pub(crate) print_config: bool,

    /// Where the last good configuration is kept, in a file named after the instance [default: /var/lib/tidegate with a
    /// cluster, nowhere with --manifests]
    #[arg(long, value_name = "DIR", env = "TIDEGATE_DATA_DIR")]
    pub(crate) data_dir: Option<PathBuf>,

    /// File with the key that encrypts the private keys in there; TIDEGATE_DATA_KEY can have the key itself [default: they
    /// are readable by root only, and not encrypted]
    #[arg(long, value_name = "FILE", env = "TIDEGATE_DATA_KEY_FILE")]
    pub(crate) data_key_file: Option<PathBuf>,

    /// Listen here when --http or --https is a port alone; repeat it for several [default: every address, IPv4 and IPv6]
    #[arg(
        long,
        value_name = "IP",
        env = "TIDEGATE_BIND_ADDRESS",
        value_delimiter = ','
    )]
    pub(crate) bind_address: Vec<IpAddr>,

    /// Listen for HTTP here; repeat it for several [default: 80]
    #[arg(
        long,
        value_name = "ADDR",
        env = "TIDEGATE_HTTP",
        value_delimiter = ','
    )]
    pub(crate) http: Vec<Listen>,

    /// Listen for HTTPS here; repeat it for several, or `off` [default: 443]
    #[arg(
        long,
        value_name = "ADDR",
        env = "TIDEGATE_HTTPS",
        value_delimiter = ','
    )]
    pub(crate) https: Vec<Listen>,

    /// Admin pages: /livez, /readyz, /metrics, /snapshot, /problems; without authentication, so keep them on loopback
    /// or a private network [default: 127.0.0.1:9090]
    #[arg(long, value_name = "ADDR", env = "TIDEGATE_ADMIN")]
    pub(crate) admin: Option<Listen>,

    /// Answer `tidegate probe` on a Unix socket here; a socket that a dead process left is replaced [default: nowhere]
    #[arg(long, value_name = "PATH", env = "TIDEGATE_PROBE_SOCKET")]
    pub(crate) probe_socket: Option<PathBuf>,

    /// Worker threads [default: one for each core]
    #[arg(long, value_name = "N", env = "TIDEGATE_WORKERS")]
    pub(crate) workers: Option<NonZeroUsize>,

    /// Connections of clients held at once, over all workers; more wait in the listen queue [default: 65536, or fewer
    /// when the limit of open files (`ulimit -Hn`) is low]
    #[arg(long, value_name = "N", env = "TIDEGATE_MAX_CONNECTIONS")]
    pub(crate) max_connections: Option<NonZeroUsize>,

    /// When a new connection is taken from the kernel: with the client's first bytes, at most a second later, or at once
    /// [default: on-data]
    #[arg(long, value_name = "WHEN", env = "TIDEGATE_ACCEPT")]
    pub(crate) accept: Option<AcceptFlag>,

    /// What decides which worker gets a new connection; where its eBPF program cannot run, the kernel does
    /// [default: least-loaded]
    #[arg(long, value_name = "MODE", env = "TIDEGATE_STEERING")]
    pub(crate) steering: Option<SteeringMode>,

    /// What a process does when another one has taken over from it and nothing is open any more [default: wait in a pod
    /// (when KUBERNETES_SERVICE_HOST is set), else exit]
    #[arg(long, value_name = "WHAT", env = "TIDEGATE_AFTER_HAND_OVER")]
    pub(crate) after_hand_over: Option<AfterHandOver>,

    /// Settings file (YAML)
    #[arg(long, value_name = "FILE", env = "TIDEGATE_CONFIG")]
    pub(crate) config: Option<PathBuf>,

    /// Log of requests, on standard output [default: off]
    #[arg(long, value_name = "FORMAT", env = "TIDEGATE_ACCESS_LOG")]
    pub(crate) access_log: Option<AccessLogFlag>,

    /// What is logged on standard error: a level (error, warn, info, debug, trace) or `module=level`, separated by
    /// commas [default: info]
    #[arg(long, value_name = "FILTER", env = "TIDEGATE_LOG_LEVEL", value_parser = crate::logging::filter)]
    pub(crate) log_level: Option<String>,

    /// How it is logged [default: text]
    #[arg(long, value_name = "FORMAT", env = "TIDEGATE_LOG_FORMAT")]
    pub(crate) log_format: Option<LogFormatFlag>,

    /// Time for connections to end by themselves after SIGTERM; what is left is cut [default: 30]
    #[arg(long, value_name = "SECONDS", env = "TIDEGATE_DRAIN_TIMEOUT", value_parser = settings::seconds)]
    pub(crate) drain_timeout: Option<Duration>,

    #[command(flatten)]
    pub(crate) cluster: ClusterFlags,

    #[command(flatten)]
    pub(crate) class: ClassFlags,

    #[command(flatten)]
    pub(crate) certificates: CertificateFlags,

    /// What was written of all these, and where.
    #[arg(skip)]
    pub(crate) given: Given,
}

/// Which cluster is served, and what is told to it.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Cluster")]
pub(crate) struct ClusterFlags {
    /// How to reach the API server [default: as a pod of the cluster]
    #[arg(long, value_name = "FILE", env = "TIDEGATE_KUBECONFIG")]
    pub(crate) kubeconfig: Option<PathBuf>,

    /// Context of the kubeconfig [default: its current one]
    #[arg(long, value_name = "NAME", env = "TIDEGATE_CONTEXT", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) context: Option<String>,

    /// ConfigMap whose key settings.yaml is a settings file; it stands in the place of --config while it is there
    #[arg(long, value_name = "NAMESPACE/NAME", env = "TIDEGATE_CONFIG_MAP", value_parser = settings::namespaced_name)]
    pub(crate) config_map: Option<NamespacedName>,

    /// Address that the status of Ingresses shows; repeat it for several [default: those of the nodes that are ready]
    #[arg(long, value_name = "IP|HOSTNAME", env = "TIDEGATE_PUBLISH_ADDRESS", value_delimiter = ',', value_parser = settings::published_address)]
    pub(crate) publish_address: Vec<PublishedAddress>,

    /// Service whose addresses the status of Ingresses shows, such as that of MetalLB or kube-vip
    #[arg(long, value_name = "NAMESPACE/NAME", env = "TIDEGATE_PUBLISH_SERVICE", value_parser = settings::namespaced_name)]
    pub(crate) publish_service: Option<NamespacedName>,

    /// Which addresses of the nodes it shows: internal or external [default: internal]
    #[arg(long, value_name = "WHICH", env = "TIDEGATE_PUBLISH_NODE_ADDRESSES", value_parser = settings::node_addresses)]
    pub(crate) publish_node_addresses: Option<NodeAddresses>,
}

/// Which objects are served.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Which Ingresses are served")]
pub(crate) struct ClassFlags {
    /// Serve Ingresses of this class; repeat it for several [default: tidegate, and every IngressClass with controller
    /// tidegate.dev/ingress-controller]
    #[arg(long, value_name = "NAME", env = "TIDEGATE_INGRESS_CLASS", value_delimiter = ',', value_parser = NonEmptyStringValueParser::new())]
    pub(crate) ingress_class: Vec<String>,

    /// Serve Ingresses that name no class, too [default: false]
    #[arg(
        long,
        value_name = "BOOL",
        env = "TIDEGATE_WATCH_INGRESS_WITHOUT_CLASS",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub(crate) watch_ingress_without_class: Option<bool>,

    /// Serve Ingresses of these namespaces only; separate several by commas [default: all]
    #[arg(long, value_name = "NAME", env = "TIDEGATE_NAMESPACES", value_delimiter = ',', value_parser = NonEmptyStringValueParser::new())]
    pub(crate) namespaces: Vec<String>,

    /// Serve Ingresses of namespaces with these labels only, written as for `kubectl get -l` [default: all]
    #[arg(long, value_name = "LABELS", env = "TIDEGATE_NAMESPACE_SELECTOR", value_parser = settings::selector)]
    pub(crate) namespace_selector: Option<Selector>,

    /// Serve Ingresses with these labels only, written as for `kubectl get -l`: `tier=edge,team in (shop, pay),!test`
    /// [default: all]
    #[arg(long, value_name = "LABELS", env = "TIDEGATE_SELECTOR", value_parser = settings::selector)]
    pub(crate) selector: Option<Selector>,

    /// Answers what no Ingress does [default: a 404]
    #[arg(long, value_name = "NAMESPACE/NAME:PORT", env = "TIDEGATE_DEFAULT_BACKEND", value_parser = settings::service_port)]
    pub(crate) default_backend: Option<ServicePort>,

    /// Secret with the certificate for clients that no other is for [default: a self-signed one, made at start]
    #[arg(long, value_name = "NAMESPACE/NAME", env = "TIDEGATE_DEFAULT_CERTIFICATE", value_parser = settings::namespaced_name)]
    pub(crate) default_certificate: Option<NamespacedName>,
}

/// Which certificates are ordered, and what TLS goes by.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Certificates")]
pub(crate) struct CertificateFlags {
    /// Where certificates are ordered: letsencrypt, letsencrypt-staging, or the URL of an ACME directory. Makes an issuer
    /// called default; `issuers:` of the settings file has all that an issuer can be told
    #[arg(long, value_name = "DIRECTORY", env = "TIDEGATE_ACME_DIRECTORY", value_parser = settings::directory)]
    pub(crate) acme_directory: Option<Directory>,

    /// Mail address that the CA writes to; with Let's Encrypt where --acme-directory names nobody else
    #[arg(long, value_name = "ADDRESS", env = "TIDEGATE_ACME_EMAIL", value_parser = settings::contact)]
    pub(crate) acme_email: Option<String>,

    /// Whether certificates are ordered for Ingresses when neither they nor their class say: acme or none [default: none]
    #[arg(long, value_name = "WHETHER", env = "TIDEGATE_CERTIFICATES", value_parser = settings::certificates)]
    pub(crate) certificates: Option<Issue>,

    /// For which of their hosts: tls (those under spec.tls) or rules (the hosts of every rule, too) [default: tls]
    #[arg(long, value_name = "WHICH", env = "TIDEGATE_CERTIFICATE_HOSTS", value_parser = settings::certificate_hosts)]
    pub(crate) certificate_hosts: Option<Hosts>,

    /// The oldest TLS that clients may speak: 1.2 or 1.3 [default: 1.2]
    #[arg(long, value_name = "VERSION", env = "TIDEGATE_TLS_MIN_VERSION", value_parser = settings::min_version)]
    pub(crate) tls_min_version: Option<TlsVersion>,
}

/// When a new connection is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum AcceptFlag {
    /// With the client's first bytes
    OnData,
    /// As soon as it is connected
    OnConnect,
}

impl From<AcceptFlag> for AcceptMode {
    fn from(flag: AcceptFlag) -> Self {
        match flag {
            AcceptFlag::OnData => Self::OnData,
            AcceptFlag::OnConnect => Self::OnConnect,
        }
    }
}

/// The access log, as a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum AccessLogFlag {
    /// A JSON object a line
    Json,
    /// Nothing
    Off,
}

impl From<AccessLogFlag> for AccessLog {
    fn from(flag: AccessLogFlag) -> Self {
        match flag {
            AccessLogFlag::Json => Self::Json,
            AccessLogFlag::Off => Self::Off,
        }
    }
}

/// The format of logs, as a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormatFlag {
    /// For people
    Text,
    /// A JSON object a line
    Json,
}

impl From<LogFormatFlag> for LogFormat {
    fn from(flag: LogFormatFlag) -> Self {
        match flag {
            LogFormatFlag::Text => Self::Text,
            LogFormatFlag::Json => Self::Json,
        }
    }
}
