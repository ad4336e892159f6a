//! What goes wrong between the source and the API server, sorted by what helps.

use std::error::Error as _;
use std::fmt;
use std::time::Duration;

use kube::core::Status;

use super::kind::Kind;

/// The sort of a failure, as metrics name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FailureSort {
    /// No connection, or one that broke.
    Connection,
    /// A watch that said nothing any more, or a request that was not answered in time.
    Silent,
    /// Bytes that are no answer of an API server.
    Garbled,
    /// 401: the credentials are not accepted.
    Unauthorized,
    /// 403: the credentials do not suffice.
    Forbidden,
    /// 410: the server no longer knows the version that was asked for.
    Gone,
    /// The server has no streaming lists.
    StreamingRefused,
    /// A watch that the server ended at once.
    Ended,
    /// Any other error of the request, which the server will not answer otherwise until something changes.
    Refused,
    /// An error of the server, which may pass.
    Server,
}

impl FailureSort {
    /// As metrics name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::Silent => "silent",
            Self::Garbled => "garbled",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::Gone => "gone",
            Self::StreamingRefused => "streaming-refused",
            Self::Ended => "ended",
            Self::Refused => "refused",
            Self::Server => "server",
        }
    }
}

/// Why a request or a watch came to nothing.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) sort: FailureSort,
    pub(super) message: String,
    /// What the server asks to wait.
    pub(super) retry_after: Duration,
}

/// What a request asked for, as far as its failure means something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// A watch that begins with all objects.
    StreamingList,
    /// Anything else.
    Other,
}

impl Failure {
    pub(super) fn new(sort: FailureSort, message: impl Into<String>) -> Self {
        Self {
            sort,
            message: message.into(),
            retry_after: Duration::ZERO,
        }
    }

    /// The server said no.
    pub(super) fn of_status(status: &Status, asked: Asked) -> Self {
        let about_streaming = status.message.contains("sendInitialEvents");
        let sort = match status.code {
            400 | 422 if asked == Asked::StreamingList => FailureSort::StreamingRefused,
            403 if asked == Asked::StreamingList && about_streaming => {
                FailureSort::StreamingRefused
            }
            401 => FailureSort::Unauthorized,
            403 => FailureSort::Forbidden,
            410 => FailureSort::Gone,
            400..=428 | 430..=499 => FailureSort::Refused,
            _ => FailureSort::Server,
        };
        let details = status.details.as_ref();
        let seconds = details.map_or(0, |details| details.retry_after_seconds);
        let message = match (status.message.as_str(), status.reason.as_str()) {
            ("", reason) => format!("{} {reason}", status.code),
            (message, _) => format!("{} {}", status.code, first_line(message)),
        };
        Self {
            sort,
            message,
            // A server that asks for hours is not obeyed.
            retry_after: Duration::from_secs(seconds.min(60).into()),
        }
    }

    pub(super) fn of_client(error: &kube::Error, asked: Asked) -> Self {
        match error {
            kube::Error::Api(status) => Self::of_status(status, asked),
            kube::Error::SerdeError(error) => {
                // The text of the error may quote the answer, which may be secret.
                let message = format!("line {} column {}", error.line(), error.column());
                Self::new(FailureSort::Garbled, message)
            }
            kube::Error::FromUtf8(_) => Self::new(FailureSort::Garbled, "not UTF-8"),
            other => Self::new(FailureSort::Connection, innermost(other)),
        }
    }

    pub(super) fn silent(after: Duration) -> Self {
        let message = format!("no answer within {after:?}");
        Self::new(FailureSort::Silent, message)
    }

    /// Whether the server understood the request and will not do it: as good an answer as any, for those who only
    /// need to know that it was asked.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(self.sort, FailureSort::Forbidden | FailureSort::Refused)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// What to grant so that a watch of the kind is not forbidden.
pub(super) fn grant(kind: Kind, namespace: Option<&str>) -> String {
    let group = match kind.group() {
        "" => "\"\"",
        group => group,
    };
    let verbs = match kind {
        Kind::Secret => "get, list, watch",
        _ => "list, watch",
    };
    let role = match namespace {
        Some(namespace) => format!("a Role in namespace {namespace}"),
        None => "a ClusterRole".to_owned(),
    };
    format!(
        "grant verbs [{verbs}] on resource {} of API group {group} by {role} to Tidegate's service account",
        kind.resource()
    )
}

/// What lies at the bottom of an error: the layers above it say less.
fn innermost(error: &kube::Error) -> String {
    let mut text = first_line(&error.to_string()).to_owned();
    let mut next = error.source();
    while let Some(error) = next {
        text = first_line(&error.to_string()).to_owned();
        next = error.source();
    }
    text
}

fn first_line(text: &str) -> &str {
    let line = text.lines().next().unwrap_or_default().trim();
    let end = line
        .char_indices()
        .nth(300)
        .map_or(line.len(), |(end, _)| end);
    &line[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(code: u16, message: &str) -> Status {
        Status::failure(message, "Reason").with_code(code)
    }

    #[test]
    fn a_refused_streaming_list_is_told_from_missing_rights() {
        let sort = |code, message, asked| Failure::of_status(&status(code, message), asked).sort;
        let refusal = "ListOptions is invalid: sendInitialEvents: Forbidden: sendInitialEvents is forbidden for watch \
                       unless the WatchList feature gate is enabled";
        let rights = "ingresses.networking.k8s.io is forbidden: User \"x\" cannot watch resource";
        let streaming = Asked::StreamingList;
        assert_eq!(sort(422, refusal, streaming), FailureSort::StreamingRefused);
        assert_eq!(sort(403, refusal, streaming), FailureSort::StreamingRefused);
        assert_eq!(sort(400, "bad", streaming), FailureSort::StreamingRefused);
        assert_eq!(sort(403, rights, streaming), FailureSort::Forbidden);
        assert_eq!(sort(422, refusal, Asked::Other), FailureSort::Refused);
        assert_eq!(sort(429, "later", streaming), FailureSort::Server);
        assert_eq!(sort(503, "", streaming), FailureSort::Server);
        assert_eq!(sort(401, "", streaming), FailureSort::Unauthorized);
        assert_eq!(sort(410, "too old", Asked::Other), FailureSort::Gone);
    }

    #[test]
    fn an_error_is_told_in_one_short_line() {
        let long = format!("{}\nsecond", "é".repeat(1000));
        let failure = Failure::of_status(&status(500, &long), Asked::Other);
        assert_eq!(failure.message, format!("500 {}", "é".repeat(300)));
        assert!(Failure::of_status(&status(404, ""), Asked::Other).is_refusal());
    }

    #[test]
    fn the_rule_to_grant_is_named_whole() {
        assert_eq!(
            grant(Kind::Ingress, None),
            "grant verbs [list, watch] on resource ingresses of API group networking.k8s.io by a ClusterRole to \
             Tidegate's service account"
        );
        assert!(grant(Kind::Secret, Some("a")).contains(
            "[get, list, watch] on resource secrets of API group \"\" by a Role in namespace a"
        ));
    }
}
