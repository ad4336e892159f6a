//! Names of fields that the data plane reads or writes.

/// A field's name, in one byte: one that is known here, or another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Name {
    /// Any name that is not known.
    Other,
    Host,
    Connection,
    KeepAlive,
    ProxyConnection,
    ProxyAuthenticate,
    ProxyAuthorization,
    TransferEncoding,
    Upgrade,
    Expect,
    Http2Settings,
    Te,
    Trailer,
    ContentLength,
    ContentType,
    Cookie,
    Forwarded,
    Location,
    Server,
    UserAgent,
    Date,
    Allow,
    XForwardedFor,
    XForwardedHost,
    XForwardedPort,
    XForwardedProto,
    XRealIp,
    /// One of the five above with `_` for a `-`: servers that turn names into variables (RFC 3875 section 4.1.18) take
    /// it for the real one.
    ForwardedLookalike,
}

impl Name {
    /// Recognises a name, whatever its case.
    pub(crate) fn of(name: &[u8]) -> Self {
        let (candidate, text) = match (name.len(), name.first().map_or(0, |first| first | 0x20)) {
            (2, b't') => (Self::Te, "te"),
            (4, b'h') => (Self::Host, "host"),
            (4, b'd') => (Self::Date, "date"),
            (5, b'a') => (Self::Allow, "allow"),
            (6, b'c') => (Self::Cookie, "cookie"),
            (6, b'e') => (Self::Expect, "expect"),
            (6, b's') => (Self::Server, "server"),
            (7, b't') => (Self::Trailer, "trailer"),
            (7, b'u') => (Self::Upgrade, "upgrade"),
            (8, b'l') => (Self::Location, "location"),
            (9, b'f') => (Self::Forwarded, "forwarded"),
            (9, b'x') => return forwarded(name, &[Self::XRealIp]),
            (10, b'c') => (Self::Connection, "connection"),
            (10, b'k') => (Self::KeepAlive, "keep-alive"),
            (10, b'u') => (Self::UserAgent, "user-agent"),
            (12, b'c') => (Self::ContentType, "content-type"),
            (14, b'c') => (Self::ContentLength, "content-length"),
            (14, b'h') => (Self::Http2Settings, "http2-settings"),
            (15, b'x') => return forwarded(name, &[Self::XForwardedFor]),
            (16, b'p') => (Self::ProxyConnection, "proxy-connection"),
            (16, b'x') => return forwarded(name, &[Self::XForwardedHost, Self::XForwardedPort]),
            (17, b't') => (Self::TransferEncoding, "transfer-encoding"),
            (17, b'x') => return forwarded(name, &[Self::XForwardedProto]),
            (18, b'p') => (Self::ProxyAuthenticate, "proxy-authenticate"),
            (19, b'p') => (Self::ProxyAuthorization, "proxy-authorization"),
            _ => return Self::Other,
        };
        if name.eq_ignore_ascii_case(text.as_bytes()) {
            candidate
        } else {
            Self::Other
        }
    }

    /// The name in lower case; empty for the two that stand for many.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Other | Self::ForwardedLookalike => "",
            Self::Host => "host",
            Self::Connection => "connection",
            Self::KeepAlive => "keep-alive",
            Self::ProxyConnection => "proxy-connection",
            Self::ProxyAuthenticate => "proxy-authenticate",
            Self::ProxyAuthorization => "proxy-authorization",
            Self::TransferEncoding => "transfer-encoding",
            Self::Upgrade => "upgrade",
            Self::Expect => "expect",
            Self::Http2Settings => "http2-settings",
            Self::Te => "te",
            Self::Trailer => "trailer",
            Self::ContentLength => "content-length",
            Self::ContentType => "content-type",
            Self::Cookie => "cookie",
            Self::Forwarded => "forwarded",
            Self::Location => "location",
            Self::Server => "server",
            Self::UserAgent => "user-agent",
            Self::Date => "date",
            Self::Allow => "allow",
            Self::XForwardedFor => "x-forwarded-for",
            Self::XForwardedHost => "x-forwarded-host",
            Self::XForwardedPort => "x-forwarded-port",
            Self::XForwardedProto => "x-forwarded-proto",
            Self::XRealIp => "x-real-ip",
        }
    }

    /// Its bit in a set of names, for [`Fields::has_any`](super::Fields::has_any).
    pub(crate) const fn bit(self) -> u64 {
        1 << self as u8
    }
}

/// Which of the candidates a name is, or that it only looks like one.
fn forwarded(name: &[u8], candidates: &[Name]) -> Name {
    for candidate in candidates {
        let text = candidate.as_str().as_bytes();
        if name.eq_ignore_ascii_case(text) {
            return *candidate;
        }
        let alike = |(found, wanted): (&u8, &u8)| {
            found.eq_ignore_ascii_case(wanted) || (*found == b'_' && *wanted == b'-')
        };
        if name.iter().zip(text).all(alike) {
            return Name::ForwardedLookalike;
        }
    }
    Name::Other
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [Name; 26] = [
        Name::Host,
        Name::Connection,
        Name::KeepAlive,
        Name::ProxyConnection,
        Name::ProxyAuthenticate,
        Name::ProxyAuthorization,
        Name::TransferEncoding,
        Name::Upgrade,
        Name::Expect,
        Name::Http2Settings,
        Name::Te,
        Name::Trailer,
        Name::ContentLength,
        Name::ContentType,
        Name::Cookie,
        Name::Forwarded,
        Name::Location,
        Name::Server,
        Name::UserAgent,
        Name::Date,
        Name::Allow,
        Name::XForwardedFor,
        Name::XForwardedHost,
        Name::XForwardedPort,
        Name::XForwardedProto,
        Name::XRealIp,
    ];

    #[test]
    fn every_known_name_is_recognised_in_any_case() {
        for name in KNOWN {
            assert_eq!(Name::of(name.as_str().as_bytes()), name);
            assert_eq!(Name::of(name.as_str().to_uppercase().as_bytes()), name);
        }
        assert_eq!(Name::of(b"hOsT"), Name::Host);
    }

    #[test]
    fn neighbours_are_other_names() {
        for name in KNOWN {
            let text = name.as_str();
            let changed = format!("{}!", text.split_at(text.len() - 1).0);
            assert_eq!(Name::of(changed.as_bytes()), Name::Other, "{changed}");
            assert_eq!(Name::of(text.split_at(1).1.as_bytes()), Name::Other);
            assert_eq!(Name::of(format!("{text}s").as_bytes()), Name::Other);
        }
        assert_eq!(Name::of(b""), Name::Other);
        assert_eq!(Name::of(b"x-forwarded-hosp"), Name::Other);
    }

    #[test]
    fn lookalikes_of_the_forwarded_fields_are_told() {
        for name in [
            "X_Forwarded_For",
            "x-forwarded_host",
            "X_FORWARDED-PORT",
            "x_forwarded_proto",
            "X-Real_IP",
        ] {
            assert_eq!(
                Name::of(name.as_bytes()),
                Name::ForwardedLookalike,
                "{name}"
            );
        }
        assert_eq!(Name::of(b"user_agent"), Name::Other);
    }

    #[test]
    fn every_name_has_a_bit_of_its_own() {
        let all = KNOWN
            .into_iter()
            .chain([Name::Other, Name::ForwardedLookalike]);
        let bits = all.clone().fold(0, |bits, name| bits | name.bit());
        assert_eq!(bits.count_ones() as usize, all.count());
    }
}
