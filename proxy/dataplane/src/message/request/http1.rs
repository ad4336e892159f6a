//! Requests of HTTP/1 (RFC 9112 section 3).

use std::mem::MaybeUninit;

use super::{Announced, Recycled, Request, RequestHead, Target, announced};
use crate::message::authority::{self, Port};
use crate::message::head::{persists, rejection_of, split_head};
use crate::message::{
    BodyLength, Fields, HttpVersion, MAX_FIELDS, MAX_HEAD, MAX_TARGET, Name, Rejection,
};

impl RequestHead {
    /// Reads a head from the start of the bytes. Returns it with its length, blank line included; `None` when there are
    /// too few bytes yet. One empty line before it is skipped (RFC 9112 section 2.2).
    ///
    /// # Errors
    /// Whatever RFC 9110 and RFC 9112 forbid, and what they let a recipient repair: a repaired head is one that the next
    /// recipient may read otherwise.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, Rejection> {
        let readable = bytes.get(..MAX_HEAD).unwrap_or(bytes);
        let head = readable.strip_prefix(b"\r\n").unwrap_or(readable);
        if matches!(head, [b'\n', ..] | [b'\r', _, ..]) {
            return Err(Rejection::malformed("empty lines before the request"));
        }
        let mut headers = [const { MaybeUninit::uninit() }; MAX_FIELDS];
        let mut scanned = httparse::Request::new(&mut []);
        match scanned.parse_with_uninit_headers(head, &mut headers) {
            Ok(httparse::Status::Complete(length)) => {
                let request = read(head.get(..length).unwrap_or_default(), &scanned)?;
                Ok(Some((request, readable.len() - head.len() + length)))
            }
            Ok(httparse::Status::Partial) => wait(head, bytes.len()),
            Err(httparse::Error::Version) => match version_rejection(head) {
                Some(rejection) => Err(rejection),
                None => wait(head, bytes.len()),
            },
            Err(error) => Err(rejection_of(error)),
        }
    }
}

/// More bytes are needed, unless there are too many already.
fn wait<T>(head: &[u8], received: usize) -> Result<Option<T>, Rejection> {
    if unfinished_target(head).len() > MAX_TARGET {
        return Err(Rejection::TARGET_TOO_LONG);
    }
    if received >= MAX_HEAD {
        return Err(Rejection::HEAD_TOO_LARGE);
    }
    Ok(None)
}

/// The target, or what is there of it.
fn unfinished_target(head: &[u8]) -> &[u8] {
    if head.len() <= MAX_TARGET {
        return b"";
    }
    head.split(|byte| *byte == b' ').nth(1).unwrap_or_default()
}

/// What is wrong with the version; `None` when it may still become a good one.
fn version_rejection(head: &[u8]) -> Option<Rejection> {
    let line = head.split(|byte| matches!(byte, b'\r' | b'\n')).next()?;
    let version = line.splitn(3, |byte| *byte == b' ').nth(2)?;
    let fits = |(found, wanted): (&u8, &u8)| match wanted {
        b'#' => found.is_ascii_digit(),
        wanted => found == wanted,
    };
    let pattern = b"HTTP/#.#";
    let is_version = version.len() <= pattern.len() && version.iter().zip(pattern).all(fits);
    match (is_version, line.len() < head.len()) {
        (true, false) => None,
        (true, true) if version.len() == pattern.len() => Some(Rejection::VERSION),
        _ => Some(Rejection::malformed("a bad request line")),
    }
}

/// Checks and takes over what the scanner found in a whole head.
fn read(head: &[u8], scanned: &httparse::Request<'_, '_>) -> Result<RequestHead, Rejection> {
    let (_, block) = split_head(head, scanned.headers)?;
    let method = scanned.method.unwrap_or_default();
    let received = scanned.path.unwrap_or_default();
    let target = Target::parse(method, received)?;
    let mut request = Recycled::<Request>::take();
    request.version = match scanned.version {
        Some(0) => HttpVersion::Http10,
        _ => HttpVersion::Http11,
    };
    request.set_line(method, received, target)?;
    request.fields.receive(block, scanned.headers)?;
    request.unify_host(target)?;
    request.body_length = match announced(&request.fields, request.version)? {
        Announced::Nothing | Announced::Length(0) => BodyLength::Empty,
        Announced::Length(length) => BodyLength::Known(length),
        Announced::Chunked => BodyLength::Chunked,
    };
    request.persists = persists(&request.fields, request.version)?;
    request.expects_continue = request.version == HttpVersion::Http11 && request.awaits_leave();
    Ok(RequestHead(request))
}

impl Request {
    /// Checks that there is one `Host` (HTTP/1.0: at most one), and has it replaced by the authority of the target, if
    /// that has one.
    fn unify_host(&mut self, target: Target<'_>) -> Result<(), Rejection> {
        let host = only_host(&self.fields)?;
        if host.is_none() && self.version != HttpVersion::Http10 {
            return Err(Rejection::malformed("no Host field"));
        }
        if let Some(host) = host {
            authority::check(host, Port::Optional)?;
        }
        if let Target::Absolute { authority, .. } | Target::Authority(authority) = target
            && host != Some(authority.as_bytes())
        {
            self.fields.set(Name::Host, authority.as_bytes());
        }
        Ok(())
    }
}

fn only_host(fields: &Fields) -> Result<Option<&[u8]>, Rejection> {
    let mut hosts = fields.all(Name::Host);
    match (hosts.next(), hosts.next()) {
        (host, None) => Ok(host),
        _ => Err(Rejection::malformed("two Host fields")),
    }
}
