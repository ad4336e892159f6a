//! One answer to a list.

use kube::Client;
use kube::api::ListParams;
use kube::core::Request;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::timeout;

use super::failure::{Asked, Failure, FailureSort};
use super::health::{Health, Verb};
use super::timing::Timing;

/// Objects in one answer to a list.
pub(super) const PAGE: u32 = 500;

/// One answer to a list.
#[derive(Debug, Deserialize)]
pub(super) struct Page {
    pub(super) metadata: PageMetadata,
    #[serde(default)]
    pub(super) items: Option<Vec<Box<RawValue>>>,
}

/// `metadata` of a list.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PageMetadata {
    #[serde(default)]
    pub(super) resource_version: String,
    #[serde(default)]
    pub(super) r#continue: Option<String>,
}

/// How much of each object a list brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Whole,
    Metadata,
}

/// Asks for one page of a list.
pub(super) async fn page(
    client: &Client,
    health: &Health,
    timing: &Timing,
    path: String,
    params: &ListParams,
    shape: Shape,
) -> Result<Page, Failure> {
    let request = Request::new(path);
    let request = match shape {
        Shape::Whole => request.list(params),
        Shape::Metadata => request.list_metadata(params),
    };
    let request = request.map_err(|error| Failure::new(FailureSort::Refused, error.to_string()))?;
    health.sent(Verb::List);
    let text = match timeout(timing.answer, client.request_text(request)).await {
        Ok(Ok(text)) => text,
        Ok(Err(error)) => return Err(Failure::of_client(&error, Asked::Other)),
        Err(_) => return Err(Failure::silent(timing.answer)),
    };
    serde_json::from_str(&text)
        .map_err(|error| Failure::of_client(&kube::Error::SerdeError(error), Asked::Other))
}
