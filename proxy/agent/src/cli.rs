//! The command line: what can be said, and what `--help` tells about it.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use tidegate_controller::translate::{Selector, ServicePort};
use tidegate_dataplane::{AcceptMode, AccessLog};
use tidegate_model::NamespacedName;

use crate::settings::{self, Listen, LogFormat};

const ABOUT: &str = "\
Tidegate is an ingress controller and reverse proxy for Kubernetes in one binary.

It reads Ingresses, IngressClasses, Services, EndpointSlices and TLS Secrets, and serves HTTP/1.1, HTTP/2 and WebSocket \
on the ports that it binds itself. In this version the objects come from folders of manifests, which are followed: \
an edit takes effect within a moment, and no open connection notices.";

const EXAMPLES: &str = "\
Examples:
  tidegate demo                                   try it: backends, manifests and proxy in one process
  tidegate check manifests/                       what would be served, and what is wrong
  tidegate serve --manifests manifests/           serve on 80 and 443
  tidegate serve --manifests /etc/tidegate --http 8080 --https off --ingress-class internal
  tidegate completions bash > /etc/bash_completion.d/tidegate

Every flag can also be set in the environment, as its help says, and most of them in a settings file. \
Flags win over the environment, the environment over the file.

Exit codes: 0 done, 1 failed (for check: something is not served), 2 wrong command line, settings or paths.";

const SERVE_EXAMPLES: &str = "\
ADDR is PORT (every address, IPv4 and IPv6), IP:PORT such as 127.0.0.1:8080 or [::1]:8080, or off.

Examples:
  tidegate serve --manifests manifests/ --http 8080 --https 8443
  tidegate serve --manifests a/ --manifests b.yaml --http 80 --http 127.0.0.1:8000 --https off
  tidegate serve --config /etc/tidegate/settings.yaml --access-log json

A settings file has the keys http, https, admin, workers, maxConnections, manifests, ingressClass, watchIngressWithoutClass, selector, \
namespaces, defaultBackend, defaultCertificate, sslRedirect, trustedProxies, timeouts, accessLog, log and resolver:
  http: [80, \"127.0.0.1:8000\"]
  https: 443
  manifests: /etc/tidegate/manifests
  ingressClass: [internal, tidegate]
  sslRedirect: { mode: tls-hosts, status: 308, port: 443 }
  trustedProxies: [10.0.0.0/8]
  timeouts: { requestHead: 10s, idle: 75s, responseHead: 1m, drain: 30s }

Signals: SIGTERM and SIGINT make /readyz fail at once, stop accepting and finish what is in flight within the drain \
timeout; a second one ends the process at once with exit code 1.";

const CHECK_EXAMPLES: &str = "\
Names of ExternalName services are not resolved, and no certificate is asked for: nothing is sent anywhere.

Examples:
  tidegate check manifests/
  tidegate check --ingress-class internal --output json manifests/ | jq .problems
  helm template ./chart > all.yaml && tidegate check all.yaml

Exit codes: 0 everything is served, 1 at least one problem of level error, 2 wrong command line, settings or paths.";

const DEMO_EXAMPLES: &str = "\
Nothing is sent beyond this machine, and everything listens on loopback.

Examples:
  tidegate demo                   follow the hints that it prints; Ctrl-C ends it
  tidegate demo --once            it tries everything itself and prints a table
  tidegate demo --dir ./demo      keep the manifests, to edit and to serve later";

/// What was typed.
#[derive(Debug, Parser)]
#[command(
    name = "tidegate",
    version,
    about = "Kubernetes ingress controller and reverse proxy in one binary",
    long_about = ABOUT,
    after_help = EXAMPLES,
    max_term_width = 110,
    propagate_version = true
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve what manifests describe, and follow their changes
    #[command(after_help = SERVE_EXAMPLES)]
    Serve(ServeFlags),
    /// Translate manifests offline: print the routes and everything that is wrong
    #[command(after_help = CHECK_EXAMPLES)]
    Check(CheckFlags),
    /// Start example backends and manifests, and serve them
    #[command(after_help = DEMO_EXAMPLES)]
    Demo(DemoFlags),
    /// Print a completion script for a shell
    Completions {
        /// The shell that the script is for
        shell: Shell,
    },
}

#[derive(Debug, Args)]
pub(crate) struct ServeFlags {
    /// Folder or file with manifests, followed; repeat it for several
    #[arg(
        long,
        value_name = "PATH",
        env = "TIDEGATE_MANIFESTS",
        value_delimiter = ','
    )]
    pub(crate) manifests: Vec<PathBuf>,

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
    pub(crate) class: ClassFlags,
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

#[derive(Debug, Args)]
pub(crate) struct CheckFlags {
    /// Folders and files with manifests
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,

    /// How to print
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) output: OutputFormat,

    /// Settings file (YAML), as for `tidegate serve`
    #[arg(long, value_name = "FILE", env = "TIDEGATE_CONFIG")]
    pub(crate) config: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) class: ClassFlags,
}

#[derive(Debug, Args)]
pub(crate) struct DemoFlags {
    /// Try everything, print a table and end: exit code 0 when all went as expected, else 1
    #[arg(long)]
    pub(crate) once: bool,

    /// Listen for HTTP here [default: 127.0.0.1:8080, or a free port]
    #[arg(long, value_name = "ADDR")]
    pub(crate) http: Option<Listen>,

    /// Listen for HTTPS here [default: 127.0.0.1:8443, or a free port]
    #[arg(long, value_name = "ADDR")]
    pub(crate) https: Option<Listen>,

    /// Put the example manifests here and leave them there; files of the same names are replaced [default: a temporary
    /// folder, removed at the end]
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
}

/// How `tidegate check` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    /// Tables for people
    Text,
    /// One object with routes, upstreams, certificates and problems
    Json,
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

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_flag_of_serve_has_a_variable_and_a_help() {
        let command = Cli::command();
        let serve = command.find_subcommand("serve").unwrap();
        for argument in serve.get_arguments() {
            let name = argument.get_id();
            assert!(argument.get_help().is_some(), "{name} has no help");
            let variable = format!("TIDEGATE_{}", name.as_str().to_uppercase());
            let found = argument.get_env().map(|name| name.to_string_lossy());
            assert_eq!(found.as_deref(), Some(variable.as_str()));
        }
    }
}
