//! What a process that serves can be asked about certificates.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Method, Response, StatusCode};
use http_body_util::Full;
use serde::Serialize;
use thiserror::Error;
use tidegate_certificates::Report;
use tidegate_model::HostPattern;

use super::Facts;
use crate::admin;

/// Why a question has no answer, or nothing was done.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(crate) enum CertsError {
    /// There is no such certificate or issuer.
    #[error("{0}")]
    Unknown(String),
    /// It cannot be now.
    #[error("{0}")]
    Unavailable(String),
}

impl CertsError {
    /// The status of a page that says so.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::Unknown(_) => StatusCode::NOT_FOUND,
            Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// Answers questions about certificates.
pub(crate) trait CertsPages: fmt::Debug + Send + Sync {
    /// How all of them stand.
    fn report(&self) -> BoxFuture<'_, Result<Arc<Report>, CertsError>>;

    /// Has the certificates for a name ordered again, whatever the plan says.
    fn renew(&self, name: HostPattern) -> BoxFuture<'_, Result<(), CertsError>>;

    /// What a trial of a name needs to know.
    fn facts(&self) -> BoxFuture<'_, Result<Facts, CertsError>>;

    /// Orders a certificate for a name at the staging directory of an issuer, throws it away, and tells what was done.
    fn rehearse(
        &self,
        name: HostPattern,
        issuer: Option<String>,
    ) -> BoxFuture<'_, Result<String, CertsError>>;
}

/// The pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CertsPage {
    /// How all of them stand.
    Report,
    /// What a trial needs to know.
    Facts,
    /// `?name=`: order again.
    Renew,
    /// `?name=&issuer=`: an order at a staging directory.
    Rehearse,
}

impl CertsPage {
    /// The page at this path.
    pub(crate) fn at(path: &str) -> Option<Self> {
        match path {
            "/certs" => Some(Self::Report),
            "/certs/facts" => Some(Self::Facts),
            "/certs/renew" => Some(Self::Renew),
            "/certs/rehearse" => Some(Self::Rehearse),
            _ => None,
        }
    }

    /// The method that it is asked for with; one that has something done is asked by POST.
    pub(crate) fn method(self) -> Method {
        match self {
            Self::Report | Self::Facts => Method::GET,
            Self::Renew | Self::Rehearse => Method::POST,
        }
    }

    /// What it says.
    pub(crate) async fn answer(self, certs: &dyn CertsPages, query: &str) -> Response<Full<Bytes>> {
        let answered = match self {
            Self::Report => certs.report().await.map(|report| json(&*report)),
            Self::Facts => certs.facts().await.map(|facts| json(&facts)),
            Self::Renew | Self::Rehearse => {
                let Some(name) = name(query) else {
                    let text =
                        "write ?name=HOST with a DNS name or a wildcard such as *.example.com\n";
                    return admin::plain(StatusCode::BAD_REQUEST, text);
                };
                self.act(certs, name, query).await
            }
        };
        answered.unwrap_or_else(|error| admin::plain(error.status(), format!("{error}\n")))
    }

    async fn act(
        self,
        certs: &dyn CertsPages,
        name: HostPattern,
        query: &str,
    ) -> Result<Response<Full<Bytes>>, CertsError> {
        let text = match self {
            Self::Rehearse => {
                let issuer = value(query, "issuer").map(str::to_owned);
                certs.rehearse(name, issuer).await?
            }
            _ => {
                let text =
                    format!("{name} is asked for; `tidegate certs` shows what becomes of it");
                certs.renew(name).await?;
                text
            }
        };
        Ok(admin::plain(StatusCode::OK, format!("{text}\n")))
    }
}

fn json<T: Serialize>(value: &T) -> Response<Full<Bytes>> {
    match serde_json::to_vec_pretty(value) {
        Ok(mut text) => {
            text.push(b'\n');
            admin::page(StatusCode::OK, admin::JSON, text)
        }
        Err(error) => admin::plain(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

fn name(query: &str) -> Option<HostPattern> {
    match HostPattern::parse(value(query, "name")?) {
        Ok(HostPattern::Any) | Err(_) => None,
        Ok(name) => Some(name),
    }
}

/// The value of a key. Names of hosts and issuers need no encoding.
fn value<'a>(query: &'a str, key: &str) -> Option<&'a str> {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find_map(|(name, value)| (name == key).then_some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_queries() {
        let text = |query| name(query).map(|name| name.to_string());
        assert_eq!(text("name=a.example").as_deref(), Some("a.example"));
        assert_eq!(
            text("issuer=x&name=*.a.example").as_deref(),
            Some("*.a.example")
        );
        for query in ["", "name=", "name=*", "name=a%20b", "names=a.example"] {
            assert_eq!(text(query), None, "{query}");
        }
    }

    #[test]
    fn what_has_something_done_is_no_page_to_read() {
        for path in ["/certs", "/certs/facts"] {
            let page = CertsPage::at(path).unwrap();
            assert_eq!(page.method(), Method::GET);
        }
        for path in ["/certs/renew", "/certs/rehearse"] {
            let page = CertsPage::at(path).unwrap();
            assert_eq!(page.method(), Method::POST);
        }
        assert_eq!(CertsPage::at("/certs/"), None);
    }
}
