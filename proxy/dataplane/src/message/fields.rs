//! Field lines.
use super::Name;

#[derive(Debug, Default)]
pub(crate) struct Fields {}

impl Fields {
    pub(crate) fn new() -> Self {
        unimplemented!()
    }
    pub(crate) fn has(&self, _name: Name) -> bool {
        unimplemented!()
    }
    pub(crate) fn has_any(&self, _mask: u64) -> bool {
        unimplemented!()
    }
    pub(crate) fn first(&self, _name: Name) -> Option<&[u8]> {
        unimplemented!()
    }
    pub(crate) fn all(&self, _name: Name) -> impl Iterator<Item = &[u8]> {
        std::iter::empty()
    }
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Name, &[u8], &[u8])> {
        std::iter::empty()
    }
    pub(crate) fn set(&mut self, _name: Name, _value: &[u8]) {
        unimplemented!()
    }
    pub(crate) fn append(&mut self, _name: Name, _value: &[u8]) {
        unimplemented!()
    }
    pub(crate) fn append_other(&mut self, _name: &[u8], _value: &[u8]) {
        unimplemented!()
    }
    pub(crate) fn remove(&mut self, _name: Name) {
        unimplemented!()
    }
    pub(crate) fn remove_named(&mut self, _name: &[u8]) {
        unimplemented!()
    }
    pub(crate) fn lists(&self, _name: Name, _member: &str) -> bool {
        unimplemented!()
    }
    pub(crate) fn is_empty(&self) -> bool {
        unimplemented!()
    }
    pub(crate) fn write(&self, _out: &mut Vec<u8>) {
        unimplemented!()
    }
    /// Trailers that came over HTTP/2; those that may not be trailers are dropped.
    pub(crate) fn from_http2_trailers(_trailers: &http::HeaderMap) -> Self {
        unimplemented!()
    }
    /// Trailers for HTTP/2.
    pub(crate) fn to_http2_trailers(&self) -> http::HeaderMap {
        unimplemented!()
    }
}

/// The members of a comma-separated field value (RFC 9110 section 5.6.1).
pub(crate) fn members(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value
        .split(|byte| *byte == b',')
        .map(<[u8]>::trim_ascii)
        .filter(|member| !member.is_empty())
}
