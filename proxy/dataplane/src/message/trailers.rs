//! Trailers: fields that come behind a body (RFC 9110 section 6.5, RFC 9112 section 7.1.2).

use http::HeaderMap;

use super::fields::is_field_name;
use super::framing::FramingError;
use super::{Fields, Name};

/// Most trailer fields of a body.
const MAX_TRAILERS: usize = 64;
/// Most bytes of them.
pub(super) const MAX_TRAILER_BYTES: usize = 16 * 1024;

/// Reads the lines between the last chunk and the blank line, each with its CRLF. Those that may not be trailers are
/// dropped.
///
/// # Errors
/// Lines that would be refused in a head, and too many of them.
pub(super) fn parse(lines: &[u8]) -> Result<Fields, FramingError> {
    // The scanner wants the blank line too.
    let mut block = Vec::with_capacity(lines.len() + 2);
    block.extend_from_slice(lines);
    block.extend_from_slice(b"\r\n");
    let mut headers = [httparse::EMPTY_HEADER; MAX_TRAILERS];
    match httparse::parse_headers(&block, &mut headers) {
        Ok(httparse::Status::Complete((length, found))) if length == block.len() => {
            let mut fields = Fields::new();
            for header in found {
                let name = header.name.as_bytes();
                if may_be_trailer(name) {
                    fields.append_other(name, header.value);
                }
            }
            Ok(fields)
        }
        Err(httparse::Error::TooManyHeaders) => Err(FramingError("too many trailers")),
        _ => Err(FramingError("a bad trailer")),
    }
}

/// Names that are no trailers beside those of [`Name`], of which none is: they modify the request, tell who asks, or
/// control what a cache or a client does with the response, which was done when the head came.
const NO_TRAILERS: [&str; 21] = [
    "age",
    "authorization",
    "cache-control",
    "expires",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "max-forwards",
    "origin",
    "pragma",
    "range",
    "retry-after",
    "set-cookie",
    "strict-transport-security",
    "vary",
    "via",
    "warning",
    "www-authenticate",
    "x-forwarded-server",
];

/// Whether a field may come behind a body (RFC 9110 section 6.5.1).
fn may_be_trailer(name: &[u8]) -> bool {
    let is_content = name
        .get(..8)
        .is_some_and(|start| start.eq_ignore_ascii_case(b"content-"));
    let is_barred = NO_TRAILERS
        .iter()
        .any(|barred| name.eq_ignore_ascii_case(barred.as_bytes()));
    Name::of(name) == Name::Other && !is_content && !is_barred
}

impl Fields {
    /// Trailers that came over HTTP/2. Those that may not be trailers are dropped, as are
    /// names that are none.
    pub(crate) fn from_http2_trailers(trailers: &HeaderMap) -> Self {
        let mut fields = Self::new();
        for (name, value) in trailers.iter().take(MAX_TRAILERS) {
            let written = name.as_str().as_bytes();
            if is_field_name(name) && may_be_trailer(written) {
                fields.append_other(written, value.as_bytes().trim_ascii());
            }
        }
        fields
    }

    /// Trailers for HTTP/2.
    pub(crate) fn to_http2_trailers(&self) -> HeaderMap {
        self.to_header_map(0)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    fn names(fields: &Fields) -> Vec<String> {
        fields
            .iter()
            .map(|(_, name, _)| String::from_utf8_lossy(name).into_owned())
            .collect()
    }

    #[test]
    fn what_is_no_trailer_is_dropped() {
        let lines = concat!(
            "Transfer-Encoding: chunked\r\nContent-Length: 3\r\nHost: a\r\nAuthorization: x\r\n",
            "Grpc-Status: 0\r\nContent-Type: a\r\nX_Forwarded_For: 1\r\nSet-Cookie: a=b\r\nX-Digest: 1\r\n",
        );
        let fields = parse(lines.as_bytes()).unwrap();
        assert_eq!(names(&fields), ["Grpc-Status", "X-Digest"]);
        assert_eq!(names(&parse(b"").unwrap()), [""; 0]);
    }

    #[test]
    fn lines_are_as_strict_as_in_heads() {
        for bad in [
            "a\r\n",
            ": b\r\n",
            "a : b\r\n",
            " a: b\r\n",
            "a: b\r\n c\r\n",
            "a: \0\r\n",
            "\r\na: b\r\n",
        ] {
            assert_eq!(
                parse(bad.as_bytes()).unwrap_err(),
                FramingError("a bad trailer"),
                "{bad:?}"
            );
        }
        let many = "a: b\r\n".repeat(MAX_TRAILERS + 1);
        assert_eq!(
            parse(many.as_bytes()).unwrap_err(),
            FramingError("too many trailers")
        );
    }

    #[test]
    fn over_http2_and_back() {
        let mut map = HeaderMap::new();
        map.insert("grpc-status", "0".parse().unwrap());
        map.insert("host", "a".parse().unwrap());
        // A name to `http`, and none to the receiver.
        let quoted = HeaderName::from_lowercase(b"a\"b").unwrap();
        map.insert(quoted.clone(), "0".parse().unwrap());
        let fields = Fields::from_http2_trailers(&map);
        map.remove("host");
        map.remove(quoted);
        assert_eq!(fields.to_http2_trailers(), map);
    }
}
