//! Host names: parsed once, then compared as bytes.

use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};
use thiserror::Error;

/// Why a text is no host name (RFC 1123 section 2.1, as Kubernetes validates `spec.rules[].host`).
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum HostnameError {
    /// Longer than 253 bytes, or empty.
    #[error("a host name has 1 to 253 characters")]
    Length,
    /// A label is empty or longer than 63 bytes.
    #[error("each part between dots has 1 to 63 characters")]
    LabelLength,
    /// Upper case letters.
    #[error("write it in lower case")]
    UpperCase,
    /// A character other than a-z, 0-9, `-` and `.`, or a hyphen at a label's end.
    #[error("use only a-z, 0-9, '-' and '.', and start and end each part with a letter or digit")]
    Character,
    /// A `*` that is not the whole first label.
    #[error("a wildcard is '*' as the whole first part, as in '*.example.com'")]
    Wildcard,
    /// An IP address, which Kubernetes does not allow as a host.
    #[error("an IP address is no host name; leave the host out to match every host")]
    IpAddress,
}

/// A DNS name in lower case, without a trailing dot. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hostname(Arc<str>);

impl Hostname {
    /// Parses a name.
    ///
    /// # Errors
    /// Whatever [`HostnameError`] names; upper case is an error, as it is to Kubernetes.
    pub fn parse(text: &str) -> Result<Self, HostnameError> {
        if text.is_empty() || text.len() > 253 {
            return Err(HostnameError::Length);
        }
        if text.contains('*') {
            return Err(HostnameError::Wildcard);
        }
        if text.parse::<std::net::IpAddr>().is_ok() {
            return Err(HostnameError::IpAddress);
        }
        for label in text.split('.') {
            if label.is_empty() || label.len() > 63 {
                return Err(HostnameError::LabelLength);
            }
            let bytes = label.as_bytes();
            if bytes.iter().any(u8::is_ascii_uppercase) {
                return Err(HostnameError::UpperCase);
            }
            let fits = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-';
            if !bytes.iter().all(fits) || bytes[0] == b'-' || bytes[bytes.len() - 1] == b'-' {
                return Err(HostnameError::Character);
            }
        }
        Ok(Self(text.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for Hostname {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Hostname {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Hostname {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// Which hosts a rule or a certificate is for. Ordered by precedence: an exact host, then a wildcard, then any host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostPattern {
    /// This host alone.
    Exact(Hostname),
    /// `*.` and this name: every host with exactly one label more.
    Wildcard(Hostname),
    /// Every host, and requests that name none.
    Any,
}

impl HostPattern {
    /// Parses `spec.rules[].host`: a name, `*.` and a name, or the empty text for any host.
    ///
    /// # Errors
    /// As [`Hostname::parse`].
    pub fn parse(text: &str) -> Result<Self, HostnameError> {
        if text.is_empty() {
            return Ok(Self::Any);
        }
        match text.strip_prefix("*.") {
            Some(rest) => Hostname::parse(rest).map(Self::Wildcard),
            None => Hostname::parse(text).map(Self::Exact),
        }
    }

    /// Whether a host, lower case and without a port, is one of these.
    pub fn matches(&self, host: &str) -> bool {
        match self {
            Self::Exact(name) => name.as_str() == host,
            Self::Wildcard(suffix) => parent(host) == Some(suffix.as_str()),
            Self::Any => true,
        }
    }

    /// The wildcard that an exact host is under, if there can be one.
    pub fn wildcard_above(&self) -> Option<Self> {
        let Self::Exact(name) = self else {
            return None;
        };
        let parent = parent(name.as_str())?;
        Hostname::parse(parent).ok().map(Self::Wildcard)
    }

    /// Whether every host of `other` is one of these too.
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (_, Self::Exact(host)) => self.matches(host.as_str()),
            (Self::Any, _) => true,
            (Self::Wildcard(ours), Self::Wildcard(theirs)) => ours == theirs,
            _ => false,
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name.as_str()),
            Self::Wildcard(suffix) => write!(f, "*.{suffix}"),
            Self::Any => f.write_str("*"),
        }
    }
}

impl Serialize for HostPattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What follows the first label of a host, which is what a wildcard is looked up by.
pub(crate) fn parent(host: &str) -> Option<&str> {
    let (label, rest) = host.split_once('.')?;
    (!label.is_empty() && !rest.is_empty()).then_some(rest)
}

/// The host part of an authority (`Host` header or `:authority`, RFC 9110 section 7.2): without the port, one
/// trailing dot removed. Letters keep their case: look-ups want lower case. IPv6 literals keep their brackets.
pub fn authority_host(authority: &str) -> &str {
    let host = match authority.strip_prefix('[') {
        Some(rest) => match rest.find(']') {
            Some(end) => &authority[..end + 2],
            None => authority,
        },
        None => authority
            .split_once(':')
            .map_or(authority, |(host, _)| host),
    };
    host.strip_suffix('.').unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_as_kubernetes_does() {
        assert!(Hostname::parse("a.example-1.com").is_ok());
        let errors = [
            ("", HostnameError::Length),
            ("a..b", HostnameError::LabelLength),
            ("Example.com", HostnameError::UpperCase),
            ("-a.com", HostnameError::Character),
            ("a_b.com", HostnameError::Character),
            ("*", HostnameError::Wildcard),
            ("10.0.0.1", HostnameError::IpAddress),
        ];
        for (text, error) in errors {
            assert_eq!(Hostname::parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn a_wildcard_covers_one_label() -> Result<(), HostnameError> {
        let pattern = HostPattern::parse("*.example.com")?;
        assert!(pattern.matches("a.example.com"));
        assert!(!pattern.matches("example.com"));
        assert!(!pattern.matches("a.b.example.com"));
        assert!(!pattern.matches(".example.com"));
        assert_eq!(HostPattern::parse("a.*.com"), Err(HostnameError::Wildcard));
        Ok(())
    }

    #[test]
    fn an_authority_loses_its_port_and_dot() {
        assert_eq!(authority_host("a.example.com:8080"), "a.example.com");
        assert_eq!(authority_host("a.example.com."), "a.example.com");
        assert_eq!(authority_host("[::1]:80"), "[::1]");
        assert_eq!(authority_host("[::1]"), "[::1]");
        assert_eq!(authority_host(""), "");
    }
}
