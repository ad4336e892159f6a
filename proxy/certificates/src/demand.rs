//! Names that handshakes ask for: those that are allowed become requests, which the keeper of the instance's certificates
//! finds wherever it runs.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use tidegate_model::{CertificateRequest, Hostname, Issuance, UnixTime};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::http::HttpClient;
use crate::plan::request_key;
use crate::settings::{CertificateSettings, OnDemandSettings};
use crate::store::{Record, RecordKind, Store, StoreError};

/// Names that are asked about at once.
const AT_ONCE: usize = 16;
/// Longest wait for the answer of the URL that is asked.
const ASK: Duration = Duration::from_secs(5);
/// How long an answer, or a request that was made, counts.
const REMEMBERED: Duration = Duration::from_secs(60);
/// Names that are remembered; more are forgotten all at once, which costs one more question each.
const MOST_REMEMBERED: usize = 10_000;

/// Makes requests, in the name of this process.
pub trait Requests: Send + Sync + 'static {
    /// Leaves a request where the keeper of certificates finds it.
    fn request(
        &self,
        request: &CertificateRequest,
    ) -> impl Future<Output = Result<(), String>> + Send;
}

/// How often the record of requests is read again because others write it too.
const CONFLICTS: usize = 5;

/// Leaves a request in a store, for those who may write it.
///
/// # Errors
/// It cannot be written.
pub async fn leave(
    store: &impl Store,
    request: &CertificateRequest,
    time: UnixTime,
) -> Result<(), StoreError> {
    let time = jiff::Timestamp::from_second(time.0)
        .map_err(|error| StoreError::Refused(error.to_string()))?;
    for _ in 0..CONFLICTS {
        let known = store.load(RecordKind::Requests).await?.into_iter().next();
        let mut record = known.unwrap_or_else(|| Record::new(RecordKind::Requests, ""));
        let time = time.to_string().into_bytes();
        record.entries.insert(request_key(request), time);
        match store.save(&record).await {
            Ok(_) => return Ok(()),
            Err(StoreError::Conflict) => {}
            Err(error) => return Err(error),
        }
    }
    Err(StoreError::Conflict)
}

/// What this is done with.
pub struct Inputs<R> {
    /// Names that clients asked for, which the data plane found allowed as far as it can tell.
    pub names: mpsc::Receiver<Hostname>,
    /// The settings in force.
    pub settings: watch::Receiver<Arc<CertificateSettings>>,
    /// What Ingresses are for.
    pub issuance: watch::Receiver<Arc<Issuance>>,
    /// Where requests go.
    pub requests: R,
}

/// Runs until nobody can ask any more.
pub async fn run<R: Requests>(inputs: Inputs<R>) {
    let Inputs {
        mut names,
        settings,
        issuance,
        requests,
    } = inputs;
    let desk = Arc::new(Desk {
        settings,
        issuance,
        requests,
        known: Mutex::default(),
    });
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    while let Some(name) = names.recv().await {
        // More than that are dropped: a client that comes again asks again.
        let Ok(turn) = turns.clone().try_acquire_owned() else {
            continue;
        };
        let desk = desk.clone();
        tokio::spawn(async move {
            desk.take(name).await;
            drop(turn);
        });
    }
}

struct Desk<R> {
    settings: watch::Receiver<Arc<CertificateSettings>>,
    issuance: watch::Receiver<Arc<Issuance>>,
    requests: R,
    /// When each name was dealt with.
    known: Mutex<HashMap<Hostname, Instant>>,
}

impl<R: Requests> Desk<R> {
    async fn take(&self, name: Hostname) {
        let settings = self.settings.borrow().clone();
        let Some(on_demand) = &settings.on_demand else {
            return;
        };
        if !self.is_new(&name) || !self.is_allowed(&name, on_demand).await {
            return;
        }
        debug!(%name, "a client asks for a certificate");
        let request = CertificateRequest::OnDemand(name.clone());
        if let Err(error) = self.requests.request(&request).await {
            warn!(%name, "the request for a certificate on demand could not be made: {error}");
            self.lock().remove(&name);
        }
    }

    /// Whether it was not dealt with lately; from here on it was.
    fn is_new(&self, name: &Hostname) -> bool {
        let mut known = self.lock();
        let now = Instant::now();
        if known.len() >= MOST_REMEMBERED {
            known.clear();
        }
        let before = known.insert(name.clone(), now);
        before.is_none_or(|before| now.duration_since(before) >= REMEMBERED)
    }

    async fn is_allowed(&self, name: &Hostname, settings: &OnDemandSettings) -> bool {
        if settings.allows(name, &self.issuance.borrow().hosts) {
            return true;
        }
        match &settings.ask {
            Some(url) => ask(url, name).await,
            None => false,
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Hostname, Instant>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the URL answers 200 for a name. Anything else, and silence, is a no.
async fn ask(url: &str, name: &Hostname) -> bool {
    let separator = if url.contains('?') { '&' } else { '?' };
    let asked = async {
        let client = HttpClient::new(None).map_err(|error| error.to_string())?;
        let request = Request::get(format!("{url}{separator}domain={name}"))
            .body(Bytes::new())
            .map_err(|error| error.to_string())?;
        let answer = client.within(ASK).send(request).await;
        answer.map_err(|error| error.to_string())
    };
    match asked.await {
        Ok(answer) if answer.status() == 200 => true,
        Ok(answer) => {
            debug!(%name, status = answer.status().as_u16(), "no certificate on demand");
            false
        }
        Err(error) => {
            warn!(%name, "the URL that decides about certificates on demand cannot be asked: {error}");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use tidegate_model::HostPattern;

    use super::*;

    fn settings() -> OnDemandSettings {
        OnDemandSettings {
            suffixes: vec![Hostname::parse("guests.test").expect("a name")],
            routes: false,
            ask: None,
            issuer: None,
            per_hour: 10,
            wait: Duration::from_secs(5),
            forget_after: Duration::from_secs(1000),
        }
    }

    #[test]
    fn suffixes_and_routes_allow() {
        let hosts = BTreeSet::from([
            HostPattern::parse("*.wild.test").expect("a host"),
            HostPattern::Any,
        ]);
        for (name, routes, wanted) in [
            ("guests.test", false, true),
            ("a.guests.test", false, true),
            ("a.b.guests.test", false, true),
            ("notguests.test", false, false),
            ("guests.test.evil.test", false, false),
            ("a.wild.test", false, false),
            ("a.wild.test", true, true),
            ("b.a.wild.test", true, false),
        ] {
            let settings = OnDemandSettings {
                routes,
                ..settings()
            };
            let name = Hostname::parse(name).expect("a name");
            assert_eq!(settings.allows(&name, &hosts), wanted, "{name}");
        }
    }

    #[derive(Default)]
    struct Made(Arc<Mutex<Vec<CertificateRequest>>>);

    impl Requests for Made {
        async fn request(&self, request: &CertificateRequest) -> Result<(), String> {
            self.0.lock().expect("unpoisoned").push(request.clone());
            Ok(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_becomes_one_request_and_a_stranger_none() {
        let (names, received) = mpsc::channel(100);
        let settings = CertificateSettings {
            on_demand: Some(settings()),
            ..CertificateSettings::default()
        };
        let made = Made::default();
        let seen = made.0.clone();
        let (_keep, settings) = watch::channel(Arc::new(settings));
        let (_keep, issuance) = watch::channel(Arc::default());
        let run = tokio::spawn(run(Inputs {
            names: received,
            settings,
            issuance,
            requests: made,
        }));
        for name in ["a.guests.test", "stranger.test", "a.guests.test"] {
            names
                .send(Hostname::parse(name).expect("a name"))
                .await
                .expect("it runs");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        drop(names);
        run.await.expect("no panic");
        tokio::time::sleep(Duration::from_millis(10)).await;
        let name = Hostname::parse("a.guests.test").expect("a name");
        let seen = seen.lock().expect("unpoisoned").clone();
        assert_eq!(seen, [CertificateRequest::OnDemand(name)]);
    }
}
