//! What handshakes that begin now go by, and which of them are special.

use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tidegate_model::Hostname;

use super::hello::{Hello, Offered};
use crate::publish::Current;
use crate::tls::Resolver;

/// What handshakes that begin now go by.
pub(super) struct Terms {
    pub(super) config: Arc<ServerConfig>,
    /// What is in force; `None` where there are no snapshots.
    current: Option<Arc<Current>>,
}

/// What is to be done about a hello.
pub(super) enum Course {
    /// Shake hands as with most clients.
    Shake,
    /// Answer an ACME server by this.
    Answer(Arc<ServerConfig>),
    /// Wait so long for the certificate of a name.
    Wait(Hostname, Duration),
}

impl Terms {
    pub(super) fn new(config: Arc<ServerConfig>) -> Self {
        Self {
            config,
            current: None,
        }
    }

    /// Takes over what is in force now. The resolver follows it already.
    pub(super) fn follow(&mut self, current: &Arc<Current>, resolver: &Arc<Resolver>) {
        let before = self.current.replace(current.clone());
        if !before.is_some_and(|before| Arc::ptr_eq(&before.offer, &current.offer)) {
            self.config = current.offer.server(resolver.clone());
        }
    }

    pub(super) fn answers_challenges(&self) -> bool {
        let current = self.current.as_ref();
        current.is_some_and(|current| current.challenges.is_some())
    }

    /// Whether names may wait for a certificate.
    pub(super) fn serves_on_demand(&self) -> bool {
        let current = self.current.as_ref();
        current.is_some_and(|current| current.snapshot.policy.on_demand.is_some())
    }

    pub(super) fn course(&self, hello: Option<Hello>) -> Course {
        match (&self.current, hello) {
            (Some(current), Some(hello)) => course(current, hello),
            _ => Course::Shake,
        }
    }

    /// Whether there is a certificate for a name by now.
    pub(super) fn holds(&self, name: &Hostname) -> bool {
        let current = self.current.as_ref();
        current.is_some_and(|current| current.snapshot.certificates.names(name.as_str()))
    }
}

fn course(current: &Current, hello: Hello) -> Course {
    let Some(name) = hello.name else {
        return Course::Shake;
    };
    if hello.offered == Offered::AcmeTls {
        let challenges = current.challenges.as_ref();
        let config = challenges.and_then(|challenges| challenges.config(name.as_str()));
        return config.map_or(Course::Shake, |config| Course::Answer(config.clone()));
    }
    let snapshot = &current.snapshot;
    let is_held = || snapshot.certificates.names(name.as_str());
    match &snapshot.policy.on_demand {
        Some(rules) if !is_held() && rules.allows(&name, &snapshot.routes) => {
            Course::Wait(name, rules.wait)
        }
        _ => Course::Shake,
    }
}
