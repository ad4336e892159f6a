//! Certificates and accounts that another program has ordered: what is in its file, checked before anything is kept of it.

mod certificate;
mod traefik;

use thiserror::Error;
use tidegate_model::UnixTime;

use crate::names::NameSet;
use crate::store::{IssuedCertificate, Record};

pub use traefik::traefik;

/// Longest file, in bytes.
pub const LONGEST: usize = 64 << 20;
/// Most accounts and certificates of a file.
const MOST: usize = 100_000;

/// What is to be taken out of a file, and what it is to be called.
#[derive(Clone, Debug)]
pub struct Selection<'a> {
    /// What one resolver has ordered, as Traefik calls it; `None` for all.
    pub resolver: Option<&'a str>,
    /// The issuer that certificates are said to be of: one of the settings, so that they are not ordered again.
    pub issuer: &'a str,
    /// The directory that accounts are of; `None`: it is known by their URLs.
    pub directory: Option<&'a str>,
    /// The key identifier of the external account that the issuer binds its account to, if it does.
    pub external_key_id: Option<&'a str>,
    /// What has expired by now is left out.
    pub now: UnixTime,
}

/// What a file holds that can be used.
#[derive(Clone, Debug, Default)]
pub struct Import {
    /// Accounts, one a directory.
    pub accounts: Vec<ImportedAccount>,
    /// Certificates, one a set of names, sorted by these.
    pub certificates: Vec<ImportedCertificate>,
    /// What is left out.
    pub skipped: Vec<Skipped>,
}

/// An account, as it is kept.
#[derive(Clone, Debug)]
pub struct ImportedAccount {
    /// URL of the directory.
    pub directory: String,
    /// Its URL, if that is known; else the CA tells it.
    pub uri: Option<String>,
    /// Its contact.
    pub contact: Vec<String>,
    /// The record that it is used from.
    pub record: Record,
}

/// A certificate.
#[derive(Clone, Debug)]
pub struct ImportedCertificate {
    /// The names that it is valid for.
    pub names: NameSet,
    /// End of its life.
    pub not_after: UnixTime,
    /// The certificate and its key.
    pub issued: IssuedCertificate,
}

/// Something of a file that is left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// What.
    pub what: String,
    /// Why, and what to do where something can be done.
    pub why: String,
}

/// Why nothing can be taken out of a file.
#[derive(Debug, Error)]
pub enum ImportError {
    /// It is too long to be one.
    #[error("it has {0} bytes, and {LONGEST} are the most; is it the right file?")]
    TooLong(usize),
    /// It is no JSON.
    #[error("it is no JSON: {0}; name Traefik's acme.json")]
    NoJson(String),
    /// It is JSON of something else.
    #[error(
        "it is JSON, but no acme.json of Traefik 1, 2 or 3: there is neither an account nor a certificate in it"
    )]
    NotAcme,
    /// It holds more than anybody orders.
    #[error("it holds more than {MOST} certificates; is it the right file?")]
    TooMany,
    /// There is nothing of this resolver.
    #[error(
        "there is nothing of resolver '{wanted}' in it; it has {}",
        listed(found)
    )]
    NoResolver {
        /// What was asked for.
        wanted: String,
        /// What there is.
        found: Vec<String>,
    },
}

fn listed(resolvers: &[String]) -> String {
    match resolvers {
        [] => "no resolvers, as it is of Traefik 1: leave --resolver out".to_owned(),
        names => names.join(", "),
    }
}

#[cfg(test)]
mod tests;
