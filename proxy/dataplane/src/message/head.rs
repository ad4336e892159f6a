//! What heads of both kinds have in common: version, limits, the length of the body, reasons for refusal.

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
    /// Head longer than [`MAX_HEAD`] or with more lines than [`MAX_FIELDS`]: 431.
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
