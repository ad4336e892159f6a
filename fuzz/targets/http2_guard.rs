//! The guard of HTTP/2 connections: what it knows is the same however the bytes are split, agrees with a plain reading
//! of the frames, and is bounded by what came.
//!
//! The first byte says who sends and chooses the cuts.
#![no_main]

use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use tidegate_dataplane::fuzzing::{Side, watch};
use tidegate_fuzz::Cuts;

/// Bytes of a client's preface.
const PREFACE: usize = 24;
/// What a peer may spend at once, and what a frame costs at most.
const CREDIT: u32 = 2_000;
const DEAREST: u64 = 10;
/// Time that earns nothing yet.
const INSTANT: Duration = Duration::from_millis(9);

fuzz_target!(|input: &[u8]| {
    let Some((seed, bytes)) = input.split_first() else {
        return;
    };
    let (side, preface) = match seed & 0x80 {
        0 => (Side::Client, PREFACE),
        _ => (Side::Endpoint, 0),
    };
    let start = Instant::now();
    let (whole, all) = watch(side, &[bytes]);
    assert_eq!(all, bytes);
    let (split, passed) = watch(side, &pieces(Cuts::new(*seed), bytes));
    assert!(bytes.starts_with(&passed));
    if start.elapsed() > INSTANT {
        return;
    }
    assert_eq!(whole.spent, split.spent);
    if !whole.spent {
        assert_eq!((whole, bytes), (split, &*passed));
    }
    let plain = Plain::read(bytes.get(preface..).unwrap_or_default());
    assert_eq!(whole.blocks, plain.blocks);
    assert_eq!(whole.open_block.is_some(), plain.is_open);
    assert_eq!(whole.going_away, plain.going_away);
    assert!(whole.owed <= plain.owed && whole.credit <= CREDIT);
    assert!(!whole.spent || plain.frames * DEAREST > u64::from(CREDIT));
    assert!(whole.spent || plain.control <= u64::from(CREDIT));
});

fn pieces(mut cuts: Cuts, mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut pieces = Vec::new();
    while let Some((piece, rest)) = cuts.next(bytes) {
        pieces.push(piece);
        bytes = rest;
    }
    pieces
}

/// What a reader sees that has all bytes at once.
#[derive(Debug, Default)]
struct Plain {
    frames: u64,
    /// Frames that carry neither fields nor data.
    control: u64,
    blocks: u64,
    is_open: bool,
    going_away: bool,
    /// Bytes of frames that are to be answered.
    owed: usize,
}

impl Plain {
    fn read(mut bytes: &[u8]) -> Self {
        let mut plain = Self::default();
        while let [l0, l1, l2, kind, flags, _, _, _, _, rest @ ..] = bytes {
            let length = u32::from_be_bytes([0, *l0, *l1, *l2]) as usize;
            let payload = rest.get(..length);
            plain.frames += 1;
            plain.control += u64::from(*kind > 1);
            match kind {
                1 | 9 => {
                    plain.blocks += u64::from(*kind == 1);
                    plain.is_open = payload.is_none() || flags & 0x4 == 0;
                }
                7 => plain.going_away = true,
                4 | 6 => plain.owed += 9 + length,
                _ => {}
            }
            bytes = payload.map_or(&[], |payload| &rest[payload.len()..]);
        }
        plain
    }
}
