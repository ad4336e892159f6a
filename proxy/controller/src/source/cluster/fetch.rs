//! Requests for what is referred to: single Secrets, many at once, and the EndpointSlices of a Service.

use std::collections::BTreeSet;
use std::sync::Arc;

use kube::Client;
use kube::api::{GetParams, ListParams};
use kube::core::Request;
use serde_json::value::RawValue;
use tidegate_model::NamespacedName;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::arrival::{Arrival, Reader};
use super::failure::{Asked, Failure, FailureSort};
use super::health::{Health, Verb};
use super::kind::Kind;
use super::page::{self, PAGE, Page, Shape};
use super::timing::{Backoff, Timing};
use super::trim::SERVICE_NAME;

/// Secrets that are asked for at the same time.
const AT_ONCE: usize = 8;
/// Outcomes that wait for the view.
const QUEUE: usize = 1024;
/// What a list of many Secrets is narrowed to: nearly all that Ingresses refer to, and no release history of Helm.
const TLS_SECRETS: &str = "type=kubernetes.io/tls";

/// Something to fetch.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) task: Task,
    /// Ends when nobody wants it any more.
    pub(super) wanted: Wanted,
}

/// By which a [`Job`] knows that it is wanted.
pub(super) type Wanted = oneshot::Receiver<()>;

/// What keeps a [`Job`] wanted.
pub(super) type Keep = Arc<oneshot::Sender<()>>;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Task {
    /// One Secret.
    Secret(NamespacedName),
    /// Many Secrets of a namespace, or of all.
    Secrets {
        namespace: Option<String>,
        names: Arc<BTreeSet<NamespacedName>>,
    },
    /// The slices of a Service.
    SlicesOf { list: u64, service: NamespacedName },
    /// The slices of a namespace, or of all.
    Slices {
        list: u64,
        namespace: Option<String>,
    },
}

/// What came of a [`Job`].
#[derive(Debug)]
pub(super) enum Outcome {
    Secret(NamespacedName, Fetched),
    /// A list of many did not have these.
    NotListed(Arc<BTreeSet<NamespacedName>>),
    Slices {
        list: u64,
        slices: Vec<Arrival>,
    },
}

/// What the server says of a Secret.
#[derive(Debug)]
pub(super) enum Fetched {
    Found(Box<Arrival>),
    Absent,
    /// Nothing yet; it is tried again.
    Failing(Failure),
}

/// Runs jobs.
pub(super) struct Fetcher {
    work: Work,
    tasks: JoinSet<()>,
    results: mpsc::Receiver<Outcome>,
}

impl Fetcher {
    pub(super) fn new(client: Client, reader: Reader, timing: Timing, health: Health) -> Self {
        let (output, results) = mpsc::channel(QUEUE);
        Self {
            work: Work {
                client,
                reader,
                timing,
                health,
                output,
                places: Arc::new(Semaphore::new(AT_ONCE)),
            },
            tasks: JoinSet::new(),
            results,
        }
    }

    pub(super) fn begin(&mut self, job: Job) {
        while self.tasks.try_join_next().is_some() {}
        let work = self.work.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                _ = job.wanted => {}
                () = work.run(job.task) => {}
            }
        });
    }

    /// Waits for what came of jobs; at least one. Nothing is lost when it is not waited for to the end.
    pub(super) async fn outcomes(&mut self) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        self.results.recv_many(&mut outcomes, QUEUE).await;
        outcomes
    }
}

/// What a job needs.
#[derive(Clone)]
struct Work {
    client: Client,
    reader: Reader,
    timing: Timing,
    health: Health,
    output: mpsc::Sender<Outcome>,
    places: Arc<Semaphore>,
}

impl Work {
    async fn run(self, task: Task) {
        match task {
            Task::Secret(name) => self.secret(name).await,
            Task::Secrets { namespace, names } => self.secrets(namespace.as_deref(), names).await,
            Task::SlicesOf { list, service } => {
                let labels = format!("{SERVICE_NAME}={}", service.name);
                let path = Kind::EndpointSlice.path(Some(&service.namespace));
                let params = ListParams::default().labels(&labels);
                self.slices(list, path, params).await;
            }
            Task::Slices { list, namespace } => {
                let path = Kind::EndpointSlice.path(namespace.as_deref());
                self.slices(list, path, ListParams::default()).await;
            }
        }
    }

    async fn tell(&self, outcome: Outcome) {
        // Without a receiver nobody is interested.
        _ = self.output.send(outcome).await;
    }

    async fn secret(&self, name: NamespacedName) {
        let mut backoff = Backoff::new(&self.timing);
        loop {
            let failure = match self.secret_once(&name).await {
                Ok(fetched) => return self.tell(Outcome::Secret(name, fetched)).await,
                Err(failure) => failure,
            };
            let wait = backoff.next_delay().max(failure.retry_after);
            self.tell(Outcome::Secret(name.clone(), Fetched::Failing(failure)))
                .await;
            sleep(wait).await;
        }
    }

    async fn secret_once(&self, name: &NamespacedName) -> Result<Fetched, Failure> {
        let path = Kind::Secret.path(Some(&name.namespace));
        let request = Request::new(path).get(&name.name, &GetParams::default());
        let request =
            request.map_err(|error| Failure::new(FailureSort::Refused, error.to_string()))?;
        // Never closed.
        let _place = self.places.acquire().await;
        self.health.sent(Verb::Get);
        match timeout(self.timing.answer, self.client.request_text(request)).await {
            Ok(Ok(text)) => match self.reader.read_secret(&text) {
                Some(arrival) => Ok(Fetched::Found(Box::new(arrival))),
                None => Err(Failure::new(
                    FailureSort::Garbled,
                    "the answer is no Secret",
                )),
            },
            Ok(Err(kube::Error::Api(status))) if status.code == 404 => Ok(Fetched::Absent),
            Ok(Err(error)) => Err(Failure::of_client(&error, Asked::Other)),
            Err(_) => Err(Failure::silent(self.timing.answer)),
        }
    }

    async fn secrets(&self, namespace: Option<&str>, names: Arc<BTreeSet<NamespacedName>>) {
        let mut backoff = Backoff::new(&self.timing);
        loop {
            match self.secrets_once(namespace, &names).await {
                Ok(()) => return,
                Err(failure) => {
                    for name in names.iter().cloned() {
                        let failing = Fetched::Failing(failure.clone());
                        self.tell(Outcome::Secret(name, failing)).await;
                    }
                    sleep(backoff.next_delay().max(failure.retry_after)).await;
                }
            }
        }
    }

    async fn secrets_once(
        &self,
        namespace: Option<&str>,
        names: &BTreeSet<NamespacedName>,
    ) -> Result<(), Failure> {
        let path = Kind::Secret.path(namespace);
        let mut params = ListParams::default().fields(TLS_SECRETS).limit(PAGE);
        let mut left = names.clone();
        loop {
            let page = self.page(path.clone(), &params).await?;
            for item in page.items.iter().flatten() {
                let arrival =
                    wanted_name(item, names).and_then(|_| self.reader.read_secret(item.get()));
                if let Some(arrival) = arrival {
                    left.remove(&arrival.name);
                    let name = arrival.name.clone();
                    let found = Fetched::Found(Box::new(arrival));
                    self.tell(Outcome::Secret(name, found)).await;
                }
            }
            match page.metadata.r#continue {
                Some(token) if !token.is_empty() => params.continue_token = Some(token),
                _ => break,
            }
        }
        if !left.is_empty() {
            self.tell(Outcome::NotListed(Arc::new(left))).await;
        }
        Ok(())
    }

    async fn slices(&self, list: u64, path: String, params: ListParams) {
        let mut backoff = Backoff::new(&self.timing);
        loop {
            match self.slices_once(&path, params.clone()).await {
                Ok(slices) => return self.tell(Outcome::Slices { list, slices }).await,
                Err(failure) => {
                    tracing::debug!(path, %failure, "endpoints of a Service are listed again");
                    sleep(backoff.next_delay().max(failure.retry_after)).await;
                }
            }
        }
    }

    async fn slices_once(&self, path: &str, params: ListParams) -> Result<Vec<Arrival>, Failure> {
        let mut params = params.limit(PAGE);
        let mut slices = Vec::new();
        loop {
            let page = self.page(path.to_owned(), &params).await?;
            let items = page.items.iter().flatten();
            slices
                .extend(items.filter_map(|item| self.reader.read(Kind::EndpointSlice, item.get())));
            match page.metadata.r#continue {
                Some(token) if !token.is_empty() => params.continue_token = Some(token),
                _ => return Ok(slices),
            }
        }
    }

    async fn page(&self, path: String, params: &ListParams) -> Result<Page, Failure> {
        let (client, health, timing) = (&self.client, &self.health, &self.timing);
        page::page(client, health, timing, path, params, Shape::Whole).await
    }
}

/// The name of a listed Secret, when it is one of these. Its contents are not looked at before.
fn wanted_name(item: &RawValue, names: &BTreeSet<NamespacedName>) -> Option<NamespacedName> {
    #[derive(serde::Deserialize)]
    struct Named {
        metadata: Name,
    }
    #[derive(serde::Deserialize)]
    struct Name {
        name: String,
        namespace: String,
    }
    let Named { metadata } = serde_json::from_str(item.get()).ok()?;
    let name = NamespacedName::new(metadata.namespace, metadata.name);
    names.contains(&name).then_some(name)
}
