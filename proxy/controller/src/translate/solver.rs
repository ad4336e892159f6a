//! Routes to whoever else answers HTTP-01 challenges, such as the solver that cert-manager starts for each of them.
//!
//! A path that names the token of a challenge is for that token alone and for as long as the challenge lasts. Its route
//! takes exactly this path whatever its `pathType`, is never redirected to HTTPS, and goes before older routes for the same
//! path when its Ingress is labelled as a solver's.

use std::collections::BTreeMap;

use tidegate_model::{PathKind, PathMatch, UnixTime};

/// What precedes the token in the path that an ACME server asks for (RFC 8555 section 8.3).
const PATH: &str = "/.well-known/acme-challenge/";
/// Label of the Ingresses that cert-manager makes for its solvers.
const LABEL: &str = "acme.cert-manager.io/http01-solver";
/// The age of a labelled route: older than everything.
pub(super) const OLDEST: UnixTime = UnixTime(i64::MIN);

/// The token whose challenge a path is for.
pub(super) fn token(path: &str) -> Option<&str> {
    let token = path.strip_prefix(PATH)?;
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (!token.is_empty() && token.bytes().all(fits)).then_some(token)
}

/// The condition of a route for one token; `None` for other paths.
pub(super) fn condition(path: &PathMatch) -> Option<PathMatch> {
    token(path.as_str())?;
    PathMatch::parse(PathKind::Exact, path.as_str()).ok()
}

/// Whether an Ingress is labelled as a solver's.
pub(super) fn is_labelled(labels: Option<&BTreeMap<String, String>>) -> bool {
    labels
        .and_then(|labels| labels.get(LABEL))
        .is_some_and(|value| value == "true")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_for_one_token_or_none() {
        assert_eq!(token("/.well-known/acme-challenge/a-B_1"), Some("a-B_1"));
        for other in [
            "/.well-known/acme-challenge",
            "/.well-known/acme-challenge/",
            "/.well-known/acme-challenge/a/",
            "/.well-known/acme-challenge/a/b",
            "/.well-known/acme-challenge/a.b",
            "/a/.well-known/acme-challenge/a",
            "/",
        ] {
            assert_eq!(token(other), None, "{other}");
        }
    }
}
