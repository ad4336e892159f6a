//! Heads of requests and responses, as every filter and log sees them.
//!
//! A thin cover over what the engines parse into, so that an engine can be replaced without touching its users.

use std::borrow::Cow;

use http::{HeaderMap, Method, StatusCode, Uri, Version, request, response};

pub(crate) use http::header::{HeaderName as Name, HeaderValue as Value};

/// Names of fields that the data plane reads or writes.
pub(crate) mod name {
    pub(crate) use http::header::{
        CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, EXPECT, FORWARDED, HOST, LOCATION,
        PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, SERVER, TE, TRANSFER_ENCODING, UPGRADE,
        USER_AGENT,
    };

    use super::Name;

    pub(crate) const KEEP_ALIVE: Name = Name::from_static("keep-alive");
    pub(crate) const PROXY_CONNECTION: Name = Name::from_static("proxy-connection");
    pub(crate) const HTTP2_SETTINGS: Name = Name::from_static("http2-settings");
    pub(crate) const X_FORWARDED_FOR: Name = Name::from_static("x-forwarded-for");
    pub(crate) const X_FORWARDED_HOST: Name = Name::from_static("x-forwarded-host");
    pub(crate) const X_FORWARDED_PORT: Name = Name::from_static("x-forwarded-port");
    pub(crate) const X_FORWARDED_PROTO: Name = Name::from_static("x-forwarded-proto");
    pub(crate) const X_REAL_IP: Name = Name::from_static("x-real-ip");
}

/// The fields of a head, in either direction.
pub(crate) trait Fields {
    fn map(&self) -> &HeaderMap;
    fn map_mut(&mut self) -> &mut HeaderMap;

    /// The first value of a field.
    fn first(&self, name: &Name) -> Option<&Value> {
        self.map().get(name)
    }

    /// Every value of a field, in order.
    fn all<'a>(&'a self, name: &Name) -> impl Iterator<Item = &'a Value> {
        self.map().get_all(name).iter()
    }

    /// Puts one value in place of all that the field had.
    fn set(&mut self, name: Name, value: Value) {
        self.map_mut().insert(name, value);
    }

    /// Takes a field out.
    fn remove(&mut self, name: &Name) {
        self.map_mut().remove(name);
    }

    /// Whether the field is a comma-separated list with this member (ASCII case ignored).
    fn lists(&self, name: &Name, member: &str) -> bool {
        self.all(name)
            .any(|value| members(value).any(|found| found.eq_ignore_ascii_case(member.as_bytes())))
    }
}

/// The members of a comma-separated field value (RFC 9110 section 5.6.1).
pub(crate) fn members(value: &Value) -> impl Iterator<Item = &[u8]> {
    value
        .as_bytes()
        .split(|byte| *byte == b',')
        .map(<[u8]>::trim_ascii)
        .filter(|member| !member.is_empty())
}

/// Which HTTP a request came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HttpVersion {
    Http10,
    Http11,
    Http2,
}

impl HttpVersion {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Http10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
            Self::Http2 => "HTTP/2",
        }
    }
}

/// A request's head. Boxed, since it is handed on from room to room.
#[derive(Debug)]
pub(crate) struct RequestHead(Box<request::Parts>);

/// Why a request's authority cannot be used (RFC 9110 section 7.2, RFC 9112 section 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InvalidAuthority;

impl RequestHead {
    pub(crate) fn new(parts: request::Parts) -> Self {
        Self(Box::new(parts))
    }

    pub(crate) fn into_parts(self) -> request::Parts {
        *self.0
    }

    /// A copy that can be sent a second time.
    pub(crate) fn replica(&self) -> Self {
        let (mut parts, ()) = http::Request::new(()).into_parts();
        parts.method = self.0.method.clone();
        parts.uri = self.0.uri.clone();
        parts.version = self.0.version;
        parts.headers = self.0.headers.clone();
        Self::new(parts)
    }

    pub(crate) fn version(&self) -> HttpVersion {
        match self.0.version {
            Version::HTTP_09 | Version::HTTP_10 => HttpVersion::Http10,
            Version::HTTP_11 => HttpVersion::Http11,
            _ => HttpVersion::Http2,
        }
    }

    pub(crate) fn method(&self) -> &str {
        self.0.method.as_str()
    }

    pub(crate) fn is_connect(&self) -> bool {
        self.0.method == Method::CONNECT
    }

    /// Whether sending it twice does what sending it once does (RFC 9110 section 9.2.2).
    pub(crate) fn is_idempotent(&self) -> bool {
        self.0.method.is_idempotent()
    }

    /// The authority that stands in the target itself.
    pub(crate) fn authority(&self) -> Option<&str> {
        self.0.uri.authority().map(|authority| authority.as_str())
    }

    /// Path without the query; `*` for `OPTIONS *`.
    pub(crate) fn path(&self) -> &str {
        self.0.uri.path()
    }

    /// Path and query.
    pub(crate) fn path_and_query(&self) -> &str {
        self.0
            .uri
            .path_and_query()
            .map_or("/", |found| found.as_str())
    }

    /// Makes the authority of the target (absolute form, or `:authority`) the one `Host`, as RFC 9112 section 3.2.2
    /// has it, and checks that there is exactly one. HTTP/1.0 may have none.
    pub(crate) fn unify_authority(&mut self) -> Result<(), InvalidAuthority> {
        let version = self.version();
        let fields = &mut self.0.headers;
        let mut hosts = fields.get_all(name::HOST).iter();
        let (host, second) = (hosts.next(), hosts.next());
        if second.is_some() {
            return Err(InvalidAuthority);
        }
        if let Some(authority) = self.0.uri.authority() {
            if authority.as_str().contains('@') || authority.host().is_empty() {
                return Err(InvalidAuthority);
            }
            if host.is_none_or(|host| host.as_bytes() != authority.as_str().as_bytes()) {
                let value = Value::from_str(authority.as_str()).map_err(|_| InvalidAuthority)?;
                fields.insert(name::HOST, value);
            }
            return Ok(());
        }
        match host {
            Some(host) if is_authority(host.as_bytes()) => Ok(()),
            Some(_) => Err(InvalidAuthority),
            None if version == HttpVersion::Http10 => Ok(()),
            None => Err(InvalidAuthority),
        }
    }

    /// The host in lower case, without port; empty when the request names none.
    pub(crate) fn host(&self) -> Cow<'_, str> {
        let authority = self
            .first(&name::HOST)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        let host = tidegate_model::authority_host(authority);
        if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
            Cow::Owned(host.to_ascii_lowercase())
        } else {
            Cow::Borrowed(host)
        }
    }

    /// Sets method target and version to what HTTP/1.1 to an origin server has: origin form.
    pub(crate) fn target_http1(&mut self) {
        self.0.version = Version::HTTP_11;
        if self.0.uri.scheme().is_some() || self.0.uri.authority().is_some() {
            let origin = self.0.uri.path_and_query().cloned();
            self.0.uri = origin.map(Uri::from).unwrap_or_default();
        }
    }

    /// Sets target and version to what HTTP/2 has: scheme, `:authority` and path; `Host` goes (RFC 9113 section 8.3.1).
    /// Done twice, as for a second try, it changes nothing more.
    pub(crate) fn target_http2(&mut self, scheme: http::uri::Scheme) {
        self.0.version = Version::HTTP_2;
        let mut parts = std::mem::take(&mut self.0.uri).into_parts();
        let host = self.0.headers.remove(name::HOST);
        if let Some(host) = host {
            parts.authority = http::uri::Authority::try_from(host.as_bytes()).ok();
        }
        parts
            .path_and_query
            .get_or_insert_with(|| http::uri::PathAndQuery::from_static("/"));
        parts.scheme = parts.authority.is_some().then_some(scheme);
        self.0.uri = Uri::from_parts(parts).unwrap_or_default();
    }
}

impl Fields for RequestHead {
    fn map(&self) -> &HeaderMap {
        &self.0.headers
    }

    fn map_mut(&mut self) -> &mut HeaderMap {
        &mut self.0.headers
    }
}

/// Whether bytes can be an authority: no user information, no delimiters of other parts, not empty.
fn is_authority(bytes: &[u8]) -> bool {
    let fits = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:[]%".contains(byte);
    !bytes.is_empty() && bytes[0] != b':' && bytes.iter().all(fits)
}

/// A response's head.
#[derive(Debug)]
pub(crate) struct ResponseHead(response::Parts);

impl ResponseHead {
    pub(crate) fn new(parts: response::Parts) -> Self {
        Self(parts)
    }

    /// A head without fields.
    pub(crate) fn with_status(status: u16) -> Self {
        let (mut parts, ()) = http::Response::new(()).into_parts();
        parts.status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self(parts)
    }

    pub(crate) fn into_parts(self) -> response::Parts {
        self.0
    }

    pub(crate) fn status(&self) -> u16 {
        self.0.status.as_u16()
    }

    pub(crate) fn is_http11(&self) -> bool {
        self.0.version == Version::HTTP_11
    }

    /// Leaves the version to the engine that writes it.
    pub(crate) fn forget_version(&mut self) {
        self.0.version = Version::HTTP_11;
    }
}

impl Fields for ResponseHead {
    fn map(&self) -> &HeaderMap {
        &self.0.headers
    }

    fn map_mut(&mut self) -> &mut HeaderMap {
        &mut self.0.headers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_try_over_http2_has_the_same_authority() {
        let request = http::Request::get("/p?q")
            .header("host", "a.example")
            .body(())
            .unwrap();
        let mut head = RequestHead::new(request.into_parts().0);
        for _ in 0..2 {
            head.target_http2(http::uri::Scheme::HTTP);
            assert_eq!(head.0.uri, "http://a.example/p?q");
            assert!(head.first(&name::HOST).is_none());
        }
    }
}
