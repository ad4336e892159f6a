//! What the fuzz targets share: a data plane with endpoints behind it, and another reader of HTTP/1.1 to compare with.
#![forbid(unsafe_code)]

mod cuts;
mod gate;
mod reader;
#[cfg(fuzzing)]
mod stream;
mod trust;

pub use cuts::Cuts;
pub use gate::{Gate, Listener};
pub use reader::{Read, Reader};
#[cfg(fuzzing)]
pub use stream::{End, Ours, read};
