//! Framing of bodies (RFC 9112 section 7).
use thiserror::Error;

use super::{BodyLength, Fields};

/// Why a body's framing cannot be read.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("{}", .0)]
pub(crate) struct FramingError(pub(crate) &'static str);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Step {
    /// Bytes of framing, to be dropped.
    pub(crate) framing: usize,
    /// Bytes of data that follow them.
    pub(crate) data: usize,
}

#[derive(Debug)]
pub(crate) struct Decoder {}

impl Decoder {
    pub(crate) fn new(_length: BodyLength) -> Self {
        unimplemented!()
    }
    pub(crate) fn is_done(&self) -> bool {
        unimplemented!()
    }
    pub(crate) fn decode(&mut self, _bytes: &[u8]) -> Result<Step, FramingError> {
        unimplemented!()
    }
    pub(crate) fn end_of_input(&mut self) -> Result<(), FramingError> {
        unimplemented!()
    }
    pub(crate) fn remaining(&self) -> Option<u64> {
        unimplemented!()
    }
    pub(crate) fn take_trailers(&mut self) -> Option<Fields> {
        unimplemented!()
    }
}

pub(crate) fn encode_chunk(_data: &[u8], _out: &mut Vec<u8>) {
    unimplemented!()
}

pub(crate) fn encode_last_chunk(_trailers: Option<&Fields>, _out: &mut Vec<u8>) {
    unimplemented!()
}
