//! Heads of requests.
use std::borrow::Cow;

use super::{BodyLength, Fields, HttpVersion, Rejection};

#[derive(Debug)]
pub(crate) struct RequestHead(Box<Fields>);

impl RequestHead {
    pub(crate) fn parse(_bytes: &[u8]) -> Result<Option<(Self, usize)>, Rejection> {
        unimplemented!()
    }
    pub(crate) fn from_http2(
        _parts: &http::request::Parts,
        _ended: bool,
    ) -> Result<Self, Rejection> {
        unimplemented!()
    }
    pub(crate) fn version(&self) -> HttpVersion {
        unimplemented!()
    }
    pub(crate) fn method(&self) -> &str {
        unimplemented!()
    }
    pub(crate) fn is_connect(&self) -> bool {
        unimplemented!()
    }
    pub(crate) fn is_head(&self) -> bool {
        unimplemented!()
    }
    pub(crate) fn is_idempotent(&self) -> bool {
        unimplemented!()
    }
    pub(crate) fn fields(&self) -> &Fields {
        unimplemented!()
    }
    pub(crate) fn fields_mut(&mut self) -> &mut Fields {
        unimplemented!()
    }
    pub(crate) fn authority(&self) -> Option<&str> {
        unimplemented!()
    }
    pub(crate) fn host(&self) -> Cow<'_, str> {
        unimplemented!()
    }
    pub(crate) fn path(&self) -> &str {
        unimplemented!()
    }
    pub(crate) fn path_and_query(&self) -> &str {
        unimplemented!()
    }
    pub(crate) fn received_target(&self) -> &str {
        unimplemented!()
    }
    pub(crate) fn body_length(&self) -> BodyLength {
        unimplemented!()
    }
    pub(crate) fn persists(&self) -> bool {
        unimplemented!()
    }
    pub(crate) fn expects_continue(&self) -> bool {
        unimplemented!()
    }
    pub(crate) fn write_http1(&self, _out: &mut Vec<u8>) {
        unimplemented!()
    }
    pub(crate) fn to_http2(&self, _scheme: http::uri::Scheme) -> Option<http::Request<()>> {
        unimplemented!()
    }
}
