//! Authorities: the host and port that a request is for (RFC 3986 section 3.2, RFC 9110 section 7.2).

use std::net::Ipv6Addr;

use super::Rejection;

/// What an authority has to have beside the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Port {
    Optional,
    /// As in the target of `CONNECT`.
    Required,
}

/// Checks an authority: a host that is not empty, with a numeric port if there is one.
///
/// Narrower than RFC 3986 where nobody needs it and readers differ: no user information, no comma, no address of a
/// future version, no colon without a port.
pub(super) fn check(authority: &[u8], port: Port) -> Result<(), Rejection> {
    if is_valid(authority, port) {
        Ok(())
    } else {
        Err(Rejection::malformed("a bad host"))
    }
}

fn is_valid(authority: &[u8], port: Port) -> bool {
    let (is_host, rest) = match authority.split_first() {
        Some((b'[', rest)) => match split_at(rest, b']') {
            (address, Some(rest)) => (is_ipv6(address), rest),
            _ => return false,
        },
        _ => {
            let end = authority.iter().position(|byte| *byte == b':');
            let (name, rest) = authority.split_at(end.unwrap_or(authority.len()));
            (is_registered_name(name), rest)
        }
    };
    let is_port = match rest.split_first() {
        None => port == Port::Optional,
        Some((b':', digits)) => is_port(digits),
        Some(_) => false,
    };
    is_host && is_port
}

/// What stands before a byte, and what behind it.
fn split_at(bytes: &[u8], byte: u8) -> (&[u8], Option<&[u8]>) {
    let mut parts = bytes.splitn(2, |found| *found == byte);
    (parts.next().unwrap_or_default(), parts.next())
}

fn is_ipv6(address: &[u8]) -> bool {
    std::str::from_utf8(address).is_ok_and(|address| address.parse::<Ipv6Addr>().is_ok())
}

/// Bytes that a registered name may have beside percent-encoded ones.
const NAME_BYTES: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    while byte < 0x80 {
        table[byte as usize] = byte.is_ascii_alphanumeric()
            || matches!(byte, b'-' | b'.' | b'_' | b'~')
            || matches!(
                byte,
                b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b';' | b'='
            );
        byte += 1;
    }
    table
};

fn is_registered_name(name: &[u8]) -> bool {
    let are_plain = |bytes: &[u8]| bytes.iter().all(|byte| NAME_BYTES[*byte as usize]);
    if are_plain(name) {
        return !name.is_empty();
    }
    let mut pieces = name.split(|byte| *byte == b'%');
    pieces.next().is_some_and(are_plain)
        && pieces.all(|piece| {
            let code = piece.get(..2).unwrap_or_default();
            code.len() == 2 && code.iter().all(u8::is_ascii_hexdigit) && are_plain(piece)
        })
}

fn is_port(digits: &[u8]) -> bool {
    let value = digits.iter().try_fold(0_u32, |value, digit| {
        Some(value * 10 + char::from(*digit).to_digit(10)?).filter(|value| *value <= 65_535)
    });
    !digits.is_empty() && value.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_with_and_without_port() {
        for good in [
            "a",
            "a.example",
            "A.Example.",
            "127.0.0.1",
            "127.0.0.1:80",
            "[::1]",
            "[2001:db8::1]:443",
            "a_b.example:65535",
            "a:0",
            "xn--bcher-kva.example",
            "a%20b",
            "a+b;c=d",
        ] {
            assert!(is_valid(good.as_bytes(), Port::Optional), "{good}");
        }
        assert!(is_valid(b"a:443", Port::Required));
        assert!(is_valid(b"[::1]:443", Port::Required));
        assert!(!is_valid(b"a", Port::Required));
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for bad in [
            "",
            ":80",
            "a:",
            "a:65536",
            "a:99999999999999999999",
            "a:8o",
            "a:80:80",
            "a:+80",
            "a b",
            "a,b",
            "u@a",
            "u:p@a",
            "a/b",
            "a?b",
            "a#b",
            "a\\b",
            "[::1",
            "::1",
            "[]",
            "[::1]80",
            "[::1]:",
            "[1.2.3.4]",
            "[v1.a]",
            "[fe80::1%25eth0]",
            "a%2",
            "a%zz",
            "\u{e4}.example",
            "a\tb",
            "a<b",
            "a|b",
            "a[b]",
            "]",
        ] {
            assert!(!is_valid(bad.as_bytes(), Port::Optional), "{bad}");
        }
    }
}
