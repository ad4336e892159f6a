//! What is remembered of orders, so that neither a new leader nor a restart asks the CA twice.
//!
//! The ledger is read from and written to [records](crate::Record), changed by [transitions](Ledger::begin), and looked at
//! by [`plan`](fn@crate::plan::plan). It knows no clock: every transition is told the time.
//!
//! The leader's round is: [`Ledger::load`] once, then again and again [`Ledger::prune`], plan, transitions, and after each
//! transition [`Ledger::unsaved`] is written and told to [`Ledger::saved`] before anything is done that depends on it.

mod backoff;
mod prune;
mod records;
mod transitions;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::names::SetId;

pub(crate) use backoff::share;
pub use records::DIRECTORIES;
pub use transitions::Failure;

/// Seconds since 1970, as records hold them.
pub type Seconds = i64;

/// The ledger of an instance.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ledger {
    /// What is remembered of each set of names.
    pub sets: BTreeMap<SetId, SetEntry>,
    /// What is remembered of each directory, by its URL.
    pub directories: BTreeMap<String, DirectoryEntry>,
    /// What of it is kept already, and what of it could not be read.
    records: records::Records,
}

/// What is remembered of a set of names.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SetEntry {
    /// The names, as they were ordered.
    pub names: Vec<String>,
    /// The order that was begun and has not come to an end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order: Option<InFlight>,
    /// When certificates were issued by a production directory, within the last 7 days.
    pub issued: Vec<Seconds>,
    /// When validations failed at a production directory, within the last hour.
    pub failed_validations: Vec<Seconds>,
    /// Failures one after another since the last success, of whatever kind. Answers that are not seen yet do not count: the
    /// order stays, and nothing has failed at the CA.
    pub failures: u32,
    /// The last failure, until a success.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<RecordedFailure>,
    /// Not before this moment is it tried again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<Seconds>,
    /// Whether the staging directory has issued since the last failure, so that production is next.
    pub rehearsed: bool,
    /// When to renew by the CA's word (RFC 9773).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub renewal: Option<Renewal>,
    /// Since when nobody wants it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unwanted_since: Option<Seconds>,
    /// When a client last asked for it, of a certificate that was made on demand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_demand: Option<Seconds>,
    /// When the first client asked for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_demand_since: Option<Seconds>,
    /// The request to renew (its time as text) that was carried out last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub renewed_for: Option<String>,
}

/// An order that is under way. It is recorded before the CA is asked, and with the URL once the CA has answered. Its `Debug`
/// leaves the key out.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InFlight {
    /// Name of the issuer.
    pub issuer: String,
    /// Directory that it is placed at.
    pub directory: String,
    /// Whether that is the issuer's staging directory.
    pub is_rehearsal: bool,
    /// When it was recorded.
    pub begun: Seconds,
    /// The order's URL; `None` until the CA has told it: then it may or may not exist there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Private key of the certificate, in PEM.
    pub key: String,
}

impl fmt::Debug for InFlight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InFlight")
            .field("issuer", &self.issuer)
            .field("directory", &self.directory)
            .field("is_rehearsal", &self.is_rehearsal)
            .field("begun", &self.begun)
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

/// A failure, as people are told of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RecordedFailure {
    /// When.
    pub at: Seconds,
    /// Of what kind.
    pub kind: FailureKind,
    /// What happened and what to do.
    pub message: String,
    /// Whether it happened at the issuer's staging directory.
    #[serde(default)]
    pub is_rehearsal: bool,
    /// The names that it is about; empty when it is about all of them, or none in particular.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
}

/// Kinds of failures, which are waited out differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// The CA could not be reached, or had trouble of its own.
    Unavailable,
    /// The CA says that it was asked too often.
    RateLimited,
    /// Answers were not seen on every node or name server, so the CA was not asked to validate.
    NotProven,
    /// The CA looked and did not see that a name is ours.
    Validation,
    /// The CA will not issue this whatever is answered: rejected identifier, CAA, unsupported.
    Permanent,
    /// Settings or credentials are wrong.
    Settings,
    /// Anything of our own: a write that was refused, a process that ended.
    Internal,
}

/// When to renew by the CA's word.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Renewal {
    /// Unique identifier of the certificate that it is about (RFC 9773 section 4.1).
    pub certificate: String,
    /// Begin of the suggested window.
    pub start: Seconds,
    /// Its end.
    pub end: Seconds,
    /// The moment in it that was chosen.
    pub at: Seconds,
    /// When the CA is asked again.
    pub ask_at: Seconds,
    /// Where the CA explains.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub explanation: Option<String>,
}

/// What is remembered of a directory.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct DirectoryEntry {
    /// When orders were placed, within the last 3 hours.
    pub orders: Vec<Seconds>,
    /// The CA wants nothing of us before this moment (`Retry-After`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closed_until: Option<Seconds>,
    /// When certificates were issued within the last 7 days, by registered domain. Renewals are not among them: CAs do not
    /// count them by domain.
    pub issued: BTreeMap<String, Vec<Seconds>>,
}

/// A minute.
pub(crate) const MINUTE: Seconds = 60;
/// An hour.
pub(crate) const HOUR: Seconds = 60 * MINUTE;
/// A day.
pub(crate) const DAY: Seconds = 24 * HOUR;
/// The period over which CAs count certificates.
pub(crate) const WEEK: Seconds = 7 * DAY;
/// The period over which CAs count new orders.
pub(crate) const ORDERS_WINDOW: Seconds = 3 * HOUR;

/// A duration in seconds; one that is too long is as long as can be.
pub(crate) fn seconds(duration: std::time::Duration) -> Seconds {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
