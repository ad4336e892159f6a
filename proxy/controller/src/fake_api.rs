//! A Kubernetes API server for tests: a function that answers requests, under a real client.

use std::convert::Infallible;
use std::pin::Pin;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use http_body::Frame;
use http_body_util::StreamBody;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::mpsc;

/// A request.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: String,
    /// Null when it has none.
    pub(crate) body: Value,
}

/// What is answered.
#[derive(Debug)]
pub(crate) enum Reply {
    Json(u16, Value),
    /// A watch that lasts.
    Watch(mpsc::UnboundedReceiver<Value>),
    /// Never.
    Nothing,
}

impl Reply {
    pub(crate) fn ok(body: Value) -> Self {
        Self::Json(200, body)
    }

    /// An answer of kind Status.
    pub(crate) fn failure(code: u16, reason: &str, message: &str) -> Self {
        let status = json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": message, "reason": reason, "code": code });
        Self::Json(code, status)
    }
}

/// A client whose requests a function answers.
pub(crate) fn client(
    answer: impl Fn(Call) -> Reply + Clone + Send + Sync + 'static,
) -> kube::Client {
    let service = tower::service_fn(move |request: http::Request<Body>| {
        let answer = answer.clone();
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect_bytes().await?;
            let call = Call {
                method: head.method.to_string(),
                path: head.uri.path().to_owned(),
                query: head.uri.query().unwrap_or_default().to_owned(),
                body: serde_json::from_slice(&body).unwrap_or_default(),
            };
            let (code, body) = match answer(call) {
                Reply::Json(code, body) => (code, once(&body)),
                Reply::Watch(events) => (200, lines(events)),
                Reply::Nothing => std::future::pending().await,
            };
            let response = http::Response::builder()
                .status(code)
                .body(StreamBody::new(body))?;
            Ok::<_, tower::BoxError>(response)
        }
    });
    kube::Client::new(service, "default")
}

type Frames = Pin<Box<dyn Stream<Item = Result<Frame<Bytes>, Infallible>> + Send>>;

fn once(body: &Value) -> Frames {
    let bytes = Bytes::from(body.to_string());
    stream::iter([Ok(Frame::data(bytes))]).boxed()
}

fn lines(events: mpsc::UnboundedReceiver<Value>) -> Frames {
    stream::unfold(events, |mut events| async {
        let event = events.recv().await?;
        Some((Ok(Frame::data(Bytes::from(format!("{event}\n")))), events))
    })
    .boxed()
}
