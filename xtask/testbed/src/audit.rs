//! The API server's audit log: who asked for what.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context, Result};
use jiff::Timestamp;
use serde::Deserialize;
use std::collections::BTreeSet;

/// Every write, and every request of a service account, the reading ones too; nothing of what the testbed itself reads.
pub(crate) const POLICY: &str = r#"apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - level: Metadata
    userGroups: ["system:serviceaccounts"]
  - level: Metadata
    verbs: [create, update, patch, delete, deletecollection]
  - level: None
"#;

/// A request to the API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEvent {
    /// The user, like `system:serviceaccount:tidegate:tidegate`.
    pub user: String,
    /// As RBAC names it: `get`, `list`, `watch`, `create`, `patch`, …
    pub verb: String,
    /// The plural of the kind, like `ingresses`; empty for a path that is no resource.
    pub resource: String,
    /// Like `status`; empty for the object itself.
    pub subresource: String,
    /// Empty for what is in none, and for requests to all of them.
    pub namespace: String,
    /// Empty for a collection.
    pub name: String,
    /// The HTTP status; 0 for a request that was cut off.
    pub code: u16,
    /// When the request came.
    pub time: Timestamp,
    /// The client's `User-Agent`.
    pub user_agent: String,
    /// The request's path and query.
    pub uri: String,
    /// Where it came from: for pods of the host network the address of their node.
    pub address: Option<IpAddr>,
}

/// One line of the log, as far as it is used here (audit.k8s.io/v1 Event).
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    #[serde(rename = "auditID")]
    id: String,
    user: User,
    verb: String,
    #[serde(default)]
    object_ref: Object,
    #[serde(default)]
    response_status: Status,
    #[serde(default)]
    user_agent: String,
    #[serde(default, rename = "requestURI")]
    uri: String,
    request_received_timestamp: Timestamp,
    #[serde(default, rename = "sourceIPs")]
    sources: Vec<IpAddr>,
}

#[derive(Debug, Deserialize)]
struct User {
    username: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Object {
    resource: String,
    subresource: String,
    namespace: String,
    name: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Status {
    code: u16,
}

/// The requests in a log, in the order in which they were answered. A watch is there once, from its first answer on.
pub(crate) fn read(path: &Path) -> Result<Vec<AuditEvent>> {
    let text = fs::read_to_string(path).context("cannot read the audit log")?;
    Ok(parse(&text))
}

fn parse(text: &str) -> Vec<AuditEvent> {
    let mut seen = BTreeSet::new();
    // The last line may be half written.
    let lines = text
        .lines()
        .filter_map(|line| serde_json::from_str::<Line>(line).ok());
    lines
        .filter(|line| seen.insert(line.id.clone()))
        .map(|line| AuditEvent {
            user: line.user.username,
            verb: line.verb,
            resource: line.object_ref.resource,
            subresource: line.object_ref.subresource,
            namespace: line.object_ref.namespace,
            name: line.object_ref.name,
            code: line.response_status.code,
            time: line.request_received_timestamp,
            user_agent: line.user_agent,
            uri: line.uri,
            address: line.sources.first().copied(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = r#"{"auditID":"1","stage":"ResponseStarted","requestURI":"/api/v1/pods?watch=true","verb":"watch","user":{"username":"u"},"userAgent":"a/1","objectRef":{"resource":"pods","apiVersion":"v1"},"responseStatus":{"code":200},"requestReceivedTimestamp":"2026-01-01T00:00:00.5Z"}
{"auditID":"1","stage":"ResponseComplete","requestURI":"/api/v1/pods?watch=true","verb":"watch","user":{"username":"u"},"responseStatus":{"code":200},"requestReceivedTimestamp":"2026-01-01T00:00:00.5Z"}
{"auditID":"2","verb":"patch","user":{"username":"u"},"objectRef":{"resource":"ingresses","namespace":"n","name":"i","subresource":"status"},"responseStatus":{"code":403},"requestReceivedTimestamp":"2026-01-01T00:00:01Z"}
{"auditID":"3","#;

    #[test]
    fn a_watch_counts_once_and_half_a_line_not_at_all() {
        let events = parse(LOG);
        let [watch, patch] = events.as_slice() else {
            panic!("{events:?}");
        };
        assert_eq!((watch.verb.as_str(), watch.code), ("watch", 200));
        assert_eq!(patch.subresource, "status");
        assert_eq!((patch.namespace.as_str(), patch.code), ("n", 403));
        assert!(watch.time < patch.time);
    }
}
