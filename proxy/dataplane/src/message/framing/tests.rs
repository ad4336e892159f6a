//! Tests of the framing of bodies.

use proptest::prelude::*;

use super::*;
use crate::message::Name;

type Read = (Vec<u8>, Option<Fields>, Vec<u8>);

/// What a decoder makes of bytes that come in pieces: data, trailers, and what is left behind the body.
fn read(decoder: &mut Decoder, pieces: &[&[u8]]) -> Result<Read, FramingError> {
    let (mut data, mut left) = (Vec::new(), Vec::new());
    for piece in pieces {
        let mut piece = *piece;
        while !piece.is_empty() && !decoder.is_done() {
            let step = decoder.decode(piece)?;
            assert!(step.framing + step.data > 0, "progress");
            data.extend_from_slice(&piece[step.framing..step.framing + step.data]);
            piece = &piece[step.framing + step.data..];
        }
        left.extend_from_slice(piece);
    }
    let trailers = decoder.take_trailers();
    Ok((data, trailers, left))
}

fn chunked(bytes: &[u8]) -> Result<Vec<u8>, FramingError> {
    let mut decoder = Decoder::new(BodyLength::Chunked);
    let (data, ..) = read(&mut decoder, &[bytes])?;
    decoder.end_of_input()?;
    Ok(data)
}

#[test]
fn a_length_is_counted_down() {
    let mut decoder = Decoder::new(BodyLength::Known(5));
    assert_eq!(decoder.remaining(), Some(5));
    assert_eq!(
        decoder.decode(b"abc"),
        Ok(Step {
            framing: 0,
            data: 3
        })
    );
    assert_eq!(decoder.remaining(), Some(2));
    assert!(decoder.end_of_input().is_err());
    assert_eq!(
        decoder.decode(b"deGET"),
        Ok(Step {
            framing: 0,
            data: 2
        })
    );
    assert!(decoder.is_done());
    assert_eq!(decoder.decode(b"GET"), Ok(Step::default()));
    assert_eq!(decoder.end_of_input(), Ok(()));
}

#[test]
fn no_body_is_done_at_once() {
    let mut decoder = Decoder::new(BodyLength::Empty);
    assert!(decoder.is_done());
    assert_eq!(decoder.end_of_input(), Ok(()));
}

#[test]
fn until_close_ends_when_the_sender_closes() {
    let mut decoder = Decoder::new(BodyLength::UntilClose);
    let (data, ..) = read(&mut decoder, &[b"abc", b"def"]).unwrap();
    assert_eq!(data, b"abcdef");
    assert!(!decoder.is_done());
    assert_eq!(decoder.end_of_input(), Ok(()));
    assert!(decoder.is_done());
    assert_eq!(decoder.decode(b"x"), Ok(Step::default()));
}

#[test]
fn chunks_extensions_and_trailers() {
    let body = concat!(
        "5\r\nhello\r\n",
        "6;a=b;c=\"d e\"\r\n world\r\n",
        "00000001 ; x\r\n!\r\n",
        "000\r\nGrpc-Status: 0\r\nHost: evil\r\n\r\nGET /"
    );
    let mut decoder = Decoder::new(BodyLength::Chunked);
    let (data, trailers, left) = read(&mut decoder, &[body.as_bytes()]).unwrap();
    assert_eq!(data, b"hello world!");
    assert_eq!(left, b"GET /");
    let trailers = trailers.unwrap();
    let lines: Vec<_> = trailers.iter().collect();
    assert_eq!(lines, [(Name::Other, &b"Grpc-Status"[..], &b"0"[..])]);
    assert!(decoder.is_done());
    assert_eq!(decoder.remaining(), None);
}

#[test]
fn sizes_are_hexadecimal_and_fit_64_bits() {
    assert_eq!(
        chunked(b"a\r\n0123456789\r\n0\r\n\r\n").unwrap(),
        b"0123456789"
    );
    assert_eq!(
        chunked(b"A\r\n0123456789\r\n0\r\n\r\n").unwrap(),
        b"0123456789"
    );
    for bad in [
        "\r\n",
        " 1\r\nx\r\n",
        "+1\r\nx\r\n",
        "-1\r\nx\r\n",
        "0x1\r\nx\r\n",
        "g\r\n",
        "1h\r\n",
        ";a\r\nx",
        "1_0\r\n",
        "00000000000000001\r\nx\r\n",
        "1\t\r\nx\r\n",
        "1 \r\nx\r\n",
        "1 2\r\nx\r\n",
        "\n",
        "1\u{b}\r\n",
    ] {
        assert_eq!(chunked(bad.as_bytes()), Err(BAD_SIZE), "{bad:?}");
    }
    let mut decoder = Decoder::new(BodyLength::Chunked);
    let step = decoder.decode(b"ffffffffffffffff\r\nabc").unwrap();
    assert_eq!((step.framing, step.data), (18, 3));
}

#[test]
fn line_ends_are_crlf_and_data_ends_where_it_should() {
    for bad in [
        "1\nx\r\n0\r\n\r\n",
        "1\rx\r\n0\r\n\r\n",
        "1\r\nx\n0\r\n\r\n",
        "1\r\nx\r0\r\n\r\n",
        "1\r\nxy\r\n0\r\n\r\n",
        "2\r\nx\r\n0\r\n\r\n",
        "1\r\nx0\r\n\r\n",
        "0\n\n",
        "0\r\n\n",
        "0\r\n\rx",
        "0\r\na: b\n\r\n",
        "0\r\na: b\rc: d\r\n\r\n",
        "0\r\n\na: b\r\n\r\n",
    ] {
        assert!(chunked(bad.as_bytes()).is_err(), "{bad:?}");
    }
}

#[test]
fn extensions_have_no_control_bytes() {
    for bad in ["1;a\nx", "1;a\0\r\nx", "1;a\x7f\r\nx", "1;a\x1b\r\nx"] {
        assert_eq!(
            chunked(bad.as_bytes()),
            Err(FramingError("a bad chunk extension")),
            "{bad:?}"
        );
    }
    assert_eq!(
        chunked("1;a=\u{e4}\r\nx\r\n0\r\n\r\n".as_bytes()).unwrap(),
        b"x"
    );
}

#[test]
fn a_body_that_is_cut_off_is_no_body() {
    let whole = b"3;a=b\r\nabc\r\n0\r\na: b\r\n\r\n";
    for end in 0..whole.len() {
        assert_eq!(
            chunked(&whole[..end]),
            Err(FramingError("closed within a body")),
            "{end}"
        );
    }
    assert_eq!(chunked(whole).unwrap(), b"abc");
}

#[test]
fn extensions_and_trailers_are_bounded() {
    let long = "x".repeat(5_000);
    let extension = format!("1;{long}\r\nx\r\n0\r\n\r\n");
    assert_eq!(
        chunked(extension.as_bytes()),
        Err(FramingError("a long chunk extension"))
    );
    let spaces = format!("1{}\r\nx\r\n0\r\n\r\n", " ".repeat(5_000));
    assert_eq!(
        chunked(spaces.as_bytes()),
        Err(FramingError("a long chunk extension"))
    );
    let trailers = format!("0\r\n{}\r\n", format!("a: {long}\r\n").repeat(4));
    assert_eq!(
        chunked(trailers.as_bytes()),
        Err(FramingError("long trailers"))
    );
    let many = format!("0\r\n{}\r\n", "a: b\r\n".repeat(65));
    assert_eq!(
        chunked(many.as_bytes()),
        Err(FramingError("too many trailers"))
    );
}

#[test]
fn framing_is_bounded_by_the_data() {
    let chunk = format!("1;{}\r\nx\r\n", "x".repeat(100));
    assert_eq!(
        chunked(chunk.repeat(1_000).as_bytes()),
        Err(FramingError("more framing than data"))
    );
    let short = "1\r\nx\r\n".repeat(100_000) + "0\r\n\r\n";
    assert_eq!(chunked(short.as_bytes()).unwrap().len(), 100_000);
}

#[test]
fn encoded_sizes() {
    for (length, written) in [
        (1, "1\r\n"),
        (16, "10\r\n"),
        (255, "ff\r\n"),
        (65_536, "10000\r\n"),
    ] {
        let mut out = Vec::new();
        encode_chunk(&vec![b'x'; length], &mut out);
        assert!(out.starts_with(written.as_bytes()), "{length}");
        assert_eq!(out.len(), written.len() + length + 2);
    }
    let mut out = Vec::new();
    encode_chunk(b"", &mut out);
    assert!(out.is_empty());
}

#[test]
fn trailers_are_written_behind_the_last_chunk() {
    let mut trailers = Fields::new();
    trailers.append_other(b"grpc-status", b"0");
    let mut out = Vec::new();
    encode_last_chunk(Some(&trailers), &mut out);
    assert_eq!(out, b"0\r\ngrpc-status: 0\r\n\r\n");
    out.clear();
    encode_last_chunk(None, &mut out);
    assert_eq!(out, b"0\r\n\r\n");
}

/// Bytes that look like a chunked body more often than not.
fn chunk_like() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 1..20).prop_map(|data| {
            let mut out = Vec::new();
            encode_chunk(&data, &mut out);
            out
        }),
        1 => Just(b"0\r\n\r\n".to_vec()),
        1 => Just(b"3;a=b\r\nabc\r\n".to_vec()),
        1 => Just(b"0\r\na: b\r\n\r\n".to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..4),
        1 => "[0-9a-f;\r\n ]{0,6}".prop_map(String::into_bytes),
    ];
    prop::collection::vec(part, 0..6).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn any_splitting_reads_the_same(bytes in chunk_like(), cuts in prop::collection::vec(0_usize..200, 0..6)) {
        let whole = {
            let mut decoder = Decoder::new(BodyLength::Chunked);
            let read = read(&mut decoder, &[&bytes]);
            (read, decoder.is_done())
        };
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]).collect();
        let mut decoder = Decoder::new(BodyLength::Chunked);
        let split = read(&mut decoder, &pieces);
        match (whole, split) {
            ((Ok(whole), done), Ok(split)) => {
                prop_assert_eq!(whole.0, split.0);
                prop_assert_eq!(whole.2, split.2);
                prop_assert_eq!(done, decoder.is_done());
            }
            ((Err(whole), _), Err(split)) => prop_assert_eq!(whole, split),
            (whole, split) => prop_assert!(false, "{whole:?} {split:?}"),
        }
    }

    #[test]
    fn what_is_encoded_is_decoded(parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..8)) {
        let mut encoded = Vec::new();
        for part in &parts {
            encode_chunk(part, &mut encoded);
        }
        encode_last_chunk(None, &mut encoded);
        prop_assert_eq!(chunked(&encoded), Ok(parts.concat()));
    }

    #[test]
    fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut decoder = Decoder::new(BodyLength::Chunked);
        let _ = read(&mut decoder, &[&bytes]);
        let _ = decoder.end_of_input();
    }
}
