//! Who makes TXT records: one file for each way.

mod cloudflare;
mod exec;
mod rfc2136;
mod route53;
mod webhook;

use futures_util::future::{BoxFuture, FutureExt, ready};
use hickory_proto::rr::Name;
use http::StatusCode;
use thiserror::Error;

use self::cloudflare::Cloudflare;
use self::exec::Exec;
use self::rfc2136::{Key, Rfc2136};
use self::route53::Route53;
use self::webhook::Webhook;
use super::DnsError;
use crate::http::{HttpClient, HttpError};
use crate::issuer::{DnsProvider, SecretSource};
use crate::secret::SecretError;
use crate::store::Store;

/// Seconds that resolvers may keep a record (RFC 1035 section 4.1.3).
const TTL: u32 = 60;

/// A TXT record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TxtRecord {
    /// Its name.
    pub name: Name,
    /// The zone that holds it.
    pub zone: Name,
    /// Its value.
    pub value: String,
}

/// What a provider gave for a change, to ask later what has become of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Receipt(Option<String>);

/// Makes and removes TXT records.
pub trait Provider: Send + Sync {
    /// The provider, as settings call it.
    fn name(&self) -> &'static str;

    /// Makes a record beside others of its name, which stay as they are. One that is there already is left there.
    ///
    /// # Errors
    /// The record is not there, or is not known to be.
    fn present<'a>(
        &'a self,
        record: &'a TxtRecord,
    ) -> BoxFuture<'a, Result<Receipt, ProviderError>>;

    /// Waits, for as long as the caller does, until the provider says that its servers have a change.
    ///
    /// # Errors
    /// The provider cannot be asked.
    fn settled<'a>(&'a self, _: &'a Receipt) -> BoxFuture<'a, Result<(), ProviderError>> {
        ready(Ok(())).boxed()
    }

    /// Removes this value and no other of its name. One that is not there is removed already.
    ///
    /// # Errors
    /// The record is there, or is not known not to be.
    fn cleanup<'a>(&'a self, record: &'a TxtRecord) -> BoxFuture<'a, Result<(), ProviderError>>;
}

/// Why a provider did not do what it was asked for.
#[derive(Debug, Error)]
pub enum ProviderError {
    /// It will not until somebody changes something: the message says what.
    #[error("{0}")]
    Refused(String),
    /// It may another time.
    #[error("{0}")]
    Unavailable(String),
}

impl From<HttpError> for ProviderError {
    fn from(error: HttpError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

impl ProviderError {
    /// What an HTTP status other than success means.
    fn of_status(status: StatusCode, message: String) -> Self {
        let may_pass = status.is_server_error()
            || status == StatusCode::TOO_MANY_REQUESTS
            || status == StatusCode::REQUEST_TIMEOUT;
        match may_pass {
            true => Self::Unavailable(message),
            false => Self::Refused(message),
        }
    }
}

/// Names of the environment's credentials of AWS.
const AWS_ENVIRONMENT: [&str; 3] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
];

/// The provider of these settings, with the secrets that they name.
///
/// # Errors
/// A secret cannot be read, or the settings cannot be right.
pub async fn open(
    settings: &DnsProvider,
    store: &impl Store,
) -> Result<Box<dyn Provider>, DnsError> {
    let provider = name(settings);
    let secret = |source: SecretError| DnsError::Secret { provider, source };
    let wrong = |reason: String| DnsError::Settings { provider, reason };
    let client = || HttpClient::new(None).map_err(|error| wrong(error.to_string()));
    Ok(match settings {
        DnsProvider::Rfc2136 {
            server,
            key_name,
            algorithm,
            key,
        } => {
            let key = Key {
                name: key_name,
                algorithm: *algorithm,
                base64: key.read(store).await.map_err(secret)?,
            };
            Box::new(Rfc2136::new(*server, &key).map_err(wrong)?)
        }
        DnsProvider::Route53 {
            hosted_zone_id,
            region,
            endpoint,
            credentials,
        } => {
            let environment = |name: &str| SecretSource::Environment(name.to_owned());
            let [id, key, session] = AWS_ENVIRONMENT.map(environment);
            let credentials = match credentials {
                Some(ours) => route53::Credentials {
                    id: ours.id.read(store).await.map_err(secret)?,
                    secret: ours.secret.read(store).await.map_err(secret)?,
                    session: None,
                },
                None => route53::Credentials {
                    id: id.read(store).await.map_err(secret)?,
                    secret: key.read(store).await.map_err(secret)?,
                    session: match session.read(store).await {
                        Ok(token) => Some(token),
                        Err(SecretError::Missing(_)) => None,
                        Err(error) => return Err(secret(error)),
                    },
                },
            };
            let endpoint = endpoint.as_deref();
            let zone = hosted_zone_id.as_deref();
            Box::new(Route53::new(zone, region, endpoint, &credentials).map_err(wrong)?)
        }
        DnsProvider::Cloudflare { token, endpoint } => {
            let token = token.read(store).await.map_err(secret)?;
            Box::new(Cloudflare::new(client()?, &token, endpoint.as_deref()).map_err(wrong)?)
        }
        DnsProvider::Webhook { url, token } => {
            let token = match token {
                Some(token) => Some(token.read(store).await.map_err(secret)?),
                None => None,
            };
            let token = token.as_ref().map(|token| token.as_str());
            Box::new(Webhook::new(client()?, url, token).map_err(wrong)?)
        }
        DnsProvider::Exec { command } => Box::new(Exec::new(command).map_err(wrong)?),
    })
}

/// A provider, as settings call it.
pub fn name(settings: &DnsProvider) -> &'static str {
    match settings {
        DnsProvider::Rfc2136 { .. } => "rfc2136",
        DnsProvider::Route53 { .. } => "route53",
        DnsProvider::Cloudflare { .. } => "cloudflare",
        DnsProvider::Webhook { .. } => "webhook",
        DnsProvider::Exec { .. } => "exec",
    }
}
