//! The one table from errors to responses.

use crate::body::ResponseBody;
use crate::head::{Fields, ResponseHead, Value, name};

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
    /// No usable `Host`, or more than one.
    InvalidHost,
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
            Self::InvalidHost | Self::RequestBody => 400,
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
            Self::InvalidHost | Self::Connect | Self::RequestTimeout | Self::RequestBody => {
                Source::Downstream
            }
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
            Self::InvalidHost => "invalid-host",
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

    fn text(self) -> &'static str {
        match self {
            Self::InvalidHost => "400 Bad Request: one valid Host is needed. (Tidegate)\n",
            Self::RequestBody => "400 Bad Request: the body broke off. (Tidegate)\n",
            Self::NoRoute => "404 Not Found: no route for this host and path. (Tidegate)\n",
            Self::Connect => "405 Method Not Allowed: CONNECT is not served. (Tidegate)\n",
            Self::RequestTimeout => "408 Request Timeout (Tidegate)\n",
            Self::ConnectFailed | Self::InvalidResponse => "502 Bad Gateway (Tidegate)\n",
            Self::BackendUnusable | Self::NoEndpoint => "503 Service Unavailable (Tidegate)\n",
            Self::ConnectTimeout | Self::ResponseTimeout => "504 Gateway Timeout (Tidegate)\n",
        }
    }

    /// The response: short, plain, and without anything that is inside.
    pub(crate) fn response(self) -> (ResponseHead, ResponseBody) {
        let mut head = ResponseHead::with_status(self.status());
        head.set(
            name::CONTENT_TYPE,
            Value::from_static("text/plain; charset=utf-8"),
        );
        if self == Self::Connect {
            head.set(
                http::header::ALLOW,
                Value::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),
            );
        }
        (head, ResponseBody::fixed(self.text()))
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
