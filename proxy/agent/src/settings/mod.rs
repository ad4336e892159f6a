//! Everything that an instance is told when it starts: flags over the settings file over defaults, as one typed value.

mod file;
mod value;

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;
use tidegate_controller::resolve::ResolverSettings;
use tidegate_controller::translate;
use tidegate_dataplane::{AcceptMode, AccessLog, ListenAddress};
use tidegate_model::{Policy, RedirectPolicy, Timeouts};

use crate::cli::{CheckFlags, ClassFlags, ServeFlags};
use crate::limits;

pub use file::FileError;
pub(crate) use file::{File, Scalar, Scalars};
pub(crate) use value::{Listen, namespaced_name, seconds, selector, service_port};

/// Where the admin pages are unless a setting says otherwise: on loopback, for they have no authentication.
pub const DEFAULT_ADMIN: &str = "127.0.0.1:9090";

/// How long a drain may take unless a setting says otherwise: as long as Kubernetes waits by default before it kills.
pub const DEFAULT_DRAIN: Duration = Duration::from_secs(30);

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// What is logged and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// Filter directives: a level, or `module=level`, separated by commas.
    pub level: String,
    /// How lines are written.
    pub format: LogFormat,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self {
            level: "info".to_owned(),
            format: LogFormat::default(),
        }
    }
}

/// Everything that an instance is told when it starts.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Listeners, workers and access log.
    pub dataplane: tidegate_dataplane::Settings,
    /// Where the admin pages are; `None` for nowhere.
    pub admin: Option<ListenAddress>,
    /// Folders and files with manifests.
    pub manifests: Vec<PathBuf>,
    /// Which objects are served, and how.
    pub translation: translate::Settings,
    /// Name servers for ExternalNames.
    pub resolver: ResolverSettings,
    /// Time for connections to end by themselves when the instance is told to stop.
    pub drain: Duration,
    /// Logs.
    pub log: LogSettings,
}

/// Why settings cannot be used.
#[derive(Debug, Error)]
pub enum SettingsError {
    /// The settings file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// A key of the settings file has a value that is none.
    #[error("settings file: {key}: {value:?} cannot be used: {problem}")]
    Value {
        /// The key, with those that it stands under.
        key: &'static str,
        /// What is written there.
        value: String,
        /// What is wrong with it and what to write.
        problem: String,
    },
    /// Settings that are each fine but do not go together.
    #[error("{0}")]
    Conflict(String),
    /// Manifests that are not there.
    #[error(
        "cannot read manifests {path}: {cause}; name a folder or file that exists, with --manifests or `manifests:` in the settings file"
    )]
    Manifests {
        /// The folder or file.
        path: String,
        /// What the system said.
        cause: std::io::Error,
    },
}

impl Settings {
    /// What `tidegate serve` is to do.
    pub(crate) fn for_serving(flags: ServeFlags) -> Result<Self, SettingsError> {
        let file = File::read(flags.config.as_deref())?;
        let settings = Self::merge(flags, &file)?;
        if settings.manifests.is_empty() {
            let remedy = "no manifests are named: give a folder with --manifests DIR or `manifests:` in the settings file";
            return Err(SettingsError::Conflict(remedy.to_owned()));
        }
        if settings.dataplane.http.is_empty() && settings.dataplane.https.is_empty() {
            let remedy =
                "both --http and --https are off: leave one of them on, or nothing is served";
            return Err(SettingsError::Conflict(remedy.to_owned()));
        }
        each_address_once(&settings)?;
        readable(&settings.manifests)?;
        Ok(settings)
    }

    fn merge(flags: ServeFlags, file: &File) -> Result<Self, SettingsError> {
        let http = listeners(
            "http",
            flags.http,
            file.http.as_ref(),
            ListenAddress::Port(80),
        )?;
        let https = listeners(
            "https",
            flags.https,
            file.https.as_ref(),
            ListenAddress::Port(443),
        )?;
        let workers = one("workers", flags.workers, file.workers.as_ref(), workers)?;
        let max_connections = one(
            "maxConnections",
            flags.max_connections,
            file.max_connections.as_ref(),
            max_connections,
        )?;
        let accept = one(
            "accept",
            flags.accept.map(Into::into),
            file.accept.as_ref(),
            accept,
        )?;
        let access_log = one(
            "accessLog",
            flags.access_log.map(Into::into),
            file.access_log.as_ref(),
            access_log,
        )?;
        let drain = one(
            "timeouts.drain",
            flags.drain_timeout,
            file.timeouts.drain.as_ref(),
            value::duration,
        )?;
        let manifests = match flags.manifests {
            paths if paths.is_empty() => list("manifests", file.manifests.as_ref(), value::path)?,
            paths => paths,
        };
        Ok(Self {
            dataplane: tidegate_dataplane::Settings {
                http,
                https,
                workers: workers.unwrap_or_else(cores),
                accept: accept.unwrap_or_default(),
                access_log: access_log.unwrap_or_default(),
                max_connections: max_connections.unwrap_or_else(limits::default_connections),
            },
            admin: admin(flags.admin, file.admin.as_ref())?,
            manifests,
            translation: translation(flags.class, file)?,
            resolver: ResolverSettings {
                servers: list(
                    "resolver.servers",
                    file.resolver.servers.as_ref(),
                    value::name_server,
                )?,
            },
            drain: drain.unwrap_or(DEFAULT_DRAIN),
            log: LogSettings {
                level: one(
                    "log.level",
                    flags.log_level,
                    file.log.level.as_ref(),
                    crate::logging::filter,
                )?
                .unwrap_or_else(|| LogSettings::default().level),
                format: one(
                    "log.format",
                    flags.log_format.map(Into::into),
                    file.log.format.as_ref(),
                    log_format,
                )?
                .unwrap_or_default(),
            },
        })
    }
}

/// How `tidegate check` translates.
pub(crate) fn for_checking(flags: &CheckFlags) -> Result<translate::Settings, SettingsError> {
    let file = File::read(flags.config.as_deref())?;
    readable(&flags.paths)?;
    translation(flags.class.clone(), &file)
}

/// Fails when two listeners are to be on one address: connections would go to either of them by chance.
fn each_address_once(settings: &Settings) -> Result<(), SettingsError> {
    let listeners = &settings.dataplane;
    let named = [("http", &listeners.http), ("https", &listeners.https)];
    let all = named
        .iter()
        .flat_map(|(key, list)| list.iter().map(move |address| (*key, *address)));
    let all: Vec<_> = all
        .chain(settings.admin.map(|address| ("admin", address)))
        .collect();
    for (index, (key, address)) in all.iter().enumerate() {
        if let Some((other, _)) = all[..index]
            .iter()
            .find(|(_, before)| overlap(*before, *address))
        {
            return Err(SettingsError::Conflict(format!(
                "{other} and {key} are both to listen on {address}: give one of them another port"
            )));
        }
    }
    Ok(())
}

fn overlap(one: ListenAddress, other: ListenAddress) -> bool {
    let port = |address| match address {
        ListenAddress::Port(port) => port,
        ListenAddress::Socket(address) => address.port(),
    };
    // Port 0 is another one each time.
    let (a, b) = (port(one), port(other));
    match (one, other) {
        _ if a != b || a == 0 => false,
        (ListenAddress::Socket(one), ListenAddress::Socket(other)) => one.ip() == other.ip(),
        _ => true,
    }
}

/// Fails for the first path that is not there or not ours to read.
fn readable(paths: &[PathBuf]) -> Result<(), SettingsError> {
    let open = |path: &PathBuf| match path.is_dir() {
        true => std::fs::read_dir(path).map(drop),
        false => std::fs::File::open(path).map(drop),
    };
    paths.iter().try_for_each(|path| {
        open(path).map_err(|cause| SettingsError::Manifests {
            path: path.display().to_string(),
            cause,
        })
    })
}

fn translation(flags: ClassFlags, file: &File) -> Result<translate::Settings, SettingsError> {
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

fn listeners(
    key: &'static str,
    flags: Vec<Listen>,
    file: Option<&Scalars>,
    default: ListenAddress,
) -> Result<Vec<ListenAddress>, SettingsError> {
    let wanted = match (flags.is_empty(), file) {
        (false, _) => flags,
        (true, Some(_)) => list(key, file, str::parse)?,
        (true, None) => vec![Listen::On(default)],
    };
    value::addresses(&wanted)
        .map_err(|problem| SettingsError::Conflict(format!("{key}: {problem}")))
}

fn admin(
    flag: Option<Listen>,
    file: Option<&Scalar>,
) -> Result<Option<ListenAddress>, SettingsError> {
    let default = Scalar(DEFAULT_ADMIN.to_owned());
    match one("admin", flag, Some(file.unwrap_or(&default)), str::parse)? {
        Some(Listen::On(address)) => Ok(Some(address)),
        Some(Listen::Off) | None => Ok(None),
    }
}

fn workers(text: &str) -> Result<NonZeroUsize, String> {
    text.parse()
        .map_err(|_| "write how many worker threads, at least 1".to_owned())
}

fn max_connections(text: &str) -> Result<NonZeroUsize, String> {
    text.parse()
        .map_err(|_| "write how many connections of clients, at least 1".to_owned())
}

/// As many as the process may use cores.
fn cores() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

fn accept(text: &str) -> Result<AcceptMode, String> {
    match text {
        "on-data" => Ok(AcceptMode::OnData),
        "on-connect" => Ok(AcceptMode::OnConnect),
        _ => Err("write on-data or on-connect".to_owned()),
    }
}

fn access_log(text: &str) -> Result<AccessLog, String> {
    match text {
        "json" => Ok(AccessLog::Json),
        // A YAML reader may take `off` for a boolean.
        "off" | "false" => Ok(AccessLog::Off),
        _ => Err("write json or off".to_owned()),
    }
}

fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err("write text or json".to_owned()),
    }
}

/// The flag when given, else the file's value when written.
fn one<T>(
    key: &'static str,
    flag: Option<T>,
    file: Option<&Scalar>,
    parser: impl Fn(&str) -> Result<T, String>,
) -> Result<Option<T>, SettingsError> {
    match (flag, file) {
        (Some(flag), _) => Ok(Some(flag)),
        (None, Some(written)) => parse(key, written, parser).map(Some),
        (None, None) => Ok(None),
    }
}

fn list<T>(
    key: &'static str,
    file: Option<&Scalars>,
    parser: impl Fn(&str) -> Result<T, String>,
) -> Result<Vec<T>, SettingsError> {
    let written = file.map(|scalars| scalars.0.as_slice()).unwrap_or_default();
    written
        .iter()
        .map(|scalar| parse(key, scalar, &parser))
        .collect()
}

fn parse<T>(
    key: &'static str,
    written: &Scalar,
    parser: impl Fn(&str) -> Result<T, String>,
) -> Result<T, SettingsError> {
    parser(&written.0).map_err(|problem| SettingsError::Value {
        key,
        value: written.0.clone(),
        problem,
    })
}

#[cfg(test)]
mod tests;
