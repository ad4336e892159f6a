//! One watch, kept up for ever: lists, follows, starts again, and says what it sees in order.
//!
//! kube-runtime's `watcher` is not used for this: it starts a watch again and again without a pause when the server ends
//! it at once or answers 410 to it, fails a whole list for one object that does not fit its type, and keeps bookmarks,
//! by which a watch that hangs is told from a quiet one, to itself.

use std::time::Duration;

use futures_util::StreamExt;
use kube::Client;
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::core::Request;
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use super::arrival::{self, Arrival, Reader};
use super::failure::{Asked, Failure, FailureSort};
use super::health::{Health, Verb};
use super::kind::{Kind, Target};
use super::page::{PAGE, Page, Shape, page};
use super::position::{Listing, Position};
use super::timing::{Backoff, Timing};

/// Annotation of the bookmark that ends a streaming list.
const INITIAL_END: &str = "k8s.io/initial-events-end";

/// What a watch sees.
#[derive(Debug)]
pub(super) enum Event {
    /// A list of everything begins.
    Begin,
    /// An object as it is now.
    Put(Arrival),
    /// An object as it was when it was deleted.
    Delete(Arrival),
    /// The list is whole: what it did not name is gone.
    End,
    /// The server refuses the watch, and will until someone changes that.
    Refused,
}

/// Why there is no one left to listen.
pub(super) struct Closed;

/// Keeps up one watch.
pub(super) struct Feed {
    pub(super) client: Client,
    pub(super) target: Target,
    pub(super) reader: Reader,
    pub(super) timing: Timing,
    pub(super) health: Health,
    /// Number of this watch among all, which goes with every event.
    pub(super) number: usize,
    pub(super) output: mpsc::Sender<(usize, Event)>,
}

type Outcome = Result<Result<(), Failure>, Closed>;

impl Feed {
    /// Runs until nobody listens any more.
    pub(super) async fn run(self) {
        let mut backoff = Backoff::new(&self.timing);
        let mut position = Position::start();
        loop {
            let started = Instant::now();
            let Ok(outcome) = self.session(&mut position).await else {
                return;
            };
            let lasted = started.elapsed();
            if lasted >= self.timing.healthy && position.version.is_some() {
                backoff.reset();
            }
            self.health.restarted(&self.target.name);
            let failure = match outcome {
                Ok(()) if lasted >= self.timing.healthy => continue,
                Ok(()) => Failure::new(FailureSort::Ended, "it ends every watch at once"),
                Err(failure) => failure,
            };
            position.learn(&failure);
            if self.report(&failure, &backoff).await.is_err() {
                return;
            }
            if is_repaired_at_once(failure.sort) && backoff.failures() == 0 {
                // Once: a server that says so again and again has to be waited for.
                backoff.next_delay();
                continue;
            }
            sleep(backoff.next_delay().max(failure.retry_after)).await;
        }
    }

    /// One list or one watch, to its end.
    async fn session(&self, position: &mut Position) -> Outcome {
        if let (true, Some(version)) = (position.broke, position.version.clone()) {
            match self.is_behind(&version).await {
                Ok(true) => position.version = None,
                Ok(false) => {}
                Err(failure) => return Ok(Err(failure)),
            }
            position.broke = false;
        }
        match (&position.version, position.listing) {
            (Some(_), _) => {}
            (None, Listing::Streaming) => {
                self.relisting(position);
                return self.watch(position, Asked::StreamingList).await;
            }
            (None, _) => {
                self.relisting(position);
                match self.list(position).await? {
                    Ok(()) => {}
                    Err(failure) => return Ok(Err(failure)),
                }
            }
        }
        self.watch(position, Asked::Other).await
    }

    fn relisting(&self, position: &Position) {
        debug_assert!(position.version.is_none());
        self.health.relisting(&self.target.name);
    }

    /// Says what went wrong, where it matters.
    async fn report(&self, failure: &Failure, backoff: &Backoff) -> Result<(), Closed> {
        let name = &self.target.name;
        let passing = match failure.sort {
            FailureSort::Gone | FailureSort::StreamingRefused => true,
            // Connections break; it is a state only when the next one does not come up.
            FailureSort::Connection
            | FailureSort::Silent
            | FailureSort::Ended
            | FailureSort::Garbled
            | FailureSort::Server => backoff.failures() == 0,
            FailureSort::Unauthorized | FailureSort::Forbidden | FailureSort::Refused => false,
        };
        tracing::debug!(watch = %name, sort = failure.sort.name(), %failure, "watch begins again");
        if passing {
            self.health.stumbled(name, failure.sort);
        } else {
            self.health.failed(name, failure);
        }
        if failure.is_refusal() {
            self.tell(Event::Refused).await?;
        }
        Ok(())
    }

    /// Whether the server's history ends before what has been seen, as after a restored backup: a watch from there
    /// would wait for ever.
    async fn is_behind(&self, version: &str) -> Result<bool, Failure> {
        let page = self.page(self.list_params().limit(1)).await?;
        let now = page.metadata.resource_version;
        let (now, seen) = (number(&now), number(version));
        Ok(now.zip(seen).is_some_and(|(now, seen)| now < seen))
    }

    /// Lists everything page by page.
    async fn list(&self, position: &mut Position) -> Outcome {
        self.tell(Event::Begin).await?;
        let mut params = self.list_params();
        if position.listing == Listing::Paged {
            params = params.limit(PAGE);
        }
        loop {
            let page = match self.page(params.clone()).await {
                Ok(page) => page,
                Err(failure) => return Ok(Err(failure)),
            };
            self.health.heard(&self.target.name);
            for item in page.items.unwrap_or_default() {
                if let Some(arrival) = self.read(&item) {
                    self.tell(Event::Put(arrival)).await?;
                }
            }
            match page.metadata.r#continue {
                Some(token) if !token.is_empty() => params.continue_token = Some(token),
                _ if page.metadata.resource_version.is_empty() => {
                    let failure = Failure::new(FailureSort::Garbled, "a list without version");
                    return Ok(Err(failure));
                }
                _ => {
                    position.version = Some(page.metadata.resource_version);
                    self.whole().await?;
                    return Ok(Ok(()));
                }
            }
        }
    }

    async fn whole(&self) -> Result<(), Closed> {
        self.health.synced(&self.target.name);
        self.tell(Event::End).await
    }

    /// Watches until the server ends it or something breaks.
    async fn watch(&self, position: &mut Position, asked: Asked) -> Outcome {
        let length = self.timing.next_watch();
        let request = self.watch_request(position.version.as_deref(), asked, length);
        let request = match request {
            Ok(request) => request,
            Err(failure) => return Ok(Err(failure)),
        };
        self.health.sent(Verb::Watch);
        let begun = Instant::now();
        let stream = self.client.request_events::<Box<RawValue>>(request);
        let stream = match timeout(self.timing.answer, stream).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Ok(Err(Failure::of_client(&error, asked))),
            Err(_) => return Ok(Err(Failure::silent(self.timing.answer))),
        };
        let mut stream = std::pin::pin!(stream);
        self.health.heard(&self.target.name);
        if asked == Asked::StreamingList {
            self.tell(Event::Begin).await?;
        }
        let mut is_proven = false;
        // Longer each time that there was nothing to hear, so that a quiet watch is not asked for again and again.
        let silence = self.timing.silence * 2_u32.pow(position.quiet.min(2));
        position.quiet += 1;
        loop {
            let patience = match (&position.version, is_proven) {
                (None, _) => self.timing.initial_end,
                (Some(_), true) => silence,
                (Some(_), false) => self.timing.healthy.min(silence),
            };
            match timeout(patience, stream.next()).await {
                Ok(Some(Ok(event))) => {
                    position.quiet = u32::from(position.version.is_none());
                    if let Err(failure) = self.take(event, position).await? {
                        return Ok(Err(failure));
                    }
                }
                Ok(Some(Err(error))) => return Ok(Err(Failure::of_client(&error, Asked::Other))),
                Ok(None) => {
                    // A server ends a watch when its time is up, and not before.
                    position.broke = begun.elapsed() + self.timing.healthy < length;
                    return Ok(ended(position));
                }
                Err(_) if position.version.is_some() && !is_proven => {}
                Err(_) => return Ok(Err(silent(position, patience))),
            }
            if !is_proven && position.version.is_some() {
                is_proven = true;
                self.health.works(&self.target.name);
            }
        }
    }

    /// Takes in one event of a watch.
    async fn take(&self, event: WatchEvent<Box<RawValue>>, position: &mut Position) -> Outcome {
        match event {
            WatchEvent::Added(raw) | WatchEvent::Modified(raw) => {
                self.advance(&raw, position, Event::Put).await?;
            }
            WatchEvent::Deleted(raw) => self.advance(&raw, position, Event::Delete).await?,
            WatchEvent::Bookmark(bookmark) => {
                self.health.heard(&self.target.name);
                if position.version.is_some() {
                    position.version = Some(bookmark.metadata.resource_version);
                } else if bookmark.metadata.annotations.contains_key(INITIAL_END) {
                    position.version = Some(bookmark.metadata.resource_version);
                    self.whole().await?;
                }
            }
            WatchEvent::Error(status) => {
                return Ok(Err(Failure::of_status(&status, Asked::Other)));
            }
        }
        Ok(Ok(()))
    }

    async fn advance(
        &self,
        raw: &RawValue,
        position: &mut Position,
        event: fn(Arrival) -> Event,
    ) -> Result<(), Closed> {
        let Some(arrival) = self.read(raw) else {
            return Ok(());
        };
        // During a streaming list objects come in no order of versions.
        if let (Some(seen), Some(version)) = (&mut position.version, &arrival.version) {
            seen.clone_from(version);
        }
        self.tell(event(arrival)).await
    }

    fn read(&self, raw: &RawValue) -> Option<Arrival> {
        self.health.event(&self.target.name);
        let read = self.reader.read(self.target.kind(), raw.get());
        if read.is_none() {
            let watch = &self.target.name;
            tracing::debug!(%watch, "an object without a name is left out");
        }
        read
    }

    async fn tell(&self, event: Event) -> Result<(), Closed> {
        let sent = self.output.send((self.number, event)).await;
        sent.map_err(|_| Closed)
    }

    async fn page(&self, params: ListParams) -> Result<Page, Failure> {
        let shape = match self.target.kind() {
            Kind::Secret => Shape::Metadata,
            _ => Shape::Whole,
        };
        let path = self.path();
        page(
            &self.client,
            &self.health,
            &self.timing,
            path,
            &params,
            shape,
        )
        .await
    }

    fn path(&self) -> String {
        let namespace = self.target.name.namespace.as_deref();
        self.target.kind().path(namespace)
    }

    fn list_params(&self) -> ListParams {
        ListParams {
            label_selector: self.target.labels.clone(),
            field_selector: self.target.fields.clone(),
            ..ListParams::default()
        }
    }

    fn watch_request(
        &self,
        version: Option<&str>,
        asked: Asked,
        length: Duration,
    ) -> Result<http::Request<Vec<u8>>, Failure> {
        let params = WatchParams {
            label_selector: self.target.labels.clone(),
            field_selector: self.target.fields.clone(),
            timeout: u32::try_from(length.as_secs()).ok(),
            bookmarks: true,
            send_initial_events: asked == Asked::StreamingList,
        };
        let request = Request::new(self.path());
        // No version: as of now, and not whatever a lagging server has.
        let version = version.unwrap_or_default();
        let request = match self.target.kind() {
            Kind::Secret => request.watch_metadata(&params, version),
            _ => request.watch(&params, version),
        };
        request.map_err(|error| Failure::new(FailureSort::Refused, error.to_string()))
    }
}

/// A watch whose stream is over.
fn ended(position: &Position) -> Result<(), Failure> {
    match position.version {
        Some(_) => Ok(()),
        None => Err(Failure::new(
            FailureSort::Ended,
            "it ended a list before it was whole",
        )),
    }
}

fn silent(position: &Position, patience: Duration) -> Failure {
    match position.version {
        Some(_) => Failure::silent(patience),
        None => Failure::new(FailureSort::StreamingRefused, "a streaming list has no end"),
    }
}

/// Whether the next attempt goes another way, so that there is no point in waiting.
fn is_repaired_at_once(sort: FailureSort) -> bool {
    matches!(sort, FailureSort::Gone | FailureSort::StreamingRefused)
}

/// Versions are opaque, but numbers on every server there is.
fn number(version: &str) -> Option<u64> {
    arrival::version_number(version)
}
