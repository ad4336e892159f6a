//! From plain text to HTTPS.

use tidegate_model::{RedirectPolicy, authority_host};

use crate::message::{Name, RequestHead, ResponseHead};

/// The redirect of a request to the same address with `https`. `None` when the request names no host to go to.
pub(crate) fn to_https(head: &RequestHead, policy: &RedirectPolicy) -> Option<ResponseHead> {
    let host = authority_host(head.authority()?);
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
    response
        .fields_mut()
        .append(Name::Location, location.as_bytes());
    Some(response)
}
