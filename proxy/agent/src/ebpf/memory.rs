//! Maps that are memory: words that the program in the kernel and several processes read and write.
#![allow(
    unsafe_code,
    reason = "memory that others write meanwhile can only be reached by pointers"
)]

use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::AtomicU64;

use aya::maps::MapData;
use memmap2::{MmapOptions, MmapRaw};

/// The entries of a map of words, mapped for as long as this lives.
#[derive(Debug)]
pub(super) struct Words {
    memory: MmapRaw,
    length: usize,
}

impl Words {
    /// Maps the first `length` words of an array that was made with `BPF_F_MMAPABLE`.
    ///
    /// # Errors
    /// The system's: the map is smaller, or no such array.
    pub(super) fn of(map: &MapData, length: usize) -> io::Result<Self> {
        let bytes = length * size_of::<u64>();
        let descriptor = std::os::fd::AsFd::as_fd(map.fd()).as_raw_fd();
        let memory = MmapOptions::new().len(bytes).map_raw(descriptor)?;
        Ok(Self { memory, length })
    }

    /// One of them; `None` past the end.
    pub(super) fn word(&self, index: usize) -> Option<&AtomicU64> {
        if index >= self.length {
            return None;
        }
        // SAFETY: the memory is `length` words long, starts on a page and is mapped until `self` is dropped, which the
        // returned reference does not outlive. All who write it, here and in the kernel, write whole aligned words.
        Some(unsafe { AtomicU64::from_ptr(self.memory.as_mut_ptr().cast::<u64>().add(index)) })
    }
}
