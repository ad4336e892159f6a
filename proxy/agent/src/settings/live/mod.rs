//! Settings that change while Tidegate serves: the text of the settings file is followed, and that of a ConfigMap, which
//! stands in its place while it is there. What can change is in force at once; what cannot is said once, and counted.

mod difference;
mod file;
mod pending;

use std::sync::Arc;
use std::time::Duration;

use tidegate_certificates::CertificateSettings;
use tidegate_controller::resolve::ResolverSettings;
use tidegate_controller::translate;
use tidegate_model::Problem;
use tokio::sync::watch;
use tracing::{error, info, warn};

use super::effective::{Effective, Place};
use super::file::File;
use super::key::{self, Part};
use super::pod::Environment;
use super::source::{Publish, Source};
use super::{Settings, SettingsError};
use crate::cli::ServeFlags;
use crate::logging::LogFilter;
use difference::Difference;
pub(crate) use pending::Pending;

/// The settings that change while Tidegate serves, to be followed by those who use them.
#[derive(Clone, Debug)]
pub(crate) struct Live {
    /// Which objects are served, and how.
    pub(crate) translation: watch::Receiver<translate::Settings>,
    /// What the status of Ingresses shows as their addresses.
    pub(crate) publish: watch::Receiver<Publish>,
    /// Name servers for ExternalNames.
    pub(crate) resolver: watch::Receiver<ResolverSettings>,
    /// Which certificates are ordered, and where.
    pub(crate) certificates: watch::Receiver<Arc<CertificateSettings>>,
    /// What is left out of the settings though it is written.
    pub(crate) problems: watch::Receiver<Vec<Problem>>,
    /// Time for connections to end by themselves; read when a drain begins.
    pub(crate) drain: watch::Receiver<Duration>,
    /// What is written and not in force.
    pub(crate) pending: Pending,
    /// To be told the text of the ConfigMap that stands in the place of the settings file; `None` while there is none.
    pub(crate) config_map: watch::Sender<Option<String>>,
}

impl Live {
    /// Settings that do not change.
    pub(crate) fn still(settings: &Settings) -> Self {
        let (_, live) = Senders::of(settings);
        live
    }
}

/// Follows the file that the flags name and the text that [`Live::config_map`] is told, until the runtime ends. Settings
/// in force at the start are `initial`, which these flags have led to. Call it within a tokio runtime.
pub(crate) fn follow(flags: &ServeFlags, initial: &Settings, log: LogFilter) -> Live {
    let (senders, live) = Senders::of(initial);
    let follower = Follower::new(
        flags.clone(),
        Environment::of_process(),
        initial.clone(),
        senders,
        log,
    );
    let config_map = live.config_map.subscribe();
    let file = flags.config.clone().map(file::follow);
    tokio::spawn(follower.run(file, config_map));
    live
}

/// The other ends of [`Live`].
#[derive(Debug)]
struct Senders {
    translation: watch::Sender<translate::Settings>,
    publish: watch::Sender<Publish>,
    resolver: watch::Sender<ResolverSettings>,
    certificates: watch::Sender<Arc<CertificateSettings>>,
    problems: watch::Sender<Vec<Problem>>,
    drain: watch::Sender<Duration>,
    pending: Pending,
}

impl Senders {
    fn of(settings: &Settings) -> (Self, Live) {
        let senders = Self {
            translation: watch::Sender::new(settings.translation.clone()),
            publish: watch::Sender::new(settings.publish.clone()),
            resolver: watch::Sender::new(settings.resolver.clone()),
            certificates: watch::Sender::new(Arc::new(settings.certificates.clone())),
            problems: watch::Sender::new(settings.problems.clone()),
            drain: watch::Sender::new(settings.drain),
            pending: Pending::default(),
        };
        let live = Live {
            translation: senders.translation.subscribe(),
            publish: senders.publish.subscribe(),
            resolver: senders.resolver.subscribe(),
            certificates: senders.certificates.subscribe(),
            problems: senders.problems.subscribe(),
            drain: senders.drain.subscribe(),
            pending: senders.pending.clone(),
            config_map: watch::Sender::new(None),
        };
        (senders, live)
    }
}

/// The text of settings, from wherever it is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Text {
    place: Option<Place>,
    /// The text, or why it cannot be read.
    read: Result<String, String>,
}

/// What became of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    /// It is right, and this is other than before.
    Taken(Difference),
    /// It is wrong in a way that is new.
    Rejected,
    /// It is as wrong as before.
    StillRejected,
}

/// Puts in force what texts say.
struct Follower {
    flags: ServeFlags,
    environment: Environment,
    /// What the process was started with, which keys that need a restart are compared with.
    running: Settings,
    /// What the last right text says.
    wanted: Effective,
    senders: Senders,
    log: LogFilter,
    /// What is wrong with the text now.
    rejected: Option<String>,
}

impl Follower {
    fn new(
        flags: ServeFlags,
        environment: Environment,
        running: Settings,
        senders: Senders,
        log: LogFilter,
    ) -> Self {
        Self {
            flags,
            environment,
            wanted: running.effective.clone(),
            running,
            senders,
            log,
            rejected: None,
        }
    }

    async fn run(
        mut self,
        mut file: Option<watch::Receiver<Option<file::Read>>>,
        mut config_map: watch::Receiver<Option<String>>,
    ) {
        // Whoever told of a ConfigMap may take it back; without a file, no key is left then.
        let mut had_config_map = false;
        loop {
            let from_api = config_map.borrow_and_update().clone();
            let read = file
                .as_mut()
                .and_then(|file| file.borrow_and_update().clone());
            had_config_map |= from_api.is_some();
            let text = match (from_api, read) {
                (Some(text), _) => Some(Text {
                    place: Some(self.config_map()),
                    read: Ok(text),
                }),
                (None, Some(read)) => Some(Text {
                    place: self.file(),
                    read,
                }),
                (None, None) if had_config_map && file.is_none() => Some(Text {
                    place: None,
                    read: Ok(String::new()),
                }),
                (None, None) => None,
            };
            if let Some(text) = text {
                self.take(&text);
            }
            let file_changed = async {
                match &mut file {
                    Some(file) => file.changed().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Ok(()) = file_changed => {}
                Ok(()) = config_map.changed() => {}
                else => return,
            }
        }
    }

    fn file(&self) -> Option<Place> {
        let path = self.flags.config.as_ref()?;
        Some(Place::Path(path.display().to_string()))
    }

    fn config_map(&self) -> Place {
        let name = match &self.running.source {
            Source::Cluster(cluster) => cluster.config_map.as_ref(),
            Source::Manifests(_) => None,
        };
        Place::ConfigMap(name.map_or_else(|| "of the settings".to_owned(), ToString::to_string))
    }

    /// Puts in force what a text says, as far as it can be.
    fn take(&mut self, text: &Text) -> Outcome {
        match self.read(text) {
            Ok(settings) => {
                self.accept(text);
                let difference = Difference::between(&self.running, &self.wanted, &settings);
                self.apply(settings, &difference);
                Outcome::Taken(difference)
            }
            Err(problem) => self.reject(problem),
        }
    }

    fn read(&self, text: &Text) -> Result<Settings, String> {
        let of = |read: &str| -> Result<Settings, SettingsError> {
            let file = match &text.place {
                Some(place) => File::parse_at(read, place)?,
                None => File::default(),
            };
            let place = text.place.as_ref();
            Settings::of(&self.flags, &file, place, &self.environment)
        };
        let read = text.read.as_ref().map_err(Clone::clone)?;
        of(read).map_err(|error| error.to_string())
    }

    fn accept(&mut self, text: &Text) {
        if self.rejected.take().is_some() {
            self.senders.pending.set_rejected(None);
            match &text.place {
                Some(place) => info!("settings: {place} can be used again"),
                None => info!("settings: nothing is wrong with them any more"),
            }
        }
    }

    fn reject(&mut self, problem: String) -> Outcome {
        if self.rejected.as_ref() == Some(&problem) {
            return Outcome::StillRejected;
        }
        warn!("settings: those in force stay, for the new ones cannot be used: {problem}");
        self.senders.pending.set_rejected(Some(problem.clone()));
        self.rejected = Some(problem);
        Outcome::Rejected
    }

    fn apply(&mut self, settings: Settings, difference: &Difference) {
        difference.log();
        let restart = &difference.restart;
        self.senders.pending.set_restart(restart.clone());
        // Translation knows the issuers by name.
        if difference.concerns(Part::Translation) || difference.concerns(Part::Certificates) {
            self.senders.translation.send_replace(settings.translation);
        }
        if difference.concerns(Part::Resolver) {
            self.senders.resolver.send_replace(settings.resolver);
        }
        if difference.concerns(Part::Drain) {
            self.senders.drain.send_replace(settings.drain);
        }
        // A file that settings name may hold something else than it did.
        replace(&self.senders.certificates, Arc::new(settings.certificates));
        replace(&self.senders.problems, settings.problems);
        // Another Service is not watched before the restart, and what is published instead of one belongs to it.
        if !restart.contains(key::PUBLISH_SERVICE.name) {
            replace(&self.senders.publish, settings.publish);
        }
        if difference.concerns(Part::Log)
            && let Err(error) = self.log.set(&settings.log.level)
        {
            error!("settings: log.level cannot be changed: {error:#}; restart for it");
        }
        self.wanted = settings.effective;
    }
}

/// Sends a value if it is another one.
fn replace<T: PartialEq>(sender: &watch::Sender<T>, value: T) {
    sender.send_if_modified(|sent| {
        let differs = *sent != value;
        *sent = value;
        differs
    });
}

#[cfg(test)]
mod tests;
