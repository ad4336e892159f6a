//! What is wrong with an object, said so that its owner can put it right.

use std::fmt;

use serde::Serialize;

use crate::ObjectRef;

/// How much a [`Problem`] costs. Ordered from worst to mildest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Something that was asked for is not served.
    Error,
    /// Served, but probably not as meant.
    Warning,
    /// Worth knowing; nothing is amiss.
    Info,
}

/// Why a [`Problem`] was raised: one word of the kind that Kubernetes Events carry in `reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Reason {
    /// A file or a document of it is no YAML or JSON, or no object of its kind; its last good version stays in force.
    InvalidDocument,
    /// A file or folder could not be read; what was read from it before stays in force.
    Unreadable,
    /// A field that the object's kind does not have.
    UnknownField,
    /// An apiVersion that Kubernetes no longer serves.
    UnsupportedVersion,
    /// The same object stands in two places.
    DuplicateObject,
    /// The class is not one that this instance serves, but it nearly is: another case, or another controller.
    ClassMismatch,
    /// An annotation of ours with a value that cannot be meant.
    InvalidAnnotation,
    /// A field value that Kubernetes would have refused.
    InvalidField,
    /// A host that is no DNS name or wildcard.
    InvalidHost,
    /// A path that is not absolute or could never match.
    InvalidPath,
    /// A backend that cannot be used: neither service nor resource, or both.
    InvalidBackend,
    /// `backend.resource` is not supported.
    ResourceBackend,
    /// The Service does not exist.
    ServiceNotFound,
    /// The Service has no such port.
    PortNotFound,
    /// The Service has no endpoint that can take a request.
    NoEndpoints,
    /// An ExternalName that does not resolve.
    NameNotResolved,
    /// An appProtocol that is not spoken.
    UnsupportedProtocol,
    /// Two rules claim the same host and path; the older is served.
    RouteConflict,
    /// Two Ingresses name different Secrets for one TLS host; the older is served.
    CertificateConflict,
    /// The Secret does not exist.
    SecretNotFound,
    /// The Secret has no usable `tls.crt` and `tls.key`.
    SecretMalformed,
    /// The certificate's life is over.
    CertificateExpired,
    /// The certificate's life has not begun.
    CertificateNotYetValid,
    /// Certificate and key do not belong together.
    KeyMismatch,
    /// The certificate does not cover a host that it is named for.
    HostNotCovered,
    /// A host under `spec.tls` that no rule uses.
    UnusedTlsHost,
    /// An entry of a Secret with challenge answers that is none.
    InvalidChallengeAnswer,
    /// The CA refused to issue, or could not see that a name is ours.
    OrderFailed,
    /// An answer to a challenge is not seen where it has to be, so the CA was not asked to look.
    ChallengeNotServed,
    /// An issuer that the settings do not have, or that cannot issue what is asked for.
    InvalidIssuer,
    /// The Secret is not Tidegate's: it is served as it is, and no certificate is ordered for it.
    SecretNotOwned,
    /// A cipher suite that is not offered.
    UnsupportedCipherSuite,
    /// There is no object for a namespace whose labels decide about its Ingresses.
    NamespaceNotFound,
    /// The object has more problems than are listed.
    TooManyProblems,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// One thing that is wrong with one object. Its neighbours, and the rest of the object, are not affected.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Problem {
    /// What it costs.
    pub level: Level,
    /// The object to put right.
    pub object: ObjectRef,
    /// Path of the field within the object, such as `spec.rules[0].http.paths[1].path`; empty when it is the object as a whole.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub field: String,
    /// The kind of trouble, in one word.
    pub reason: Reason,
    /// The value found, what follows from it, and what to do. One or two sentences.
    pub message: String,
}

/// Most characters of a field's path that a Problem has.
const FIELD: usize = 300;
/// Most characters of its message: Events hold no more (events.k8s.io/v1 `note`).
const MESSAGE: usize = 1000;

impl Problem {
    /// The Problem with its texts cut to what people read and an Event holds. Values that are quoted in them should
    /// have been [shortened](crate::Excerpt) before.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        cut(&mut self.field, FIELD);
        cut(&mut self.message, MESSAGE);
        self
    }
}

fn cut(text: &mut String, limit: usize) {
    // A character has at least one byte, so this rules most texts out.
    if text.len() > limit
        && let Some((end, _)) = text.char_indices().nth(limit)
    {
        text.truncate(end);
        text.push('…');
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Error => "error",
            Level::Warning => "warning",
            Level::Info => "info",
        };
        write!(f, "{level}: {}", self.object)?;
        if !self.field.is_empty() {
            write!(f, " {}", self.field)?;
        }
        write!(f, ": {}: {}", self.reason, self.message)
    }
}
