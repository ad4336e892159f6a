//! Field lines: the bytes that were received, an index of them, and edits.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::head::BARE_LF;
use super::{Name, Rejection};

/// Memory for text that is kept for the next head.
const KEPT_TEXT: usize = 8 * 1024;

/// The fields of a head, or of trailers.
///
/// The text of a head starts with its start line, so that start line and untouched fields are written by one copy.
#[derive(Debug, Default)]
pub(crate) struct Fields {
    text: Vec<u8>,
    /// Bytes of `text` that are the start line.
    start_line: u32,
    lines: Vec<Line>,
    /// [`Name::bit`] of every known name that is there.
    present: u64,
}

/// Where a line lies in the text.
#[derive(Clone, Copy, Debug)]
struct Line {
    start: u32,
    name_end: u32,
    value_start: u32,
    value_end: u32,
    /// Behind the CRLF.
    end: u32,
    name: Name,
    kept: bool,
}

impl Fields {
    /// No fields.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.kept().next().is_none()
    }

    pub(crate) fn has(&self, name: Name) -> bool {
        self.has_any(name.bit())
    }

    /// Whether one of a set of names is there: [`Name::bit`]s or-ed.
    pub(crate) fn has_any(&self, names: u64) -> bool {
        self.present & names != 0
    }

    /// The first value of a field.
    pub(crate) fn first(&self, name: Name) -> Option<&[u8]> {
        self.all(name).next()
    }

    /// Every value of a field, in order.
    pub(crate) fn all(&self, name: Name) -> impl Iterator<Item = &[u8]> {
        let lines: &[Line] = if self.has(name) { &self.lines } else { &[] };
        lines
            .iter()
            .filter(move |line| line.kept && line.name == name)
            .map(|line| self.value(line))
    }

    /// Name, name as written, and value of every field, in order.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Name, &[u8], &[u8])> {
        self.kept()
            .map(|line| (line.name, self.written_name(line), self.value(line)))
    }

    /// Whether the field is a comma-separated list with this member (ASCII case ignored).
    pub(crate) fn lists(&self, name: Name, member: &str) -> bool {
        self.all(name)
            .any(|value| members(value).any(|found| found.eq_ignore_ascii_case(member.as_bytes())))
    }

    /// Puts one value in place of all that the field had; it comes to stand last.
    pub(crate) fn set(&mut self, name: Name, value: &[u8]) {
        self.remove(name);
        self.append(name, value);
    }

    /// Puts the first value of another field in place of all that the field had; without one the field goes.
    pub(crate) fn copy(&mut self, from: Name, to: Name) {
        self.remove(to);
        let Some(line) = self.kept().find(|line| line.name == from) else {
            return;
        };
        let value = line.value_start as usize..line.value_end as usize;
        let start = self.text.len();
        self.text.extend_from_slice(to.as_str().as_bytes());
        self.text.extend_from_slice(b": ");
        let value_start = self.text.len();
        self.text.extend_from_within(value);
        self.end_line(to, start, value_start);
    }

    /// Adds a field line. The value is trusted to be one.
    pub(crate) fn append(&mut self, name: Name, value: &[u8]) {
        debug_assert!(!name.as_str().is_empty(), "no single name");
        self.push(name, name.as_str().as_bytes(), [value], b"");
    }

    /// Adds a field line with any name. Name and value are trusted to be such.
    pub(crate) fn append_other(&mut self, name: &[u8], value: &[u8]) {
        self.push(Name::of(name), name, [value], b"");
    }

    /// Takes a field out, every line of it.
    pub(crate) fn remove(&mut self, name: Name) {
        if !self.has(name) {
            return;
        }
        for line in &mut self.lines {
            line.kept &= line.name != name;
        }
        self.present &= !name.bit();
    }

    /// Takes a field out whose name may be any, in any case.
    pub(crate) fn remove_named(&mut self, written: &[u8]) {
        let name = Name::of(written);
        if !name.as_str().is_empty() {
            self.remove(name);
        } else if self.has(name) {
            self.remove_unknown(name, written);
        }
    }

    fn remove_unknown(&mut self, name: Name, written: &[u8]) {
        self.present &= !name.bit();
        for line in self.lines.iter_mut().filter(|line| line.name == name) {
            let found = slice(&self.text, line.start, line.name_end);
            line.kept &= !found.eq_ignore_ascii_case(written);
            if line.kept {
                self.present |= name.bit();
            }
        }
    }

    /// Writes the field lines, without a blank line behind them.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        self.write_runs(self.start_line, self.start_line, out);
    }

    /// Writes the start line and the field lines, without a blank line behind them.
    pub(super) fn write_head(&self, out: &mut Vec<u8>) {
        self.write_runs(0, self.start_line, out);
    }

    /// Writes neighbours together, beginning with the run that is given.
    fn write_runs(&self, mut start: u32, mut end: u32, out: &mut Vec<u8>) {
        for line in self.kept() {
            if line.start != end {
                out.extend_from_slice(slice(&self.text, start, end));
                start = line.start;
            }
            end = line.end;
        }
        out.extend_from_slice(slice(&self.text, start, end));
    }

    /// Sets the start line of what is empty so far. Its parts make up the whole line but for the CRLF.
    pub(super) fn start(&mut self, parts: &[&[u8]]) {
        debug_assert!(self.text.is_empty() && self.lines.is_empty());
        for part in parts {
            self.text.extend_from_slice(part);
        }
        self.text.extend_from_slice(b"\r\n");
        self.start_line = offset(self.text.len());
    }

    /// Takes over received field lines: `block` is all of them, and `headers` is what the scanner found in it.
    ///
    /// # Errors
    /// A line that does not end in CRLF.
    pub(super) fn receive(
        &mut self,
        block: &[u8],
        headers: &[httparse::Header<'_>],
    ) -> Result<(), Rejection> {
        let shift = self.text.len();
        let origin = block.as_ptr() as usize;
        let place = |part: &[u8]| part.as_ptr() as usize - origin;
        self.text.extend_from_slice(block);
        self.lines.reserve(headers.len());
        for (index, header) in headers.iter().enumerate() {
            let start = place(header.name.as_bytes());
            let value_start = place(header.value);
            let end = headers
                .get(index + 1)
                .map_or(block.len(), |next| place(next.name.as_bytes()));
            if !block.get(..end).is_some_and(|text| text.ends_with(b"\r\n")) {
                return Err(BARE_LF);
            }
            let name = Name::of(header.name.as_bytes());
            self.present |= name.bit();
            self.lines.push(Line {
                start: offset(shift + start),
                name_end: offset(shift + start + header.name.len()),
                value_start: offset(shift + value_start),
                value_end: offset(shift + value_start + header.value.len()),
                end: offset(shift + end),
                name,
                kept: true,
            });
        }
        Ok(())
    }

    /// Adds a line whose value comes in parts.
    pub(super) fn push<'a>(
        &mut self,
        name: Name,
        written: &[u8],
        values: impl IntoIterator<Item = &'a [u8]>,
        separator: &[u8],
    ) {
        let start = self.text.len();
        self.text.extend_from_slice(written);
        self.text.extend_from_slice(b": ");
        let value_start = self.text.len();
        for (index, value) in values.into_iter().enumerate() {
            debug_assert!(!value.iter().any(|byte| b"\r\n\0".contains(byte)));
            if index > 0 {
                self.text.extend_from_slice(separator);
            }
            self.text.extend_from_slice(value);
        }
        self.end_line(name, start, value_start);
    }

    /// Ends a line whose name, colon, space and value are the last of the text.
    fn end_line(&mut self, name: Name, start: usize, value_start: usize) {
        let value_end = self.text.len();
        self.text.extend_from_slice(b"\r\n");
        self.present |= name.bit();
        self.lines.push(Line {
            start: offset(start),
            name_end: offset(value_start - 2),
            value_start: offset(value_start),
            value_end: offset(value_end),
            end: offset(self.text.len()),
            name,
            kept: true,
        });
    }

    /// Adds a line that came over HTTP/2.
    ///
    /// # Errors
    /// A name that [is none](is_field_name), a value with whitespace at its ends (RFC 9113 section 8.2.1).
    pub(super) fn receive_http2(
        &mut self,
        name: &HeaderName,
        value: &HeaderValue,
    ) -> Result<(), Rejection> {
        if !is_field_name(name) {
            return Err(Rejection::malformed("a bad field name"));
        }
        check_ends(value)?;
        self.append_other(name.as_str().as_bytes(), value.as_bytes());
        Ok(())
    }

    /// Bytes of start line and field lines, those taken out included.
    pub(super) fn text_len(&self) -> usize {
        self.text.len()
    }

    /// Field lines, those taken out included.
    pub(super) fn line_count(&self) -> usize {
        self.lines.len()
    }

    /// Forgets all and keeps the memory, unless it is much.
    pub(super) fn reset(&mut self) {
        self.text.clear();
        self.text.shrink_to(KEPT_TEXT);
        self.lines.clear();
        self.start_line = 0;
        self.present = 0;
    }

    /// The fields as `http` has them, for HTTP/2, but for a set of names. The values share one copy of the text.
    pub(super) fn to_header_map(&self, but: u64) -> HeaderMap {
        let text = Bytes::copy_from_slice(&self.text);
        let mut map = HeaderMap::with_capacity(self.lines.len());
        for line in self.kept().filter(|line| line.name.bit() & but == 0) {
            let name = HeaderName::from_bytes(self.written_name(line));
            let value = text.slice(line.value_start as usize..line.value_end as usize);
            if let (Ok(name), Ok(value)) = (name, HeaderValue::from_maybe_shared(value)) {
                // More lines than a map can hold are refused long before.
                let _ = map.try_append(name, value);
            }
        }
        map
    }

    fn kept(&self) -> impl Iterator<Item = &Line> {
        self.lines.iter().filter(|line| line.kept)
    }

    fn written_name(&self, line: &Line) -> &[u8] {
        slice(&self.text, line.start, line.name_end)
    }

    fn value(&self, line: &Line) -> &[u8] {
        slice(&self.text, line.value_start, line.value_end)
    }
}

/// Whether a name is a token (RFC 9110 section 5.6.2): `http` takes a quotation mark for part of one.
pub(super) fn is_field_name(name: &HeaderName) -> bool {
    !name.as_str().contains('"')
}

/// Refuses whitespace at the ends of a value that came over HTTP/2.
pub(super) fn check_ends(value: &HeaderValue) -> Result<(), Rejection> {
    let is_space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    if is_space(value.as_bytes().first()) || is_space(value.as_bytes().last()) {
        return Err(Rejection::malformed("whitespace around a field value"));
    }
    Ok(())
}

fn slice(text: &[u8], start: u32, end: u32) -> &[u8] {
    text.get(start as usize..end as usize).unwrap_or_default()
}

/// A place in the text. Heads are bounded far below what fits.
fn offset(place: usize) -> u32 {
    debug_assert!(u32::try_from(place).is_ok());
    place as u32
}

/// The members of a comma-separated field value (RFC 9110 section 5.6.1).
pub(crate) fn members(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value
        .split(|byte| *byte == b',')
        .map(<[u8]>::trim_ascii)
        .filter(|member| !member.is_empty())
}

#[cfg(test)]
mod tests;
