//! What comes of sending a request, whichever engine sent it.

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;

use crate::body::{RequestBody, ResponseBody};
use crate::head::{RequestHead, ResponseHead};

/// Why a request was not answered.
pub(crate) struct Unanswered {
    /// The request, when not a byte of it was sent.
    pub(crate) unsent: Option<(RequestHead, RequestBody)>,
    /// What happened.
    pub(crate) error: hyper::Error,
}

/// The head of a response and its body, which is still to come.
pub(crate) type Answered = Result<(ResponseHead, ResponseBody), Unanswered>;

/// An engine's outcome in our own types.
pub(crate) fn answered(
    outcome: Result<Response<Incoming>, TrySendError<Request<RequestBody>>>,
) -> Answered {
    match outcome {
        Ok(response) => {
            let (parts, body) = response.into_parts();
            Ok((ResponseHead::new(parts), ResponseBody::received(body)))
        }
        Err(mut error) => {
            let unsent = error.take_message().map(|request| {
                let (parts, body) = request.into_parts();
                (RequestHead::new(parts), body)
            });
            Err(Unanswered {
                unsent,
                error: error.into_error(),
            })
        }
    }
}
