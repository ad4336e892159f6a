//! What the programs in the kernel and the agent both know: the layout of the maps that they share.
//!
//! Every type is `repr(C)` without padding and made of integers alone, for the kernel copies it as bytes. A change of any
//! of them is a new [`LAYOUT`].
#![no_std]
#![forbid(unsafe_code)]

pub mod steering;

/// The version of the maps' layout. A process that finds maps of another version leaves them alone and makes its own.
pub const LAYOUT: u32 = 1;
