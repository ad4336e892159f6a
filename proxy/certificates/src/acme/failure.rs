//! What went wrong at a CA, what that means for the next attempt, and what to do about it.

use std::fmt;
use std::time::Duration;

use http::StatusCode;
use instant_acme::{Identifier, Problem};
use thiserror::Error;
use tidegate_model::HostPattern;

use crate::acme::jws::KeyError;
use crate::http::{HttpError, excerpt};
use crate::ledger::{Failure, FailureKind};
use crate::store::StoreError;

/// What precedes the word in an ACME error's type (RFC 8555 section 6.7).
const PREFIX: &str = "urn:ietf:params:acme:error:";

/// Why a request to a CA came to nothing.
#[derive(Debug, Error)]
pub(crate) enum AcmeError {
    /// This process may not ask any more: nothing was sent.
    #[error("{0}")]
    NotAsked(StoreError),
    /// No answer.
    #[error("{0}")]
    Http(#[from] HttpError),
    /// The CA says no.
    #[error("{0}")]
    Refused(Box<Refusal>),
    /// An answer that is none of an ACME server.
    #[error("{url} is no ACME server, or not well: {what}")]
    NotAcme {
        /// What was asked.
        url: String,
        /// What was seen.
        what: String,
    },
    /// A URL that cannot be asked.
    #[error("'{0}' is no URL: {1}")]
    Url(String, String),
    /// The CA does not offer something.
    #[error("the CA does not offer {0}")]
    Unsupported(&'static str),
    /// A key of ours.
    #[error("the account's key: {0}")]
    Key(#[from] KeyError),
    /// The CA takes its time.
    #[error("the CA has not come to an end within {} s", .0.as_secs())]
    Slow(Duration),
}

impl AcmeError {
    /// An answer of `url` that is not ACME.
    pub(crate) fn not_acme(url: &str, what: &str, body: &[u8]) -> Self {
        let what = match excerpt(body) {
            body if body.is_empty() => what.to_owned(),
            body => format!("{what}: {body}"),
        };
        Self::NotAcme {
            url: url.to_owned(),
            what,
        }
    }

    /// What the CA said, if it said something.
    pub(crate) fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            _ => None,
        }
    }

    /// Takes an error of `instant-acme` in, of a request to the CA of this directory.
    pub(crate) fn from_client(error: instant_acme::Error, directory: &str) -> Self {
        match error {
            instant_acme::Error::Other(error) => match error.downcast::<Self>() {
                Ok(error) => *error,
                Err(error) => Self::not_acme(directory, &error.to_string(), b""),
            },
            instant_acme::Error::Api(problem) => {
                Self::Refused(Box::new(Refusal::of_problem(directory, &problem)))
            }
            instant_acme::Error::Unsupported(what) => Self::Unsupported(what),
            other => Self::not_acme(directory, &other.to_string(), b""),
        }
    }
}

/// Where a CA says no.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// In the answer to a request.
    Answer,
    /// In an order or challenge: what its validation came to.
    Validation,
}

/// What a CA said no with.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    /// Host and port of the CA.
    pub(crate) host: String,
    /// Where it was.
    pub(crate) origin: Origin,
    /// Status of the answer, or the one that the error tells.
    pub(crate) status: Option<StatusCode>,
    /// The word of the error's type, such as `rateLimited`; of another namespace, the whole type.
    pub(crate) kind: Option<String>,
    /// What it says to people.
    pub(crate) detail: String,
    /// The names that it is about, where it tells, each with a word and a text of its own.
    pub(crate) names: Vec<(String, String)>,
    /// How long the CA wants to be left alone.
    pub(crate) retry_after: Option<Duration>,
}

impl Refusal {
    /// An answer with a problem document.
    pub(crate) fn new(
        host: String,
        status: StatusCode,
        problem: &Problem,
        retry_after: Option<Duration>,
    ) -> Self {
        let mut refusal = Self {
            status: Some(status),
            retry_after,
            ..Self::from_problem(host, Origin::Answer, problem)
        };
        if refusal.detail.is_empty() && refusal.kind.is_none() {
            refusal.detail = status.to_string();
        }
        refusal
    }

    /// An error that is part of an order or challenge at the CA of this directory.
    pub(crate) fn of_problem(directory: &str, problem: &Problem) -> Self {
        Self::from_problem(host_of(directory), Origin::Validation, problem)
    }

    fn from_problem(host: String, origin: Origin, problem: &Problem) -> Self {
        let names = problem.subproblems.iter().filter_map(|part| {
            let Some(Identifier::Dns(name)) = &part.identifier else {
                return None;
            };
            Some((name.clone(), part.detail.clone().unwrap_or_default()))
        });
        // Where all parts have the same type it says more than that of the whole, which may be "compound".
        let parts: std::collections::BTreeSet<_> = problem
            .subproblems
            .iter()
            .filter_map(|part| part.r#type.as_deref())
            .collect();
        let kind = match problem.r#type.as_deref() {
            Some("urn:ietf:params:acme:error:compound") | None if parts.len() == 1 => {
                parts.first().copied()
            }
            kind => kind,
        };
        Self {
            host,
            origin,
            status: problem
                .status
                .and_then(|status| StatusCode::from_u16(status).ok()),
            kind: kind.map(|kind| kind.strip_prefix(PREFIX).unwrap_or(kind).to_owned()),
            detail: problem.detail.clone().unwrap_or_default(),
            names: names.collect(),
            retry_after: None,
        }
    }

    /// Whether its type is this word.
    pub(crate) fn is(&self, kind: &str) -> bool {
        self.kind.as_deref() == Some(kind)
    }

    /// Whether the CA does not know what was asked for.
    pub(crate) fn is_unknown(&self) -> bool {
        self.status == Some(StatusCode::NOT_FOUND)
    }

    /// What it means for the next attempt.
    pub(crate) fn failure_kind(&self) -> FailureKind {
        match (self.kind.as_deref(), self.origin) {
            (Some("rateLimited"), _) => FailureKind::RateLimited,
            (Some("serverInternal" | "badNonce"), _) => FailureKind::Unavailable,
            (Some("rejectedIdentifier" | "unsupportedIdentifier" | "caa"), _) => {
                FailureKind::Permanent
            }
            (_, Origin::Validation) => FailureKind::Validation,
            (Some(kind), Origin::Answer) => self.kind_of_answer(kind),
            (None, Origin::Answer) => self.kind_by_status(),
        }
    }

    fn kind_of_answer(&self, kind: &str) -> FailureKind {
        match kind {
            "dns" | "connection" | "incorrectResponse" | "tls" => FailureKind::Validation,
            "malformed" => FailureKind::Permanent,
            "orderNotReady" | "alreadyReplaced" | "conflict" => FailureKind::Internal,
            "externalAccountRequired"
            | "invalidContact"
            | "unsupportedContact"
            | "invalidProfile"
            | "userActionRequired"
            | "accountDoesNotExist"
            | "badSignatureAlgorithm"
            | "badPublicKey"
            | "badCSR"
            | "unauthorized" => FailureKind::Settings,
            _ => self.kind_by_status(),
        }
    }

    fn kind_by_status(&self) -> FailureKind {
        match self.status {
            Some(StatusCode::TOO_MANY_REQUESTS) => FailureKind::RateLimited,
            Some(StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED) => FailureKind::Settings,
            Some(status) if status.is_client_error() && self.kind.is_some() => {
                FailureKind::Permanent
            }
            _ => FailureKind::Unavailable,
        }
    }

    fn advice(&self) -> &'static str {
        match self.kind.as_deref() {
            Some("rateLimited") => {
                "it is asked again later; order fewer certificates or use another issuer"
            }
            Some("rejectedIdentifier" | "unsupportedIdentifier") => {
                "take the name out, or use an issuer that issues for it"
            }
            Some("caa") => "allow the CA in the CAA records of the name, or use another issuer",
            Some("dns") => {
                "have the name resolve to these nodes, and see that its DNS zone is healthy"
            }
            Some("connection") => {
                "let the CA reach the nodes: DNS, firewalls and load balancers in front of ports 80 and 443"
            }
            Some("tls") => {
                "let the CA reach port 443 of the nodes without anything between that ends TLS"
            }
            Some("unauthorized") if self.origin == Origin::Answer => {
                "the account is not allowed this: see at the CA whether it was deactivated"
            }
            Some("unauthorized" | "incorrectResponse" | "malformed")
                if self.origin == Origin::Validation =>
            {
                "see that the name resolves to these nodes only, and that nothing in front of them answers instead"
            }
            Some("externalAccountRequired") => {
                "set externalAccount of the issuer to what the CA gave you"
            }
            Some("invalidContact" | "unsupportedContact") => "correct the contact of the issuer",
            Some("invalidProfile") => "set the profile of the issuer to one that the CA offers",
            Some("userActionRequired") => "do what the CA asks for, such as agreeing to new terms",
            Some("badCSR" | "badPublicKey" | "badSignatureAlgorithm") => {
                "set the key type of the issuer to one that the CA accepts"
            }
            _ if self.failure_kind() == FailureKind::Settings => {
                "check the directory URL of the issuer"
            }
            _ => "it is tried again",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} answers", self.host)?;
        match (&self.kind, self.status) {
            (Some(kind), _) => write!(f, " {kind}")?,
            (None, Some(status)) => write!(f, " {status}")?,
            (None, None) => {}
        }
        if !self.detail.is_empty() {
            write!(f, ": {}", self.detail)?;
        }
        for (name, detail) in &self.names {
            if !self.detail.contains(detail.as_str()) || !self.detail.contains(name.as_str()) {
                write!(f, "; {name}: {detail}")?;
            }
        }
        if let Some(wait) = self.retry_after {
            write!(f, " (Retry-After: {} s)", wait.as_secs())?;
        }
        write!(f, "; {}", self.advice())
    }
}

impl Failure {
    /// A failure after which the order is gone on with.
    pub(crate) fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            retry_after: None,
            keep_order: true,
            failed_names: Vec::new(),
        }
    }

    /// The same, but the order is of no use any more.
    #[must_use]
    pub(crate) fn without_order(mut self) -> Self {
        self.keep_order = false;
        self
    }
}

impl From<AcmeError> for Failure {
    fn from(error: AcmeError) -> Self {
        let kind = match &error {
            AcmeError::NotAsked(_) | AcmeError::Key(KeyError::Crypto) => FailureKind::Internal,
            AcmeError::Http(HttpError::NoRoots(_) | HttpError::Bundle(_))
            | AcmeError::Url(..)
            | AcmeError::Unsupported(_)
            | AcmeError::Key(_) => FailureKind::Settings,
            AcmeError::Http(_) | AcmeError::NotAcme { .. } | AcmeError::Slow(_) => {
                FailureKind::Unavailable
            }
            AcmeError::Refused(refusal) => refusal.failure_kind(),
        };
        let mut failure = Self::new(kind, error.to_string());
        if let AcmeError::Refused(refusal) = error {
            failure.retry_after = refusal.retry_after;
            let names = refusal.names.iter();
            failure.failed_names = names
                .filter_map(|(name, _)| HostPattern::parse(name).ok())
                .collect();
        }
        failure
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::new(
            FailureKind::Internal,
            format!("what has to survive cannot be written: {error}"),
        )
    }
}

/// Host and port of a URL.
pub(crate) fn host_of(url: &str) -> String {
    let host = url.parse::<http::Uri>().ok();
    let host = host.and_then(|url| url.authority().map(ToString::to_string));
    host.unwrap_or_else(|| "the CA".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(status: u16, json: &str) -> Refusal {
        let problem = serde_json::from_str(json).unwrap();
        let status = StatusCode::from_u16(status).unwrap();
        Refusal::new("ca.test".to_owned(), status, &problem, None)
    }

    fn kind(status: u16, word: &str) -> FailureKind {
        let json = format!(r#"{{"type":"urn:ietf:params:acme:error:{word}","detail":"no"}}"#);
        refusal(status, &json).failure_kind()
    }

    #[test]
    fn refusals_are_waited_out_by_what_they_mean() {
        for (status, word, wanted) in [
            (429, "rateLimited", FailureKind::RateLimited),
            (503, "rateLimited", FailureKind::RateLimited),
            (500, "serverInternal", FailureKind::Unavailable),
            (400, "badNonce", FailureKind::Unavailable),
            (400, "rejectedIdentifier", FailureKind::Permanent),
            (403, "caa", FailureKind::Permanent),
            (400, "unsupportedIdentifier", FailureKind::Permanent),
            (401, "externalAccountRequired", FailureKind::Settings),
            (400, "invalidProfile", FailureKind::Settings),
            (403, "unauthorized", FailureKind::Settings),
            (400, "dns", FailureKind::Validation),
            (400, "connection", FailureKind::Validation),
            (400, "incorrectResponse", FailureKind::Validation),
            (400, "somethingNew", FailureKind::Permanent),
            (502, "somethingNew", FailureKind::Unavailable),
        ] {
            assert_eq!(kind(status, word), wanted, "{status} {word}");
        }
        assert_eq!(refusal(429, "{}").failure_kind(), FailureKind::RateLimited);
        assert_eq!(refusal(404, "{}").failure_kind(), FailureKind::Settings);
        assert_eq!(refusal(403, "{}").failure_kind(), FailureKind::Unavailable);
    }

    #[test]
    fn unauthorized_means_the_answer_was_wrong_only_where_something_was_validated() {
        let json =
            r#"{"type":"urn:ietf:params:acme:error:unauthorized","detail":"404","status":403}"#;
        let problem = serde_json::from_str(json).unwrap();
        let refusal = Refusal::of_problem("https://ca.test/dir", &problem);
        assert_eq!(refusal.failure_kind(), FailureKind::Validation);
        assert_eq!(refusal.host, "ca.test");
    }

    #[test]
    fn a_refusal_names_host_names_and_what_to_do() {
        let refusal = refusal(
            400,
            r#"{"type":"urn:ietf:params:acme:error:compound","detail":"Errors",
            "subproblems":[{"type":"urn:ietf:params:acme:error:rejectedIdentifier","detail":"not this one",
            "identifier":{"type":"dns","value":"a.test"}}]}"#,
        );
        assert_eq!(
            refusal.to_string(),
            "ca.test answers rejectedIdentifier: Errors; a.test: not this one; \
             take the name out, or use an issuer that issues for it"
        );
        let failure = Failure::from(AcmeError::Refused(Box::new(refusal)));
        assert_eq!(
            failure.failed_names,
            [HostPattern::parse("a.test").unwrap()]
        );
        assert_eq!(failure.kind, FailureKind::Permanent);
    }
}
