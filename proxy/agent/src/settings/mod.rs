//! Everything that an instance is told when it starts: flags over the settings file over defaults, as one typed value.

mod addresses;
mod file;
mod guard;
mod instance;
mod merge;
mod steering;
mod translation;
mod value;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;
use tidegate_controller::resolve::ResolverSettings;
use tidegate_controller::translate;
use tidegate_dataplane::{AcceptMode, AccessLog, ListenAddress};

use crate::cli::{CheckFlags, ServeFlags};
use crate::limits;

use addresses::{admin, each_address_once, listeners};
use file::File;
pub use file::FileError;
pub use guard::{GuardListener, GuardMode, GuardSettings, GuardVerdict, SynLimit};
pub use instance::InstanceName;
use merge::{list, one};
pub use steering::{AfterHandOver, SteeringMode};
use translation::translation;
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
    /// Which Tidegate of this machine it is.
    pub instance: InstanceName,
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
    /// What decides which worker gets a new connection.
    pub steering: SteeringMode,
    /// What the process does when another one has taken over and nothing is open any more.
    pub after_hand_over: AfterHandOver,
    /// What is kept from the listeners; `None` for nothing.
    pub guard: Option<GuardSettings>,
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
        key: String,
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
        let instance = one(
            "instance",
            flags.instance,
            file.instance.as_ref(),
            str::parse,
        )?;
        let steering = one(
            "steering",
            flags.steering,
            file.steering.as_ref(),
            str::parse,
        )?;
        let after_hand_over = one(
            "afterHandOver",
            flags.after_hand_over,
            file.after_hand_over.as_ref(),
            str::parse,
        )?;
        let guard = file
            .guard
            .as_ref()
            .map(|written| guard::guard(written, &[&*http, &*https].concat()))
            .transpose()?;
        let manifests = match flags.manifests {
            paths if paths.is_empty() => list("manifests", file.manifests.as_ref(), value::path)?,
            paths => paths,
        };
        Ok(Self {
            instance: instance.unwrap_or_default(),
            dataplane: tidegate_dataplane::Settings {
                http,
                https,
                workers: workers.unwrap_or_else(cores),
                accept: accept.unwrap_or_default(),
                access_log: access_log.unwrap_or_default(),
                max_connections: max_connections.unwrap_or_else(limits::default_connections),
                pin: None,
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
            steering: steering.unwrap_or_default(),
            after_hand_over: after_hand_over.unwrap_or_else(AfterHandOver::usual),
            guard,
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

#[cfg(test)]
mod tests;
