//! The one table from errors to responses.

use std::borrow::Cow;

use crate::message::{Name, Rejection, RejectionKind, ResponseHead};

/// Whose fault an error is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The client's.
    Downstream,
    /// An endpoint's.
    Upstream,
    /// The configuration's or our own.
    Internal,
}

/// Why a request is answered by Tidegate itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// What came is no request, or one that is never forwarded.
    Rejected(Rejection),
    /// A host is needed and the request names none.
    NoHost,
    /// The connection's certificate is not the one of the request's host (RFC 9110 section 7.4).
    Misdirected,
    /// The client has given its request up; it gets no answer.
    ClientGone,
    /// CONNECT: this is no forward proxy.
    Connect,
    /// The client stopped sending in the middle of a request.
    RequestTimeout,
    /// No rule and no default backend is for the request.
    NoRoute,
    /// The rule's backend cannot be used; a Problem says why.
    BackendUnusable,
    /// The service has no endpoint.
    NoEndpoint,
    /// No endpoint accepted a connection.
    ConnectFailed,
    /// No endpoint accepted a connection in time.
    ConnectTimeout,
    /// The endpoint did not answer in time.
    ResponseTimeout,
    /// The endpoint closed the connection or sent what is no HTTP.
    InvalidResponse,
    /// The client's body broke off.
    RequestBody,
}

impl Fault {
    /// The status that the client gets.
    pub(crate) fn status(self) -> u16 {
        match self {
            Self::Rejected(rejection) => rejection.kind.status(),
            Self::NoHost | Self::RequestBody => 400,
            Self::Misdirected => 421,
            Self::ClientGone => 499,
            Self::NoRoute => 404,
            Self::Connect => 405,
            Self::RequestTimeout => 408,
            Self::ConnectFailed | Self::InvalidResponse => 502,
            Self::BackendUnusable | Self::NoEndpoint => 503,
            Self::ConnectTimeout | Self::ResponseTimeout => 504,
        }
    }

    pub(crate) fn source(self) -> Source {
        match self {
            Self::Rejected(_)
            | Self::NoHost
            | Self::Misdirected
            | Self::ClientGone
            | Self::Connect
            | Self::RequestTimeout
            | Self::RequestBody => Source::Downstream,
            Self::NoRoute | Self::BackendUnusable | Self::NoEndpoint => Source::Internal,
            Self::ConnectFailed
            | Self::ConnectTimeout
            | Self::ResponseTimeout
            | Self::InvalidResponse => Source::Upstream,
        }
    }

    /// The word for it in the access log.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Rejected(rejection) => match rejection.kind {
                RejectionKind::Malformed => "malformed-request",
                RejectionKind::TargetTooLong => "target-too-long",
                RejectionKind::HeadTooLarge => "head-too-large",
                RejectionKind::Version => "unsupported-version",
            },
            Self::NoHost => "no-host",
            Self::Misdirected => "misdirected",
            Self::ClientGone => "client-gone",
            Self::Connect => "connect-refused",
            Self::RequestTimeout => "request-timeout",
            Self::NoRoute => "no-route",
            Self::BackendUnusable => "backend-unusable",
            Self::NoEndpoint => "no-endpoint",
            Self::ConnectFailed => "connect-failed",
            Self::ConnectTimeout => "connect-timeout",
            Self::ResponseTimeout => "response-timeout",
            Self::InvalidResponse => "invalid-response",
            Self::RequestBody => "request-body",
        }
    }

    fn text(self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::Rejected(rejection) => {
                let kind = match rejection.kind {
                    RejectionKind::Malformed => "400 Bad Request",
                    RejectionKind::TargetTooLong => "414 URI Too Long",
                    RejectionKind::HeadTooLarge => "431 Request Header Fields Too Large",
                    RejectionKind::Version => "505 HTTP Version Not Supported",
                };
                return Cow::Owned(format!("{kind}: {}. (Tidegate)\n", rejection.reason));
            }
            Self::NoHost => "400 Bad Request: a Host is needed here. (Tidegate)\n",
            Self::Misdirected => {
                "421 Misdirected Request: this connection's certificate is for another host. (Tidegate)\n"
            }
            Self::ClientGone => "",
            Self::RequestBody => "400 Bad Request: the body broke off. (Tidegate)\n",
            Self::NoRoute => "404 Not Found: no route for this host and path. (Tidegate)\n",
            Self::Connect => "405 Method Not Allowed: CONNECT is not served. (Tidegate)\n",
            Self::RequestTimeout => "408 Request Timeout (Tidegate)\n",
            Self::ConnectFailed | Self::InvalidResponse => "502 Bad Gateway (Tidegate)\n",
            Self::BackendUnusable | Self::NoEndpoint => "503 Service Unavailable (Tidegate)\n",
            Self::ConnectTimeout | Self::ResponseTimeout => "504 Gateway Timeout (Tidegate)\n",
        })
    }

    /// The response: short, plain, and without anything that is inside.
    pub(crate) fn response(self) -> (ResponseHead, Cow<'static, str>) {
        let mut head = ResponseHead::with_status(self.status());
        let fields = head.fields_mut();
        fields.append(Name::ContentType, b"text/plain; charset=utf-8");
        if self == Self::Connect {
            fields.append(Name::Allow, b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
        }
        (head, self.text())
    }
}

impl Source {
    /// The word for it in metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Downstream => "downstream",
            Self::Upstream => "upstream",
            Self::Internal => "internal",
        }
    }
}
