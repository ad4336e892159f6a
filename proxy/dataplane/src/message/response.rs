//! Heads of responses.
use super::{BodyLength, Fields, Rejection};

/// What a response answers, as far as its body goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestKind {
    /// `HEAD`: the response has no body, whatever its fields say.
    Head,
    Other,
}

#[derive(Debug)]
pub(crate) struct ResponseHead(Box<Fields>);

impl ResponseHead {
    pub(crate) fn parse(
        _bytes: &[u8],
        _to: RequestKind,
    ) -> Result<Option<(Self, usize)>, Rejection> {
        unimplemented!()
    }
    pub(crate) fn from_http2(
        _parts: http::response::Parts,
        _to: RequestKind,
        _ended: bool,
    ) -> Result<Self, Rejection> {
        unimplemented!()
    }
    pub(crate) fn with_status(_status: u16) -> Self {
        unimplemented!()
    }
    pub(crate) fn status(&self) -> u16 {
        unimplemented!()
    }
    pub(crate) fn is_informational(&self) -> bool {
        unimplemented!()
    }
    pub(crate) fn fields(&self) -> &Fields {
        unimplemented!()
    }
    pub(crate) fn fields_mut(&mut self) -> &mut Fields {
        unimplemented!()
    }
    pub(crate) fn body_length(&self) -> BodyLength {
        unimplemented!()
    }
    pub(crate) fn persists(&self) -> bool {
        unimplemented!()
    }
    pub(crate) fn write_http1(&self, _out: &mut Vec<u8>) {
        unimplemented!()
    }
    pub(crate) fn to_http2(&self) -> http::Response<()> {
        unimplemented!()
    }
}
