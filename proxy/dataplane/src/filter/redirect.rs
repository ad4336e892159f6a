//! From plain text to HTTPS.

use tidegate_model::{RedirectPolicy, authority_host};

use crate::head::{Fields, RequestHead, ResponseHead, Value, name};

/// The redirect of a request to the same address with `https`. `None` when the request names no host to go to.
pub(crate) fn to_https(head: &RequestHead, policy: &RedirectPolicy) -> Option<ResponseHead> {
    let authority = head.first(&name::HOST)?.to_str().ok()?;
    let host = authority_host(authority);
    let target = if head.path() == "*" {
        "/"
    } else {
        head.path_and_query()
    };
    let location = match policy.port {
        443 => format!("https://{host}{target}"),
        port => format!("https://{host}:{port}{target}"),
    };
    let mut response = ResponseHead::with_status(policy.status);
    response.set(name::LOCATION, Value::try_from(location).ok()?);
    Some(response)
}
