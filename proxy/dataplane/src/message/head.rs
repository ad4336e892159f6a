//! What heads of both kinds have in common: version, limits, the length of the body, reasons for refusal.

use super::length::content_length;
use super::{Fields, Name, members};

/// Most bytes of a head, its final blank line included.
pub(crate) const MAX_HEAD: usize = 64 * 1024;
/// Most field lines of a head.
pub(crate) const MAX_FIELDS: usize = 128;
/// Most bytes of a request's target.
pub(crate) const MAX_TARGET: usize = 16 * 1024;

/// Which HTTP a message came in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum HttpVersion {
    Http10,
    #[default]
    Http11,
    Http2,
}

impl HttpVersion {
    /// As access logs write it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Http10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
            Self::Http2 => "HTTP/2",
        }
    }
}

/// How the end of a message's body is known (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum BodyLength {
    /// There is no body, or one of length zero.
    #[default]
    Empty,
    /// So many bytes, at least one.
    Known(u64),
    /// The framing tells: the chunked coding, or an HTTP/2 stream without `Content-Length`.
    Chunked,
    /// The sender closes the connection. Responses only.
    UntilClose,
}

/// Why a head is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rejection {
    pub(crate) kind: RejectionKind,
    /// A few plain words for the client and the log.
    pub(crate) reason: &'static str,
}

/// What a refused request is answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RejectionKind {
    /// Not HTTP as the RFCs have it: 400.
    Malformed,
    /// Target longer than [`MAX_TARGET`]: 414.
    TargetTooLong,
    /// Head longer than [`MAX_HEAD`], or with more lines or connection options than [`MAX_FIELDS`]: 431.
    HeadTooLarge,
    /// A version of HTTP that is not spoken here: 505.
    Version,
}

impl Rejection {
    pub(super) const fn malformed(reason: &'static str) -> Self {
        Self {
            kind: RejectionKind::Malformed,
            reason,
        }
    }

    pub(super) const TARGET_TOO_LONG: Self = Self {
        kind: RejectionKind::TargetTooLong,
        reason: "the target is too long",
    };

    pub(super) const HEAD_TOO_LARGE: Self = Self {
        kind: RejectionKind::HeadTooLarge,
        reason: "the head is too large",
    };

    pub(super) const TOO_MANY_FIELDS: Self = Self {
        kind: RejectionKind::HeadTooLarge,
        reason: "too many fields",
    };

    pub(super) const TOO_MANY_OPTIONS: Self = Self {
        kind: RejectionKind::HeadTooLarge,
        reason: "Connection lists too much",
    };

    pub(super) const VERSION: Self = Self {
        kind: RejectionKind::Version,
        reason: "this version of HTTP is not spoken here",
    };
}

impl RejectionKind {
    /// The status that tells a client.
    pub(crate) fn status(self) -> u16 {
        match self {
            Self::Malformed => 400,
            Self::TargetTooLong => 414,
            Self::HeadTooLarge => 431,
            Self::Version => 505,
        }
    }
}

/// Words for what the scanner of lines found wrong.
pub(super) fn rejection_of(error: httparse::Error) -> Rejection {
    Rejection::malformed(match error {
        httparse::Error::TooManyHeaders => return Rejection::TOO_MANY_FIELDS,
        httparse::Error::HeaderName => "a bad field name",
        httparse::Error::HeaderValue => "a bad field value",
        httparse::Error::NewLine => "a bad line end",
        httparse::Error::Token => "a bad request line",
        httparse::Error::Version | httparse::Error::Status => "a bad start line",
    })
}

/// A line that ends in LF alone. The scanner takes it for a line; RFC 9112 section 2.2 allows to refuse it, and two
/// readers that differ in it can be played against each other.
pub(super) const BARE_LF: Rejection = Rejection::malformed("a line ends without CR");

/// Splits a head into its start line, CRLF included, and its field lines, which are checked where
/// [`Fields::receive`] takes them over. The blank line is in neither.
pub(super) fn split_head<'a>(
    head: &'a [u8],
    headers: &[httparse::Header<'_>],
) -> Result<(&'a [u8], &'a [u8]), Rejection> {
    let lines = head.strip_suffix(b"\r\n").ok_or(BARE_LF)?;
    let end = headers.first().map_or(lines.len(), |first| {
        first.name.as_ptr() as usize - head.as_ptr() as usize
    });
    match lines.split_at_checked(end) {
        Some((line, block)) if line.ends_with(b"\r\n") => Ok((line, block)),
        _ => Err(BARE_LF),
    }
}

/// Fields of an HTTP/1 connection, which HTTP/2 does not have (RFC 9113 section 8.2.2).
pub(super) const CONNECTION_SPECIFIC: u64 = Name::Connection.bit()
    | Name::KeepAlive.bit()
    | Name::ProxyConnection.bit()
    | Name::TransferEncoding.bit()
    | Name::Upgrade.bit();

/// Most options that `Connection` may list. Each is looked for among all fields when the connection's own are removed.
const MAX_CONNECTION_OPTIONS: usize = 64;

/// Whether the sender keeps the connection open (RFC 9112 section 9.3).
///
/// # Errors
/// `Connection` lists too much.
pub(super) fn persists(fields: &Fields, version: HttpVersion) -> Result<bool, Rejection> {
    let mut options = fields.all(Name::Connection).flat_map(members);
    if options.nth(MAX_CONNECTION_OPTIONS).is_some() {
        return Err(Rejection::TOO_MANY_OPTIONS);
    }
    let lists = |option| fields.lists(Name::Connection, option);
    Ok(match version {
        HttpVersion::Http10 => lists("keep-alive") && !lists("close"),
        HttpVersion::Http11 => !lists("close"),
        HttpVersion::Http2 => true,
    })
}

/// The length of a body that an HTTP/2 stream has or, when it has `ended`, has not.
pub(super) fn http2_body_length(fields: &Fields, ended: bool) -> Result<BodyLength, Rejection> {
    match (content_length(fields)?, ended) {
        (Some(1..), true) => Err(Rejection::malformed("a body shorter than Content-Length")),
        (_, true) | (Some(0), false) => Ok(BodyLength::Empty),
        (Some(length), false) => Ok(BodyLength::Known(length)),
        (None, false) => Ok(BodyLength::Chunked),
    }
}
