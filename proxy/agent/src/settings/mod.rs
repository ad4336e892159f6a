//! Everything that an instance is told when it starts: flags over variables over the settings file over defaults, as one
//! typed value; and what of it changes while it serves.

mod addresses;
mod certificates;
mod data;
pub(crate) mod effective;
mod error;
mod file;
mod guard;
mod instance;
mod key;
pub(crate) mod live;
mod merge;
mod pod;
mod source;
mod steering;
mod translation;
mod value;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tidegate_certificates::{CertificateSettings, Issuers};
use tidegate_controller::resolve::ResolverSettings;
use tidegate_controller::translate;
use tidegate_dataplane::{AcceptMode, AccessLog, ListenAddress};
use tidegate_model::Problem;

use crate::cli::{CertificateFlags, CheckFlags, Given, ServeFlags};
use crate::limits;

use addresses::{Listeners, admin, each_address_once, listeners};
pub(crate) use certificates::{
    Directory, contact, directory, hosts as certificate_hosts, issue as certificates, min_version,
};
pub use data::{DataKey, DataSettings};
use effective::{Effective, Place};
pub use error::SettingsError;
use file::File;
pub use file::FileError;
pub use guard::{GuardListener, GuardMode, GuardSettings, GuardVerdict, SynLimit};
pub use instance::InstanceName;
use live::Live;
use merge::Layers;
pub(crate) use pod::Environment;
pub use pod::Pod;
pub use source::{Access, ClusterSettings, NodeAddresses, Publish, Source};
pub use steering::{AfterHandOver, SteeringMode};
use translation::translation;
pub(crate) use value::{
    Listen, namespaced_name, node_addresses, published_address, seconds, selector, service_port,
};

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
    /// Where `tidegate probe` is answered; `None` for nowhere.
    pub probe_socket: Option<PathBuf>,
    /// Where objects come from.
    pub source: Source,
    /// What the status of Ingresses shows as their addresses.
    pub publish: Publish,
    /// The pod that this is.
    pub pod: Pod,
    /// What is kept over a restart.
    pub data: DataSettings,
    /// Which objects are served, and how.
    pub translation: translate::Settings,
    /// Which certificates are ordered, and where.
    pub certificates: CertificateSettings,
    /// What is left out of the settings though it is written.
    pub problems: Vec<Problem>,
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
    /// What was written for all these, and where.
    pub(crate) effective: Effective,
    /// What of them changes while it serves; `None` when nothing does.
    pub(crate) live: Option<Live>,
}

impl Settings {
    /// What `tidegate serve` is to do.
    pub(crate) fn for_serving(flags: &ServeFlags) -> Result<Self, SettingsError> {
        let file = File::read(flags.config.as_deref())?;
        let place = flags.config.as_ref();
        let place = place.map(|path| Place::Path(path.display().to_string()));
        let settings = Self::of(flags, &file, place.as_ref(), &Environment::of_process())?;
        if let Source::Manifests(paths) = &settings.source {
            readable(paths)?;
        }
        Ok(settings)
    }

    /// A settings file that says the same, with the origin of each value. Secrets are not in it.
    pub(crate) fn printed(&self) -> String {
        let mut text = self.effective.yaml();
        if let Some(DataKey::Text(_)) = self.data.key {
            text.push_str("# TIDEGATE_DATA_KEY is set, and not shown\n");
        }
        text
    }

    /// What flags, the text of a settings file and the environment say together.
    fn of(
        flags: &ServeFlags,
        file: &File,
        place: Option<&Place>,
        environment: &Environment,
    ) -> Result<Self, SettingsError> {
        let layers = Layers::new(&flags.given, place);
        let settings = Self::merge(flags, file, environment, layers);
        let settings = settings.map_err(|error| match place {
            Some(place) => error.at(place),
            None => error,
        })?;
        if settings.dataplane.http.is_empty() && settings.dataplane.https.is_empty() {
            let remedy =
                "both --http and --https are off: leave one of them on, or nothing is served";
            return Err(SettingsError::Conflict(remedy.to_owned()));
        }
        each_address_once(&settings)?;
        Ok(settings)
    }

    fn merge(
        flags: &ServeFlags,
        file: &File,
        environment: &Environment,
        mut layers: Layers<'_>,
    ) -> Result<Self, SettingsError> {
        let l = &mut layers;
        let usual = InstanceName::default();
        let instance = l.one(
            key::INSTANCE,
            flags.instance.clone(),
            file.instance.as_ref(),
            usual.as_str(),
            str::parse,
        )?;
        let source = source::source(flags, file, environment, l)?;
        let data = data::data(flags, file, &source, environment, l)?;
        let Listeners { http, https } = listeners(flags, file, l)?;
        let admin = admin(flags, file, l)?;
        let probe_socket = l.optional(
            key::PROBE_SOCKET,
            flags.probe_socket.clone(),
            file.probe_socket.as_ref(),
            value::path,
        )?;
        let dataplane = dataplane(flags, file, Listeners { http, https }, l)?;
        let steering = l.one(
            key::STEERING,
            flags.steering,
            file.steering.as_ref(),
            SteeringMode::default().as_str(),
            str::parse,
        )?;
        let after_hand_over = l.one(
            key::AFTER_HAND_OVER,
            flags.after_hand_over,
            file.after_hand_over.as_ref(),
            AfterHandOver::usual().as_str(),
            str::parse,
        )?;
        let certificates = certificates::certificates(&flags.certificates, file, l)?;
        let mut translation = translation(&flags.class, file, &certificates, l)?;
        translation.instance_label = instance.to_string();
        translation.own_namespace = Some(environment.pod.namespace.clone());
        let publish = source::publish(&flags.cluster, file, l)?;
        let drain = l.one(
            key::DRAIN_TIMEOUT,
            flags.drain_timeout,
            file.timeouts.drain.as_ref(),
            value::written(DEFAULT_DRAIN),
            value::seconds,
        )?;
        let servers = file.resolver.servers.as_ref();
        let servers = l.list(key::RESOLVER_SERVERS, &[], servers, &[], value::name_server)?;
        let guard = guard::of_file(file, &[&*dataplane.http, &*dataplane.https].concat(), l)?;
        let log = log(flags, file, l)?;
        Ok(Self {
            instance,
            dataplane,
            admin,
            probe_socket,
            source,
            publish,
            pod: environment.pod.clone(),
            data,
            translation,
            certificates: certificates.settings,
            problems: certificates.problems,
            resolver: ResolverSettings { servers },
            drain,
            steering,
            after_hand_over,
            guard,
            log,
            effective: layers.into_effective(),
            live: None,
        })
    }
}

/// Listeners, workers and access log.
fn dataplane(
    flags: &ServeFlags,
    file: &File,
    Listeners { http, https }: Listeners,
    layers: &mut Layers<'_>,
) -> Result<tidegate_dataplane::Settings, SettingsError> {
    Ok(tidegate_dataplane::Settings {
        http,
        https,
        workers: layers.one(
            key::WORKERS,
            flags.workers,
            file.workers.as_ref(),
            cores().to_string(),
            workers,
        )?,
        max_connections: layers.one(
            key::MAX_CONNECTIONS,
            flags.max_connections,
            file.max_connections.as_ref(),
            limits::default_connections().to_string(),
            max_connections,
        )?,
        accept: layers.one(
            key::ACCEPT,
            flags.accept.map(Into::into),
            file.accept.as_ref(),
            "on-data",
            accept,
        )?,
        access_log: layers.one(
            key::ACCESS_LOG,
            flags.access_log.map(Into::into),
            file.access_log.as_ref(),
            "off",
            access_log,
        )?,
        pin: None,
        on_demand: None,
    })
}

fn log(
    flags: &ServeFlags,
    file: &File,
    layers: &mut Layers<'_>,
) -> Result<LogSettings, SettingsError> {
    Ok(LogSettings {
        level: layers.one(
            key::LOG_LEVEL,
            flags.log_level.clone(),
            file.log.level.as_ref(),
            LogSettings::default().level,
            crate::logging::filter,
        )?,
        format: layers.one(
            key::LOG_FORMAT,
            flags.log_format.map(Into::into),
            file.log.format.as_ref(),
            "text",
            log_format,
        )?,
    })
}

/// How `tidegate check` translates.
pub(crate) fn for_checking(flags: &CheckFlags) -> Result<translate::Settings, SettingsError> {
    let file = File::read(flags.config.as_deref())?;
    readable(&flags.paths)?;
    let given = Given::default();
    let place = flags.config.as_ref();
    let place = place.map(|path| Place::Path(path.display().to_string()));
    let mut layers = Layers::new(&given, place.as_ref());
    let certificates = certificates::certificates(&CertificateFlags::default(), &file, &mut layers);
    let translation = certificates
        .and_then(|certificates| translation(&flags.class, &file, &certificates, &mut layers));
    let mut translation = translation.map_err(|error| match &place {
        Some(place) => error.at(place),
        None => error,
    })?;
    if flags.config.is_none() {
        // Which issuers there are is not known then.
        translation.certificates.known_issuers = None;
    }
    Ok(translation)
}

/// The issuers of a settings file.
pub(crate) fn issuers(config: Option<&Path>) -> Result<Issuers, SettingsError> {
    let file = File::read(config)?;
    let given = Given::default();
    let place = config.map(|path| Place::Path(path.display().to_string()));
    let mut layers = Layers::new(&given, place.as_ref());
    let found = certificates::certificates(&CertificateFlags::default(), &file, &mut layers);
    match (found, &place) {
        (Ok(found), _) => Ok(found.settings.issuers),
        (Err(error), Some(place)) => Err(error.at(place)),
        (Err(error), None) => Err(error),
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
