//! Heads of requests.

use std::borrow::Cow;
use std::cell::RefCell;
use std::thread::LocalKey;

use super::length::{Announced, announced};
use super::recycled::{Recycled, Reusable, Shelf};
use super::target::{Target, normalise};
use super::{BodyLength, Fields, HttpVersion, Name, Rejection, RequestKind};

mod http1;
mod http2;

/// A request's head. What it holds has been checked; its memory is used again for the next one.
#[derive(Debug)]
pub(crate) struct RequestHead(Recycled<Request>);

#[derive(Debug, Default)]
struct Request {
    fields: Fields,
    /// Method and target, and behind them the target as received if that is another.
    words: String,
    method_end: usize,
    path_end: usize,
    target_end: usize,
    version: HttpVersion,
    body_length: BodyLength,
    persists: bool,
    expects_continue: bool,
}

/// Memory for method and target that is kept for the next head.
const KEPT_WORDS: usize = 1024;

thread_local! {
    static SHELF: Shelf<Request> = const { RefCell::new(Vec::new()) };
}

impl Reusable for Request {
    fn reset(&mut self) {
        self.fields.reset();
        self.words.clear();
        self.words.shrink_to(KEPT_WORDS);
    }

    fn shelf() -> &'static LocalKey<Shelf<Self>> {
        &SHELF
    }
}

impl RequestHead {
    /// What stands for a request that could not be read, where an answer to it is recorded.
    pub(crate) fn unreadable() -> Self {
        let mut request = Recycled::<Request>::take();
        request.words.push('-');
        (request.method_end, request.path_end, request.target_end) = (1, 1, 1);
        request.version = HttpVersion::Http11;
        request.body_length = BodyLength::Empty;
        Self(request)
    }

    pub(crate) fn version(&self) -> HttpVersion {
        self.0.version
    }

    pub(crate) fn method(&self) -> &str {
        self.0.words(0, self.0.method_end)
    }

    pub(crate) fn is_connect(&self) -> bool {
        self.method() == "CONNECT"
    }

    /// What its method says about the body of the response.
    pub(crate) fn kind(&self) -> RequestKind {
        match self.method() {
            "HEAD" => RequestKind::Head,
            _ => RequestKind::Other,
        }
    }

    /// Whether sending it twice does what sending it once does (RFC 9110 section 9.2.2).
    pub(crate) fn is_idempotent(&self) -> bool {
        matches!(
            self.method(),
            "GET" | "HEAD" | "OPTIONS" | "PUT" | "DELETE" | "TRACE"
        )
    }

    pub(crate) fn fields(&self) -> &Fields {
        &self.0.fields
    }

    pub(crate) fn fields_mut(&mut self) -> &mut Fields {
        &mut self.0.fields
    }

    /// Host and port that the request is for: the one `Host`, which a target in absolute form and `:authority` have
    /// replaced (RFC 9112 section 3.2.2). `None` only for HTTP/1.0.
    pub(crate) fn authority(&self) -> Option<&str> {
        std::str::from_utf8(self.0.fields.first(Name::Host)?).ok()
    }

    /// The host in lower case, without port; empty when the request names none.
    pub(crate) fn host(&self) -> Cow<'_, str> {
        let host = tidegate_model::authority_host(self.authority().unwrap_or_default());
        if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
            Cow::Owned(host.to_ascii_lowercase())
        } else {
            Cow::Borrowed(host)
        }
    }

    /// The path, normalised as [`target`](super::target) tells; `*` for `OPTIONS *`, the authority for `CONNECT`.
    pub(crate) fn path(&self) -> &str {
        self.0.words(self.0.method_end, self.0.path_end)
    }

    /// The normalised path, and the query as received.
    pub(crate) fn path_and_query(&self) -> &str {
        self.0.words(self.0.method_end, self.0.target_end)
    }

    /// The target as received, for logs.
    pub(crate) fn received_target(&self) -> &str {
        match self.0.words(self.0.target_end, self.0.words.len()) {
            "" => self.path_and_query(),
            received => received,
        }
    }

    /// How the end of the body is known. Never [`BodyLength::UntilClose`].
    pub(crate) fn body_length(&self) -> BodyLength {
        self.0.body_length
    }

    /// Whether the client may send another request on the connection (RFC 9112 section 9.3). HTTP/1.0 has to ask for
    /// it.
    pub(crate) fn persists(&self) -> bool {
        self.0.persists
    }

    /// Whether the client waits for `100 Continue` before it sends the body (RFC 9110 section 10.1.1).
    pub(crate) fn expects_continue(&self) -> bool {
        self.0.expects_continue
    }

    /// Bytes of memory that it fills, about.
    pub(crate) fn size(&self) -> usize {
        self.0.fields.text_len() + self.0.words.len()
    }

    /// Writes the request line, in origin form and of HTTP/1.1, and the fields, without a blank line behind them.
    /// Framing is the engine's: what the fields say of it is what was received.
    pub(crate) fn write_http1(&self, out: &mut Vec<u8>) {
        self.0.fields.write_head(out);
    }
}

impl Request {
    fn words(&self, start: usize, end: usize) -> &str {
        self.words.get(start..end).unwrap_or_default()
    }

    /// Sets method and target, the latter in the form in which it is sent on.
    fn set_line(
        &mut self,
        method: &str,
        received: &str,
        target: Target<'_>,
    ) -> Result<(), Rejection> {
        let words = &mut self.words;
        words.push_str(method);
        self.method_end = words.len();
        let path_length = match target {
            Target::Origin(target) => normalise(target, words)?,
            Target::Absolute { rest, .. } if rest.starts_with('/') => normalise(rest, words)?,
            // RFC 9112 section 3.2.4: that is what the last proxy makes of it.
            Target::Absolute { rest: "", .. } if method == "OPTIONS" => {
                words.push('*');
                1
            }
            Target::Absolute { rest, .. } => {
                words.push('/');
                words.push_str(rest);
                1
            }
            Target::Asterisk | Target::Authority(_) => {
                words.push_str(received);
                received.len()
            }
        };
        self.path_end = self.method_end + path_length;
        self.target_end = words.len();
        let target = self.words.get(self.method_end..).unwrap_or_default();
        let parts = [method.as_bytes(), b" ", target.as_bytes(), b" HTTP/1.1"];
        self.fields.start(&parts);
        if target != received {
            self.words.push_str(received);
        }
        Ok(())
    }

    /// Whether the fields ask for `100 Continue`, and there is a body to wait with.
    fn awaits_leave(&self) -> bool {
        self.body_length != BodyLength::Empty && self.fields.lists(Name::Expect, "100-continue")
    }
}

#[cfg(test)]
mod tests;
