//! Answers to an ACME server that looks whether a host is ours (RFC 8555 section 8.3).

use std::borrow::Cow;

use tidegate_model::ChallengeAnswers;

use super::Served;
use crate::message::{Name, RequestHead, ResponseHead};

/// The answer to a request for the token of a challenge that is ours, whatever its host. What asks for another token
/// is left to the routes, behind which others may answer challenges of their own.
pub(super) fn answer(head: &RequestHead, challenges: &ChallengeAnswers) -> Option<Served> {
    if challenges.is_empty() || !matches!(head.method(), "GET" | "HEAD") {
        return None;
    }
    let key_authorization = challenges.answer_to(head.path())?;
    let mut response = ResponseHead::with_status(200);
    response
        .fields_mut()
        .append(Name::ContentType, b"application/octet-stream");
    let body = Cow::Owned(key_authorization.to_owned());
    Some(Served::Local(response, body))
}
