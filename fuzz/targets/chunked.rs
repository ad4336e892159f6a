//! Framing of chunked bodies: any splitting gives the same; what is accepted is the same body to hyper and ends at the
//! same byte; what is encoded is decoded as it was.
//!
//! The first byte chooses the cuts.
#![no_main]
#![expect(clippy::expect_used, reason = "a panic is how a target fails")]

use libfuzzer_sys::fuzz_target;
use tidegate_dataplane::fuzzing::{Body, Field, Length, encode_chunk, encode_last_chunk};
use tidegate_fuzz::{Cuts, Reader};

thread_local! {
    static READER: Reader = Reader::new().expect("a runtime");
}

/// What came of a body.
#[derive(Debug, PartialEq, Eq)]
enum Decoded {
    Whole {
        data: Vec<u8>,
        length: usize,
        trailers: Option<Vec<Field>>,
    },
    /// More bytes are needed.
    Partial(Vec<u8>),
    Refused(String),
}

fuzz_target!(|input: &[u8]| {
    let Some((seed, bytes)) = input.split_first() else {
        return;
    };
    let whole = decode(bytes, Cuts::new(0));
    assert_eq!(whole, decode(bytes, Cuts::new(*seed)));
    assert_eq!(whole, decode(bytes, Cuts::new(1)));
    if let Decoded::Whole {
        data,
        length,
        trailers,
    } = whole
    {
        reads_alike(&bytes[..length], &data);
        reads_again(&data, trailers, *seed);
    }
});

fn decode(mut bytes: &[u8], mut cuts: Cuts) -> Decoded {
    let (mut body, mut data, mut length) = (Body::new(Length::Chunked), Vec::new(), 0);
    while let Some((mut piece, rest)) = cuts.next(bytes) {
        bytes = rest;
        while !piece.is_empty() && !body.is_done() {
            let (framing, taken) = match body.decode(piece) {
                Ok(step) => step,
                Err(reason) => return Decoded::Refused(reason),
            };
            assert!(framing + taken > 0, "no progress");
            data.extend_from_slice(&piece[framing..framing + taken]);
            length += framing + taken;
            piece = &piece[framing + taken..];
        }
    }
    assert_eq!(body.is_done(), body.end_of_input());
    match body.is_done() {
        true => Decoded::Whole {
            data,
            length,
            trailers: body.trailers(),
        },
        false => Decoded::Partial(data),
    }
}

/// hyper reads the same body, and the request behind it.
fn reads_alike(bytes: &[u8], data: &[u8]) {
    const HEAD: &[u8] = b"POST /1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    const NEXT: &[u8] = b"GET /2 HTTP/1.1\r\nHost: a\r\n\r\n";
    let stream = [HEAD, bytes, NEXT].concat();
    let read = READER.with(|reader| reader.read(&stream));
    let targets: Vec<_> = read.iter().map(|read| &*read.target).collect();
    assert_eq!(targets, ["/1", "/2"], "hyper reads {read:?}");
    assert_eq!(read[0].body.as_deref(), Some(data));
}

fn reads_again(data: &[u8], trailers: Option<Vec<Field>>, seed: u8) {
    let (mut encoded, mut cuts, mut rest) = (Vec::new(), Cuts::new(seed), data);
    while let Some((piece, left)) = cuts.next(rest) {
        encode_chunk(piece, &mut encoded);
        rest = left;
    }
    encode_last_chunk(trailers.as_deref().unwrap_or_default(), &mut encoded);
    let expected = Decoded::Whole {
        data: data.to_owned(),
        length: encoded.len(),
        trailers: trailers.filter(|trailers| !trailers.is_empty()),
    };
    assert_eq!(decode(&encoded, Cuts::new(seed)), expected);
}
