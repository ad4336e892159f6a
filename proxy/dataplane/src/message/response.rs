//! Heads of responses.

use std::cell::RefCell;
use std::mem::MaybeUninit;
use std::thread::LocalKey;

use http::{StatusCode, Version, response};

use super::head::{CONNECTION_SPECIFIC, http2_body_length, persists, rejection_of, split_head};
use super::length::{Announced, announced, content_length};
use super::recycled::{Recycled, Reusable, Shelf};
use super::{BodyLength, Fields, HttpVersion, MAX_FIELDS, MAX_HEAD, Name, Rejection};

/// What a response answers, as far as its body goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestKind {
    /// `HEAD`: the response has no body, whatever its fields say.
    Head,
    Other,
}

/// A response's head. What it holds has been checked; its memory is used again for the next one.
#[derive(Debug)]
pub(crate) struct ResponseHead(Recycled<Response>);

#[derive(Debug, Default)]
struct Response {
    fields: Fields,
    status: u16,
    body_length: BodyLength,
    persists: bool,
}

thread_local! {
    static SHELF: Shelf<Response> = const { RefCell::new(Vec::new()) };
}

impl Reusable for Response {
    fn reset(&mut self) {
        self.fields.reset();
    }

    fn shelf() -> &'static LocalKey<Shelf<Self>> {
        &SHELF
    }
}

impl ResponseHead {
    /// Reads a head, also one of an informational response, from the start of the bytes. Returns it with its length,
    /// blank line included; `None` when there are too few bytes yet.
    ///
    /// # Errors
    /// What RFC 9110 and RFC 9112 forbid or let a recipient repair, as for requests.
    pub(crate) fn parse(bytes: &[u8], to: RequestKind) -> Result<Option<(Self, usize)>, Rejection> {
        let readable = bytes.get(..MAX_HEAD).unwrap_or(bytes);
        if readable.first().is_some_and(|first| *first != b'H') {
            return Err(BAD_STATUS_LINE);
        }
        let mut headers = [const { MaybeUninit::uninit() }; MAX_FIELDS];
        let mut scanned = httparse::Response::new(&mut []);
        let config = httparse::ParserConfig::default();
        let parsed =
            config.parse_response_with_uninit_headers(&mut scanned, readable, &mut headers);
        match parsed.map_err(rejection_of)? {
            httparse::Status::Complete(length) => {
                let head = readable.get(..length).unwrap_or_default();
                Ok(Some((read(head, &scanned, to)?, length)))
            }
            httparse::Status::Partial if bytes.len() >= MAX_HEAD => Err(Rejection::HEAD_TOO_LARGE),
            httparse::Status::Partial => Ok(None),
        }
    }

    /// Takes over a response of HTTP/2; `ended` tells that no body follows.
    ///
    /// # Errors
    /// What RFC 9113 calls malformed and the `h2` crate lets pass, and what is refused of HTTP/1 too.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "the caller has no more use for it"
    )]
    pub(crate) fn from_http2(
        parts: response::Parts,
        to: RequestKind,
        ended: bool,
    ) -> Result<Self, Rejection> {
        let status = parts.status.as_u16();
        if !(100..600).contains(&status) || status == 101 {
            return Err(Rejection::malformed("a bad status"));
        }
        let mut head = Self::with_status(status);
        let response = &mut *head.0;
        for (name, value) in &parts.headers {
            response.fields.receive_http2(name, value)?;
        }
        if response.fields.has_any(CONNECTION_SPECIFIC) {
            return Err(Rejection::malformed("a connection-specific field"));
        }
        if response.fields.line_count() > MAX_FIELDS {
            return Err(Rejection::TOO_MANY_FIELDS);
        }
        if response.fields.text_len() > MAX_HEAD {
            return Err(Rejection::HEAD_TOO_LARGE);
        }
        response.forget_impossible_lengths();
        if response.has_no_body(to) {
            content_length(&response.fields)?;
        } else {
            response.body_length = http2_body_length(&response.fields, ended)?;
        }
        Ok(head)
    }

    /// A head without fields, with the reason phrase that is usual for the status.
    pub(crate) fn with_status(status: u16) -> Self {
        let mut response = Recycled::<Response>::take();
        let code = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let reason = code.canonical_reason().unwrap_or_default();
        response.status = code.as_u16();
        response.body_length = BodyLength::Empty;
        response.persists = true;
        response.fields.start(&[
            b"HTTP/1.1 ",
            code.as_str().as_bytes(),
            b" ",
            reason.as_bytes(),
        ]);
        Self(response)
    }

    pub(crate) fn status(&self) -> u16 {
        self.0.status
    }

    /// Whether another response follows to the same request: 1xx but for 101, which ends HTTP/1.
    pub(crate) fn is_informational(&self) -> bool {
        matches!(self.0.status, 100 | 102..200)
    }

    pub(crate) fn fields(&self) -> &Fields {
        &self.0.fields
    }

    pub(crate) fn fields_mut(&mut self) -> &mut Fields {
        &mut self.0.fields
    }

    /// How the end of the body is known.
    pub(crate) fn body_length(&self) -> BodyLength {
        self.0.body_length
    }

    /// Whether the connection can carry another request after this response (RFC 9112 section 9.3).
    pub(crate) fn persists(&self) -> bool {
        self.0.persists
    }

    /// Writes the status line, of HTTP/1.1 and with the reason as received, and the fields, without a blank line behind
    /// them. Framing is the engine's: what the fields say of it is what was received.
    pub(crate) fn write_http1(&self, out: &mut Vec<u8>) {
        self.0.fields.write_head(out);
    }

    /// The response for an HTTP/2 client, without the fields that HTTP/2 does not have.
    pub(crate) fn to_http2(&self) -> http::Response<()> {
        let mut response = http::Response::new(());
        *response.status_mut() =
            StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        *response.version_mut() = Version::HTTP_2;
        *response.headers_mut() = self.0.fields.to_header_map(CONNECTION_SPECIFIC);
        response
    }
}

const BAD_STATUS_LINE: Rejection = Rejection::malformed("a bad status line");

/// Checks and takes over what the scanner found in a whole head.
fn read(
    head: &[u8],
    scanned: &httparse::Response<'_, '_>,
    to: RequestKind,
) -> Result<ResponseHead, Rejection> {
    let (line, block) = split_head(head, scanned.headers)?;
    let mut response = Recycled::<Response>::take();
    response.status = scanned.code.unwrap_or_default();
    if !(100..600).contains(&response.status) {
        return Err(BAD_STATUS_LINE);
    }
    // "HTTP/1.x 200 reason CRLF", of which the last space may be missing.
    let (code, reason) = match line.get(9..12).zip(line.get(12..line.len() - 2)) {
        Some((code, b"")) => (code, &b" "[..]),
        Some(found) => found,
        None => return Err(BAD_STATUS_LINE),
    };
    response.fields.start(&[b"HTTP/1.1 ", code, reason]);
    response.fields.receive(block, scanned.headers)?;
    let version = match scanned.version {
        Some(0) => HttpVersion::Http10,
        _ => HttpVersion::Http11,
    };
    response.body_length = response.framed(version, to)?;
    response.persists =
        persists(&response.fields, version)? && response.body_length != BodyLength::UntilClose;
    Ok(ResponseHead(response))
}

impl Response {
    /// Whether no body follows whatever the fields say (RFC 9112 section 6.3).
    fn has_no_body(&self, to: RequestKind) -> bool {
        to == RequestKind::Head || matches!(self.status, 100..200 | 204 | 304)
    }

    /// A response that cannot have a body and may not tell of one (RFC 9110 section 8.6, RFC 9112 section 6.1) loses
    /// what it tells.
    fn forget_impossible_lengths(&mut self) {
        if matches!(self.status, 100..200 | 204) {
            self.fields.remove(Name::ContentLength);
            self.fields.remove(Name::TransferEncoding);
        }
    }

    /// The length of the body, after RFC 9112 section 6.3.
    fn framed(&mut self, version: HttpVersion, to: RequestKind) -> Result<BodyLength, Rejection> {
        self.forget_impossible_lengths();
        let announced = announced(&self.fields, version)?;
        if self.has_no_body(to) {
            return Ok(BodyLength::Empty);
        }
        Ok(match announced {
            Announced::Nothing => BodyLength::UntilClose,
            Announced::Length(0) => BodyLength::Empty,
            Announced::Length(length) => BodyLength::Known(length),
            Announced::Chunked => BodyLength::Chunked,
        })
    }
}

#[cfg(test)]
mod tests;
