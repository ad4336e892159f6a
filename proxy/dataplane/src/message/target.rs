//! Targets of requests (RFC 9112 section 3.2) and the one reading of their paths.
//!
//! # Normalisation
//! A path is normalised once, before anything looks at it; the query is not touched.
//! - `%2E` is a dot.
//! - Slashes that follow each other are one.
//! - Dot segments are removed (RFC 3986 section 5.2.4); `..` at the root stays at the root.
//! - Encoded slashes (`%2F`) and backslashes (`\`, `%5C`) separate nothing and stay as they are. A path that would have a
//!   dot segment if they did is refused: some servers behind us let them separate. So is one with a dot segment that has
//!   parameters (`/..;x/`): some servers leave those out.
//! - `%00` and incomplete percent-encodings are refused.
//! - All else stays byte for byte.

use super::authority::{self, Port};
use super::{MAX_TARGET, Rejection};

/// The forms of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target<'a> {
    /// `/path?query`.
    Origin(&'a str),
    /// `http://authority/path?query`: `rest` is path and query; the path may be empty.
    Absolute { authority: &'a str, rest: &'a str },
    /// `*`, of `OPTIONS`.
    Asterisk,
    /// `host:port`, of `CONNECT`.
    Authority(&'a str),
}

const BAD: Rejection = Rejection::malformed("a bad target");
const BAD_PATH: Rejection = Rejection::malformed("a bad path");

impl<'a> Target<'a> {
    /// Tells the form of a target and checks all but its path.
    pub(super) fn parse(method: &str, target: &'a str) -> Result<Self, Rejection> {
        if target.len() > MAX_TARGET {
            return Err(Rejection::TARGET_TOO_LONG);
        }
        // Without a way out in the middle the compiler looks at many bytes at once.
        let is_foreign = |byte: u8| (byte <= b' ') | (byte == 0x7f) | (byte == b'#');
        if target
            .bytes()
            .fold(false, |any, byte| any | is_foreign(byte))
        {
            return Err(BAD);
        }
        if method == "CONNECT" {
            authority::check(target.as_bytes(), Port::Required)?;
            return Ok(Self::Authority(target));
        }
        if target.starts_with('/') {
            return Ok(Self::Origin(target));
        }
        if target == "*" && method == "OPTIONS" {
            return Ok(Self::Asterisk);
        }
        let rest = after_scheme(target).ok_or(BAD)?;
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(end);
        authority::check(authority.as_bytes(), Port::Optional)?;
        Ok(Self::Absolute { authority, rest })
    }
}

/// What follows `http://` or `https://`.
fn after_scheme(target: &str) -> Option<&str> {
    let (scheme, rest) = target.split_once("://")?;
    (scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https")).then_some(rest)
}

/// Appends a path with its query, the path normalised. Returns the length of that path.
pub(super) fn normalise(path_and_query: &str, out: &mut String) -> Result<usize, Rejection> {
    let end = path_and_query.find('?').unwrap_or(path_and_query.len());
    let (path, query) = path_and_query.split_at(end);
    let start = out.len();
    if needs_work(path.as_bytes()) {
        let path = decode_dots(path)?;
        remove_segments(&path, out)?;
    } else {
        out.push_str(path);
    }
    let length = out.len() - start;
    out.push_str(query);
    Ok(length)
}

/// Whether a path has anything that normalisation looks at.
fn needs_work(path: &[u8]) -> bool {
    let marked = path
        .iter()
        .fold(false, |any, byte| any | (*byte == b'%') | (*byte == b'\\'));
    let pairs = path.iter().zip(path.iter().skip(1));
    marked
        | pairs.fold(false, |any, (first, second)| {
            any | ((*first == b'/') & ((*second == b'/') | (*second == b'.')))
        })
}

/// Checks the percent-encodings and decodes those of dots.
fn decode_dots(path: &str) -> Result<String, Rejection> {
    let mut pieces = path.split('%');
    let mut decoded = String::with_capacity(path.len());
    decoded.push_str(pieces.next().unwrap_or_default());
    for piece in pieces {
        let code = piece.get(..2).ok_or(BAD_PATH)?;
        if !code.bytes().all(|digit| digit.is_ascii_hexdigit()) || code == "00" {
            return Err(BAD_PATH);
        }
        if code.eq_ignore_ascii_case("2e") {
            decoded.push('.');
        } else {
            decoded.push('%');
            decoded.push_str(code);
        }
        decoded.push_str(piece.get(2..).unwrap_or_default());
    }
    Ok(decoded)
}

/// Appends a path without its empty and dot segments.
fn remove_segments(path: &str, out: &mut String) -> Result<(), Rejection> {
    let start = out.len();
    let mut ends_in_segment = false;
    for segment in path.split('/').skip(1) {
        if hides_dot_segment(segment) {
            return Err(BAD_PATH);
        }
        ends_in_segment = false;
        match segment {
            "" | "." => {}
            ".." => {
                // Looked for in the path alone: a method before it may be long.
                let parent = out.get(start..).and_then(|path| path.rfind('/'));
                out.truncate(start + parent.unwrap_or(0));
            }
            _ => {
                out.push('/');
                out.push_str(segment);
                ends_in_segment = true;
            }
        }
    }
    if !ends_in_segment {
        out.push('/');
    }
    Ok(())
}

/// Whether a segment would have dot segments in it if backslashes and encoded slashes were separators, and parameters
/// were left out.
fn hides_dot_segment(segment: &str) -> bool {
    let bytes = segment.as_bytes();
    let (mut start, mut place, mut separated) = (0, 0, false);
    while let Some(rest) = bytes.get(place..) {
        let separator = match rest {
            [] => 1,
            [b'\\', ..] => 1,
            [b'%', b'2', b'F' | b'f', ..] | [b'%', b'5', b'C' | b'c', ..] => 3,
            _ => {
                place += 1;
                continue;
            }
        };
        separated |= !rest.is_empty();
        let part = bytes.get(start..place).unwrap_or_default();
        let name = part.split(|byte| *byte == b';').next().unwrap_or_default();
        if matches!(name, b"." | b"..") && (separated || name.len() < part.len()) {
            return true;
        }
        place += separator;
        start = place;
    }
    false
}

#[cfg(test)]
mod tests;
