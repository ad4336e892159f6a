//! Cipher suites: their names, in the two ways that people write them, and what to write in place of one there is not.

use std::fmt;

use serde::Serialize;
use thiserror::Error;

use super::TlsVersion;

/// The cipher suites that there are, by their names in the registry of IANA.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[allow(
    non_camel_case_types,
    missing_docs,
    reason = "the registry's names, which say it all"
)]
pub enum CipherSuite {
    TLS_AES_128_GCM_SHA256,
    TLS_AES_256_GCM_SHA384,
    TLS_CHACHA20_POLY1305_SHA256,
    TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
}

use CipherSuite::*;

impl CipherSuite {
    /// All of them: those of TLS 1.3 first.
    pub const ALL: [Self; 9] = [
        TLS_AES_128_GCM_SHA256,
        TLS_AES_256_GCM_SHA384,
        TLS_CHACHA20_POLY1305_SHA256,
        TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    ];

    /// Parses a name as IANA, OpenSSL, or Go has it, in upper or lower case. Those of TLS 1.3 may begin with `TLS13_`.
    ///
    /// # Errors
    /// No suite that there is has this name. The error tells which to use.
    pub fn parse(text: &str) -> Result<Self, CipherSuiteError> {
        let name = text.trim().to_ascii_uppercase().replace('-', "_");
        let prefix = ["TLS13_", "TLS_"]
            .iter()
            .find(|prefix| name.starts_with(**prefix));
        let name = name
            .get(prefix.map_or(0, |prefix| prefix.len())..)
            .unwrap_or_default();
        let parts: Vec<&str> = parts(name).collect();
        let found = Self::ALL.into_iter().find(|suite| {
            let own: Vec<&str> = suite.parts().collect();
            // To OpenSSL, AES128-GCM-SHA256 is an old suite without a key exchange of its own.
            (prefix.is_some() || suite.version() == TlsVersion::Tls12)
                && (own == parts
                    || suite.is_chacha20() && own.strip_suffix(&["SHA256"]) == Some(&parts))
        });
        found.ok_or_else(|| CipherSuiteError {
            name: crate::Excerpt(text).to_string(),
            nearest: nearest(&parts),
        })
    }

    /// Its name in the registry of IANA.
    pub fn name(self) -> &'static str {
        match self {
            TLS_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256",
            TLS_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384",
            TLS_CHACHA20_POLY1305_SHA256 => "TLS_CHACHA20_POLY1305_SHA256",
            TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 => "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
            TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 => "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
            TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 => {
                "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"
            }
            TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
            TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 => "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
            TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => {
                "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256"
            }
        }
    }

    /// Its number in that registry, by which handshakes name it.
    pub fn code(self) -> u16 {
        match self {
            TLS_AES_128_GCM_SHA256 => 0x1301,
            TLS_AES_256_GCM_SHA384 => 0x1302,
            TLS_CHACHA20_POLY1305_SHA256 => 0x1303,
            TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 => 0xc02b,
            TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 => 0xc02c,
            TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => 0xc02f,
            TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 => 0xc030,
            TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => 0xcca8,
            TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 => 0xcca9,
        }
    }

    /// The version of TLS that it belongs to.
    pub fn version(self) -> TlsVersion {
        match self.code() >> 8 {
            0x13 => TlsVersion::Tls13,
            _ => TlsVersion::Tls12,
        }
    }

    fn is_chacha20(self) -> bool {
        self.parts().any(|part| part == "CHACHA20")
    }

    fn parts(self) -> impl Iterator<Item = &'static str> {
        parts(self.name().strip_prefix("TLS_").unwrap_or_default())
    }
}

impl fmt::Display for CipherSuite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The parts of a name in upper case, alike for IANA (`ECDHE_RSA_WITH_AES_128_GCM_SHA256`) and OpenSSL
/// (`ECDHE_RSA_AES128_GCM_SHA256`).
fn parts(name: &str) -> impl Iterator<Item = &str> {
    let words = name.split('_').filter(|word| !matches!(*word, "WITH" | ""));
    words
        .flat_map(|word| match word.strip_prefix("AES") {
            Some(size @ ("128" | "256")) => ["AES", size].into_iter(),
            _ => [word, ""].into_iter(),
        })
        .filter(|part| !part.is_empty())
}

/// The suites that have most in common with a name: how the server proves itself first, then the cipher and its
/// strength. All when they have nothing.
fn nearest(parts: &[&str]) -> Vec<CipherSuite> {
    let weight = |part: &str| match part {
        "ECDSA" | "RSA" => 4,
        "AES" | "CHACHA20" => 3,
        "128" | "256" => 2,
        _ => 1,
    };
    let common = |suite: &CipherSuite| -> u32 {
        let shared = suite.parts().filter(|part| parts.contains(part));
        shared.map(weight).sum()
    };
    let most = CipherSuite::ALL.iter().map(common).max().unwrap_or(0);
    let mut suites = CipherSuite::ALL.to_vec();
    suites.retain(|suite| common(suite) == most);
    suites
}

/// A name that no cipher suite has that is offered to clients. Shown, it tells which to use instead.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("cipher suite '{name}' is not offered; use {}", Listed(.nearest))]
pub struct CipherSuiteError {
    /// As it was written, or its beginning.
    pub name: String,
    /// The suites that come nearest to it; never empty.
    pub nearest: Vec<CipherSuite>,
}

struct Listed<'a>(&'a [CipherSuite]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, suite) in self.0.iter().enumerate() {
            let before = match position {
                0 => "",
                _ if position + 1 == self.0.len() => " or ",
                _ => ", ",
            };
            write!(f, "{before}{suite}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_every_origin_are_read() {
        for suite in CipherSuite::ALL {
            assert_eq!(CipherSuite::parse(suite.name()), Ok(suite));
            assert_eq!(CipherSuite::parse(&suite.name().to_lowercase()), Ok(suite));
        }
        for (name, wanted) in [
            (
                "ECDHE-ECDSA-AES128-GCM-SHA256",
                TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
            ),
            (
                "ECDHE-RSA-AES256-GCM-SHA384",
                TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
            ),
            (
                "ECDHE-RSA-CHACHA20-POLY1305",
                TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
            ),
            (
                "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305",
                TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
            ),
            ("TLS13_AES_256_GCM_SHA384", TLS_AES_256_GCM_SHA384),
            (
                "TLS13-CHACHA20-POLY1305-SHA256",
                TLS_CHACHA20_POLY1305_SHA256,
            ),
            (" TLS_AES_128_GCM_SHA256 ", TLS_AES_128_GCM_SHA256),
        ] {
            assert_eq!(CipherSuite::parse(name), Ok(wanted), "{name}");
        }
    }

    #[test]
    fn what_is_not_offered_is_answered_with_what_is() {
        let nearest = |name| CipherSuite::parse(name).unwrap_err().nearest;
        for (name, wanted) in [
            (
                "ECDHE-RSA-AES128-SHA256",
                &[TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256][..],
            ),
            (
                "TLS_RSA_WITH_AES_256_CBC_SHA",
                &[TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384],
            ),
            (
                "ECDHE-ECDSA-AES256-SHA384",
                &[TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384],
            ),
            (
                "AES128-GCM-SHA256",
                &[
                    TLS_AES_128_GCM_SHA256,
                    TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
                    TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
                ],
            ),
            (
                "DHE-RSA-CHACHA20-POLY1305",
                &[TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256],
            ),
            ("RC4-MD5", &CipherSuite::ALL),
            ("", &CipherSuite::ALL),
            ("ECDHE", &CipherSuite::ALL[3..]),
        ] {
            assert_eq!(nearest(name), wanted, "{name}");
        }
        let error = CipherSuite::parse("ECDHE-RSA-AES128-SHA256").unwrap_err();
        assert_eq!(
            error.to_string(),
            "cipher suite 'ECDHE-RSA-AES128-SHA256' is not offered; use \
             TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"
        );
    }

    #[test]
    fn each_suite_belongs_to_one_version() {
        let of = |version| {
            CipherSuite::ALL
                .iter()
                .filter(|suite| suite.version() == version)
                .count()
        };
        assert_eq!((of(TlsVersion::Tls13), of(TlsVersion::Tls12)), (3, 6));
    }
}
