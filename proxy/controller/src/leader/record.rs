//! What a Lease says, read without trust, and what is written into it.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{ApiResource, DynamicObject};
use serde_json::{Map, Value, json};

/// A Lease as the API server has it. What other programs keep in it is left as it is.
#[derive(Clone, Debug)]
pub(super) struct Found {
    object: DynamicObject,
    record: Record,
}

/// The part of a Lease's `spec` that tells one renewal from another.
///
/// The times are not read as times: they come from the holder's clock.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Record {
    /// `holderIdentity`; empty when nobody holds it.
    holder: String,
    /// `leaseDurationSeconds`
    seconds: Option<i64>,
    acquired: Value,
    renewed: Value,
    /// `leaseTransitions`
    transitions: i64,
}

impl Record {
    pub(super) fn holder(&self) -> &str {
        &self.holder
    }

    pub(super) fn is_vacant(&self) -> bool {
        self.holder.is_empty()
    }

    /// How long the holder may be silent. Whoever edits the Lease can make it neither shorter than our own leases, nor
    /// so long that nobody ever leads.
    pub(super) fn patience(&self, ours: Duration) -> Duration {
        let seconds = self.seconds.and_then(|seconds| u64::try_from(seconds).ok());
        seconds
            .map_or(ours, Duration::from_secs)
            .clamp(ours, 4 * ours)
    }

    /// Whether both belong to one term of one holder.
    pub(super) fn is_same_term(&self, other: &Self) -> bool {
        (&self.holder, &self.acquired, self.transitions)
            == (&other.holder, &other.acquired, other.transitions)
    }
}

impl Found {
    pub(super) fn new(object: DynamicObject) -> Self {
        let spec = object.data.get("spec");
        let field = |name| spec.and_then(|spec| spec.get(name));
        let record = Record {
            holder: field("holderIdentity")
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned(),
            seconds: field("leaseDurationSeconds").and_then(Value::as_i64),
            acquired: field("acquireTime").cloned().unwrap_or_default(),
            renewed: field("renewTime").cloned().unwrap_or_default(),
            transitions: field("leaseTransitions")
                .and_then(Value::as_i64)
                .unwrap_or_default(),
        };
        Self { object, record }
    }

    pub(super) fn record(&self) -> &Record {
        &self.record
    }

    /// The Lease with its holder's renewal.
    pub(super) fn renewed(&self, duration: Duration, now: Timestamp) -> DynamicObject {
        with(
            &self.object,
            [
                ("leaseDurationSeconds", seconds(duration)),
                ("renewTime", json!(MicroTime(now))),
            ],
        )
    }

    /// The Lease in the hands of `identity`.
    pub(super) fn claimed(
        &self,
        identity: &str,
        duration: Duration,
        now: Timestamp,
    ) -> DynamicObject {
        let transitions = self.record.transitions.clamp(0, i64::from(i32::MAX) - 1) + 1;
        with(
            &self.object,
            [
                ("holderIdentity", json!(identity)),
                ("leaseDurationSeconds", seconds(duration)),
                ("acquireTime", json!(MicroTime(now))),
                ("renewTime", json!(MicroTime(now))),
                ("leaseTransitions", json!(transitions)),
            ],
        )
    }

    /// The Lease that nobody holds, so that others need not wait.
    pub(super) fn released(&self, now: Timestamp) -> DynamicObject {
        with(
            &self.object,
            [
                ("holderIdentity", json!("")),
                ("leaseDurationSeconds", json!(1)),
                ("renewTime", json!(MicroTime(now))),
            ],
        )
    }
}

/// A Lease that does not exist yet, in the hands of `identity`.
pub(super) fn first(
    name: &str,
    kind: &ApiResource,
    identity: &str,
    duration: Duration,
    now: Timestamp,
) -> DynamicObject {
    let object = DynamicObject::new(name, kind);
    with(
        &object,
        [
            ("holderIdentity", json!(identity)),
            ("leaseDurationSeconds", seconds(duration)),
            ("acquireTime", json!(MicroTime(now))),
            ("renewTime", json!(MicroTime(now))),
            ("leaseTransitions", json!(0)),
        ],
    )
}

/// The object with these fields of its `spec` changed.
fn with<const N: usize>(object: &DynamicObject, fields: [(&str, Value); N]) -> DynamicObject {
    let mut object = object.clone();
    // The server keeps them by itself when they are not sent.
    object.metadata.managed_fields = None;
    let mut spec = match object.data.get_mut("spec").map(Value::take) {
        Some(Value::Object(spec)) => spec,
        _ => Map::new(),
    };
    spec.extend(fields.map(|(name, value)| (name.to_owned(), value)));
    match &mut object.data {
        Value::Object(data) => _ = data.insert("spec".to_owned(), Value::Object(spec)),
        data => *data = json!({ "spec": spec }),
    }
    object
}

fn seconds(duration: Duration) -> Value {
    json!(i32::try_from(duration.as_secs().max(1)).unwrap_or(i32::MAX))
}
