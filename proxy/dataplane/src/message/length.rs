//! What fields say of the length of a body (RFC 9112 section 6).

use super::{Fields, HttpVersion, Name, Rejection};

/// Names that tell where a body ends.
pub(super) const FRAMING: u64 = Name::ContentLength.bit() | Name::TransferEncoding.bit();

/// What fields say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Announced {
    Nothing,
    Length(u64),
    Chunked,
}

/// Reads the fields that frame an HTTP/1 message.
///
/// # Errors
/// Anything on which two readers could differ: both fields, either one twice, a list, a sign, a coding other than
/// `chunked`, a coding in HTTP/1.0.
pub(super) fn announced(fields: &Fields, version: HttpVersion) -> Result<Announced, Rejection> {
    if !fields.has_any(FRAMING) {
        return Ok(Announced::Nothing);
    }
    if !fields.has(Name::TransferEncoding) {
        return Ok(content_length(fields)?.map_or(Announced::Nothing, Announced::Length));
    }
    if fields.has(Name::ContentLength) {
        return Err(Rejection::malformed(
            "both Content-Length and Transfer-Encoding",
        ));
    }
    if version == HttpVersion::Http10 {
        return Err(Rejection::malformed("Transfer-Encoding in HTTP/1.0"));
    }
    let mut codings = fields.all(Name::TransferEncoding);
    match (codings.next(), codings.next()) {
        (Some(coding), None) if coding.eq_ignore_ascii_case(b"chunked") => Ok(Announced::Chunked),
        (_, None) => Err(Rejection::malformed("a transfer coding other than chunked")),
        _ => Err(Rejection::malformed("two Transfer-Encoding fields")),
    }
}

/// Reads `Content-Length`: one field, digits only, no more than fits 64 bits.
pub(super) fn content_length(fields: &Fields) -> Result<Option<u64>, Rejection> {
    let mut lengths = fields.all(Name::ContentLength);
    match (lengths.next(), lengths.next()) {
        (None, _) => Ok(None),
        (Some(digits), None) => decimal(digits)
            .map(Some)
            .ok_or(Rejection::malformed("a bad Content-Length")),
        _ => Err(Rejection::malformed("two Content-Length fields")),
    }
}

fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |value, digit| {
        let digit = char::from(*digit).to_digit(10)?;
        value.checked_mul(10)?.checked_add(digit.into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[(Name, &str)], version: HttpVersion) -> Result<Announced, &'static str> {
        let mut fields = Fields::new();
        for (name, value) in lines {
            fields.append(*name, value.as_bytes());
        }
        announced(&fields, version).map_err(|rejection| rejection.reason)
    }

    #[test]
    fn one_length_in_digits() {
        let length = |value| read(&[(Name::ContentLength, value)], HttpVersion::Http11);
        assert_eq!(length("0"), Ok(Announced::Length(0)));
        assert_eq!(
            length("18446744073709551615"),
            Ok(Announced::Length(u64::MAX))
        );
        for bad in [
            "",
            "+1",
            "-1",
            "1 2",
            "3, 3",
            "3,3",
            "0x3",
            "1e3",
            "3.0",
            "18446744073709551616",
            "99999999999999999999999",
            "\u{0663}",
            "3;",
            "3\u{b}",
        ] {
            assert_eq!(length(bad), Err("a bad Content-Length"), "{bad:?}");
        }
        let twice = [(Name::ContentLength, "3"), (Name::ContentLength, "3")];
        assert_eq!(
            read(&twice, HttpVersion::Http11),
            Err("two Content-Length fields")
        );
    }

    #[test]
    fn one_coding_and_that_is_chunked() {
        let coding = |value| read(&[(Name::TransferEncoding, value)], HttpVersion::Http11);
        assert_eq!(coding("chunked"), Ok(Announced::Chunked));
        assert_eq!(coding("Chunked"), Ok(Announced::Chunked));
        for bad in [
            "",
            "gzip",
            "identity",
            "gzip, chunked",
            "chunked, chunked",
            "chunked,",
            ",chunked",
            "chunked\u{b}",
            "chunked;q=1",
            "\"chunked\"",
            "xchunked",
            "chunked, identity",
        ] {
            assert_eq!(
                coding(bad),
                Err("a transfer coding other than chunked"),
                "{bad:?}"
            );
        }
        let twice = [
            (Name::TransferEncoding, "chunked"),
            (Name::TransferEncoding, "chunked"),
        ];
        assert_eq!(
            read(&twice, HttpVersion::Http11),
            Err("two Transfer-Encoding fields")
        );
        assert_eq!(
            read(&twice[..1], HttpVersion::Http10),
            Err("Transfer-Encoding in HTTP/1.0")
        );
    }

    #[test]
    fn never_both() {
        for lines in [
            [
                (Name::ContentLength, "3"),
                (Name::TransferEncoding, "chunked"),
            ],
            [
                (Name::TransferEncoding, "chunked"),
                (Name::ContentLength, "0"),
            ],
        ] {
            assert_eq!(
                read(&lines, HttpVersion::Http11),
                Err("both Content-Length and Transfer-Encoding")
            );
        }
    }
}
