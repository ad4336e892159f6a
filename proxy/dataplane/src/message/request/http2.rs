//! Requests of HTTP/2 (RFC 9113 section 8.3.1), from and to what the `h2` crate has.

use http::header::{COOKIE, HOST, TE};
use http::uri::{Authority, PathAndQuery, Scheme, Uri};
use http::{HeaderValue, Method, Version, request};

use super::{Recycled, Request, RequestHead, Target};
use crate::message::authority::{self, Port};
use crate::message::fields::check_ends;
use crate::message::head::{CONNECTION_SPECIFIC, http2_body_length};
use crate::message::{Fields, HttpVersion, MAX_FIELDS, MAX_HEAD, Name, Rejection};

impl RequestHead {
    /// Takes over a request; `ended` tells that no body follows.
    ///
    /// # Errors
    /// What RFC 9113 calls malformed and the `h2` crate lets pass, and what is refused of HTTP/1 too.
    pub(crate) fn from_http2(parts: &request::Parts, ended: bool) -> Result<Self, Rejection> {
        let mut request = Recycled::<Request>::take();
        request.version = HttpVersion::Http2;
        request.persists = true;
        let method = parts.method.as_str();
        let received = received_target(parts)?;
        request.set_line(method, received, Target::parse(method, received)?)?;
        let host = host(parts)?;
        authority::check(host, Port::Optional)?;
        request.fields.append(Name::Host, host);
        request.receive_http2(parts)?;
        request.body_length = http2_body_length(&request.fields, ended)?;
        request.expects_continue = request.awaits_leave();
        Ok(Self(request))
    }

    /// The request for an HTTP/2 endpoint. `None` when it has no authority, or one that `http` cannot hold.
    pub(crate) fn to_http2(&self, scheme: Scheme) -> Option<http::Request<()>> {
        let mut uri = http::uri::Parts::default();
        uri.scheme = Some(scheme);
        uri.authority = Some(Authority::try_from(self.authority()?).ok()?);
        uri.path_and_query = Some(path_and_query(self.path_and_query())?);
        let mut request = http::Request::new(());
        *request.method_mut() = Method::from_bytes(self.method().as_bytes()).ok()?;
        *request.uri_mut() = Uri::from_parts(uri).ok()?;
        *request.version_mut() = Version::HTTP_2;
        *request.headers_mut() = self.fields().to_header_map(NOT_SENT);
        if self.fields().lists(Name::Te, "trailers") {
            let trailers = HeaderValue::from_static("trailers");
            request.headers_mut().insert(TE, trailers);
        }
        Some(request)
    }
}

/// Fields that HTTP/2 does not have, and `TE`, of which it has one value only.
const NOT_SENT: u64 =
    CONNECTION_SPECIFIC | Name::Host.bit() | Name::Http2Settings.bit() | Name::Te.bit();

/// `:path`, or `:authority` for `CONNECT`.
fn received_target(parts: &request::Parts) -> Result<&str, Rejection> {
    if parts.method == Method::CONNECT {
        let authority = parts.uri.authority().map(Authority::as_str);
        return authority.ok_or(Rejection::malformed("no :authority"));
    }
    let scheme = parts.uri.scheme_str();
    if scheme.is_some_and(|scheme| scheme != "http" && scheme != "https") {
        return Err(Rejection::malformed("a bad scheme"));
    }
    match parts.uri.path_and_query() {
        Some(found) if !parts.uri.path().is_empty() => Ok(found.as_str()),
        _ => Err(Rejection::malformed("no :path")),
    }
}

/// `:authority`, or else the one `Host`.
fn host(parts: &request::Parts) -> Result<&[u8], Rejection> {
    let authority = parts.uri.authority().map(|found| found.as_str().as_bytes());
    let mut hosts = parts.headers.get_all(HOST).iter();
    match (authority, hosts.next(), hosts.next()) {
        (_, _, Some(_)) => Err(Rejection::malformed("two Host fields")),
        (Some(authority), Some(host), None) if !authority.eq_ignore_ascii_case(host.as_bytes()) => {
            Err(Rejection::malformed("Host differs from :authority"))
        }
        (Some(authority), _, None) => Ok(authority),
        (None, Some(host), None) => Ok(host.as_bytes()),
        (None, None, None) => Err(Rejection::malformed("no :authority")),
    }
}

/// Path and query as `http` holds them. A few bytes that browsers send raw it refuses: those are percent-encoded.
fn path_and_query(target: &str) -> Option<PathAndQuery> {
    PathAndQuery::try_from(target)
        .or_else(|_| {
            let encoded = target
                .replace('"', "%22")
                .replace('<', "%3C")
                .replace('>', "%3E")
                .replace('`', "%60");
            PathAndQuery::try_from(encoded)
        })
        .ok()
}

impl Request {
    /// Takes over the fields but `Host`. `Cookie` may come in crumbs, which are put together again (RFC 9113 section
    /// 8.2.3).
    fn receive_http2(&mut self, parts: &request::Parts) -> Result<(), Rejection> {
        for (name, value) in &parts.headers {
            if *name != HOST && *name != COOKIE {
                self.fields.receive_http2(name, value)?;
            }
        }
        if parts.headers.contains_key(COOKIE) {
            let crumbs = parts.headers.get_all(COOKIE);
            crumbs.iter().try_for_each(check_ends)?;
            // Between them stands a separator; an empty one would leave it at an end.
            let crumbs = crumbs.iter().map(HeaderValue::as_bytes);
            let crumbs = crumbs.filter(|crumb| !crumb.is_empty());
            self.fields.push(Name::Cookie, b"cookie", crumbs, b"; ");
        }
        check_fields(&self.fields)
    }
}

fn check_fields(fields: &Fields) -> Result<(), Rejection> {
    if fields.has_any(CONNECTION_SPECIFIC) {
        return Err(Rejection::malformed("a connection-specific field"));
    }
    if fields.all(Name::Te).any(|value| value != b"trailers") {
        return Err(Rejection::malformed("TE other than trailers"));
    }
    if fields.line_count() > MAX_FIELDS {
        return Err(Rejection::TOO_MANY_FIELDS);
    }
    if fields.text_len() > MAX_HEAD {
        return Err(Rejection::HEAD_TOO_LARGE);
    }
    Ok(())
}
