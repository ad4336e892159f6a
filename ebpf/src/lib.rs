//! What the programs in the kernel and the agent both know: the layout of the maps that they share.
//!
//! Every type is `repr(C)` without padding and made of integers alone, for the kernel copies it as bytes. A change of any
//! of them is a new [`LAYOUT`].
#![no_std]
#![forbid(unsafe_code)]

pub mod guard;
pub mod steering;

/// The version of the maps' layout, a part of the path that they are pinned at: processes that know different ones do not
/// share maps.
pub const LAYOUT: u32 = 1;
