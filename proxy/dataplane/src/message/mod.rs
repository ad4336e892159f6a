//! Messages of HTTP: heads, field lines and the framing of bodies (RFC 9110, RFC 9112, RFC 9113). No I/O.
//!
//! A head is the bytes that were received, an index of their lines, and edits. It is checked once, when it is read:
//! whoever holds a [`RequestHead`] or a [`ResponseHead`] holds one with a single reading.

mod authority;
mod fields;
mod framing;
mod head;
mod length;
mod name;
mod recycled;
mod request;
mod response;
mod target;
mod trailers;

pub(crate) use fields::{Fields, members};
pub(crate) use framing::{Decoder, FramingError, encode_chunk, encode_last_chunk};
pub(crate) use head::{
    BodyLength, HttpVersion, MAX_FIELDS, MAX_HEAD, MAX_TARGET, Rejection, RejectionKind,
};
pub(crate) use name::Name;
pub(crate) use request::RequestHead;
pub(crate) use response::{RequestKind, ResponseHead};
