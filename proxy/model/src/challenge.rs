//! Answers to HTTP-01 and TLS-ALPN-01 challenges, by which an ACME server sees that a host is ours (RFC 8555 section 8.3,
//! RFC 8737).

use std::fmt;

use hashbrown::HashMap;
use thiserror::Error;

use crate::Hostname;

/// What precedes the token in the path that an ACME server asks for.
const PATH: &str = "/.well-known/acme-challenge/";
/// Length of a JWK thumbprint: SHA-256 in base64url without padding (RFC 8555 section 8.1).
const THUMBPRINT: usize = 43;

/// Why a pair is no answer to a challenge.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum ChallengeError {
    /// The token is empty or not of the base64url alphabet.
    #[error("a token is one or more of A-Z, a-z, 0-9, '-' and '_'")]
    Token,
    /// The key authorization is not the token, a dot, and a thumbprint.
    #[error(
        "a key authorization is the token, '.', and the {THUMBPRINT} characters of the account key's thumbprint"
    )]
    KeyAuthorization,
}

/// The challenges that are answered now: key authorizations by token. Both are public, as everyone may ask for them.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ChallengeAnswers {
    answers: HashMap<Box<str>, Box<str>>,
    /// Key authorizations by the host that an ACME server asks for in a TLS handshake.
    handshakes: HashMap<Hostname, Box<str>>,
}

impl ChallengeAnswers {
    /// Adds an answer, in place of one for the same token.
    ///
    /// # Errors
    /// Either is not what RFC 8555 says it is; then nothing is added.
    pub fn insert(&mut self, token: &str, key_authorization: &str) -> Result<(), ChallengeError> {
        if !is_base64url(token) {
            return Err(ChallengeError::Token);
        }
        let thumbprint = key_authorization
            .strip_prefix(token)
            .and_then(|rest| rest.strip_prefix('.'));
        if !thumbprint.is_some_and(|text| text.len() == THUMBPRINT && is_base64url(text)) {
            return Err(ChallengeError::KeyAuthorization);
        }
        self.answers.insert(token.into(), key_authorization.into());
        Ok(())
    }

    /// Whether no challenge is answered, as is usual.
    pub fn is_empty(&self) -> bool {
        self.answers.is_empty() && self.handshakes.is_empty()
    }

    /// Adds an answer to TLS-ALPN-01 for a host, in place of one for the same host.
    ///
    /// # Errors
    /// The key authorization has not the form that RFC 8555 section 8.1 gives it; then nothing is added.
    pub fn insert_handshake(
        &mut self,
        host: Hostname,
        key_authorization: &str,
    ) -> Result<(), ChallengeError> {
        let (token, thumbprint) = key_authorization
            .split_once('.')
            .ok_or(ChallengeError::KeyAuthorization)?;
        if !is_base64url(token) || thumbprint.len() != THUMBPRINT || !is_base64url(thumbprint) {
            return Err(ChallengeError::KeyAuthorization);
        }
        self.handshakes.insert(host, key_authorization.into());
        Ok(())
    }

    /// Whether any TLS-ALPN-01 challenge is answered.
    pub fn has_handshakes(&self) -> bool {
        !self.handshakes.is_empty()
    }

    /// The key authorization for a handshake with this server name (lower case) and the protocol `acme-tls/1`.
    pub fn handshake(&self, server_name: &str) -> Option<&str> {
        self.handshakes.get(server_name).map(AsRef::as_ref)
    }

    /// Every host of TLS-ALPN-01 with its key authorization, by host.
    pub fn handshakes(&self) -> Vec<(&Hostname, &str)> {
        let entries = self.handshakes.iter();
        let mut entries: Vec<_> = entries.map(|(host, answer)| (host, &**answer)).collect();
        entries.sort_unstable();
        entries
    }

    /// The key authorization for a token.
    pub fn answer(&self, token: &str) -> Option<&str> {
        self.answers.get(token).map(AsRef::as_ref)
    }

    /// The key authorization for a request's path; `None` for other paths and for tokens that are not known.
    pub fn answer_to(&self, path: &str) -> Option<&str> {
        self.answer(path.strip_prefix(PATH)?)
    }

    /// Every token with its key authorization, by token.
    pub fn entries(&self) -> Vec<(&str, &str)> {
        let mut entries: Vec<_> = self
            .answers
            .iter()
            .map(|(token, answer)| (&**token, &**answer))
            .collect();
        entries.sort_unstable();
        entries
    }
}

impl fmt::Debug for ChallengeAnswers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(self.entries())
            .entries(self.handshakes())
            .finish()
    }
}

fn is_base64url(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    !text.is_empty() && text.bytes().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The thumbprint of RFC 7638 section 3.1.
    const PRINT: &str = "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs";

    #[test]
    fn a_token_is_answered_at_its_path_and_nowhere_else() {
        let mut answers = ChallengeAnswers::default();
        assert!(answers.is_empty());
        let authorization = format!("to-Ken_1.{PRINT}");
        answers.insert("to-Ken_1", &authorization).unwrap();
        let answer = |path| answers.answer_to(path);
        assert_eq!(
            answer("/.well-known/acme-challenge/to-Ken_1"),
            Some(&*authorization)
        );
        for other in [
            "/.well-known/acme-challenge/",
            "/.well-known/acme-challenge/to-ken_1",
            "/.well-known/acme-challenge/to-Ken_1/",
            "/.well-known/acme-challenge/to-Ken_",
            "/well-known/acme-challenge/to-Ken_1",
            "/to-Ken_1",
            "to-Ken_1",
            "*",
        ] {
            assert_eq!(answer(other), None, "{other}");
        }
    }

    #[test]
    fn what_is_no_token_or_no_key_authorization_is_refused() {
        let mut answers = ChallengeAnswers::default();
        for (token, authorization, wanted) in [
            ("", format!(".{PRINT}"), ChallengeError::Token),
            ("a.b", format!("a.b.{PRINT}"), ChallengeError::Token),
            ("a/b", format!("a/b.{PRINT}"), ChallengeError::Token),
            ("é", format!("é.{PRINT}"), ChallengeError::Token),
            ("a", String::new(), ChallengeError::KeyAuthorization),
            ("a", "a".to_owned(), ChallengeError::KeyAuthorization),
            ("a", "a.".to_owned(), ChallengeError::KeyAuthorization),
            ("a", "a.short".to_owned(), ChallengeError::KeyAuthorization),
            ("a", format!("b.{PRINT}"), ChallengeError::KeyAuthorization),
            ("a", format!("a.{PRINT}="), ChallengeError::KeyAuthorization),
            (
                "a",
                format!("a.{PRINT}\n"),
                ChallengeError::KeyAuthorization,
            ),
            ("a", format!("aa.{PRINT}"), ChallengeError::KeyAuthorization),
        ] {
            assert_eq!(
                answers.insert(token, &authorization),
                Err(wanted),
                "{token}"
            );
        }
        assert!(answers.is_empty());
    }

    #[test]
    fn a_handshake_is_answered_for_its_host_alone() {
        let mut answers = ChallengeAnswers::default();
        let host = Hostname::parse("a.example").unwrap();
        let authorization = format!("token.{PRINT}");
        for broken in ["", "token", "token.short", &format!(".{PRINT}"), PRINT] {
            let outcome = answers.insert_handshake(host.clone(), broken);
            assert_eq!(outcome, Err(ChallengeError::KeyAuthorization), "{broken}");
        }
        assert!(answers.is_empty() && !answers.has_handshakes());
        answers
            .insert_handshake(host.clone(), &authorization)
            .unwrap();
        assert!(!answers.is_empty() && answers.has_handshakes());
        assert_eq!(answers.handshake("a.example"), Some(&*authorization));
        assert_eq!(answers.handshake("b.example"), None);
        assert_eq!(answers.handshakes(), [(&host, &*authorization)]);
        assert_eq!(answers.answer("token"), None, "HTTP-01 is another matter");
    }
}
