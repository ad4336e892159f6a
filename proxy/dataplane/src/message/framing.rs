//! Framing of bodies: where the bytes of a body lie among those of the connection (RFC 9112 sections 6 and 7).

use thiserror::Error;

use super::trailers::{self, MAX_TRAILER_BYTES};
use super::{BodyLength, Fields};

/// Why a body's framing cannot be read: a few plain words.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("{}", .0)]
pub(crate) struct FramingError(pub(crate) &'static str);

/// What the next bytes are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Step {
    /// Bytes of framing, to be dropped.
    pub(crate) framing: usize,
    /// Bytes of data that follow them.
    pub(crate) data: usize,
}

/// Reads the framing of one body. It is total: any bytes, split anyhow, give data, an end or an error.
#[derive(Debug)]
pub(crate) struct Decoder(Kind);

#[derive(Debug)]
enum Kind {
    /// So many bytes are left.
    Length(u64),
    Chunked(Chunked),
    UntilClose,
    /// The sender has closed after a body that ends so.
    Closed,
}

/// Most bytes of the extensions of one chunk.
const MAX_EXTENSIONS: u64 = 4 * 1024;
/// Bytes of framing that a body may have however short it is.
const FREE_FRAMING: u64 = 64 * 1024;
/// Bytes of framing that it may have beyond those, for each byte of data. A chunk of one byte needs five.
const FRAMING_PER_BYTE: u64 = 16;
/// Most digits of a chunk's size: 64 bits.
const MAX_DIGITS: u8 = 16;

/// Reads the chunked coding (RFC 9112 section 7.1).
#[derive(Debug, Default)]
struct Chunked {
    place: Place,
    /// Bytes of framing so far, without trailers.
    framing: u64,
    /// Bytes of data so far, the rest of this chunk included.
    data: u64,
    /// Lines of trailers so far.
    lines: Vec<u8>,
    trailers: Option<Box<Fields>>,
}

/// What the next byte belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Size {
        value: u64,
        digits: u8,
    },
    /// Whitespace behind the size, which only an extension may follow.
    BeforeExtension {
        size: u64,
        length: u64,
    },
    Extension {
        size: u64,
        length: u64,
    },
    /// The LF behind size and extensions.
    SizeEnd {
        size: u64,
    },
    Data {
        left: u64,
    },
    /// The CRLF behind the data.
    DataCr,
    DataLf,
    /// Behind the last chunk, at the start of a line.
    TrailerStart,
    Trailer,
    /// The LF of the blank line.
    LastLf,
    Done,
}

impl Default for Place {
    fn default() -> Self {
        Self::SIZE
    }
}

impl Decoder {
    pub(crate) fn new(length: BodyLength) -> Self {
        Self(match length {
            BodyLength::Empty => Kind::Length(0),
            BodyLength::Known(length) => Kind::Length(length),
            BodyLength::Chunked => Kind::Chunked(Chunked::default()),
            BodyLength::UntilClose => Kind::UntilClose,
        })
    }

    /// Whether the last byte of the body, framing included, has been read.
    pub(crate) fn is_done(&self) -> bool {
        match &self.0 {
            Kind::Length(left) => *left == 0,
            Kind::Chunked(chunked) => chunked.place == Place::Done,
            Kind::UntilClose => false,
            Kind::Closed => true,
        }
    }

    /// Tells what the next bytes are: some of framing, then some of data. Neither when the body is done or there are no
    /// bytes; otherwise at least one byte is told.
    pub(crate) fn decode(&mut self, bytes: &[u8]) -> Result<Step, FramingError> {
        match &mut self.0 {
            Kind::Length(left) => {
                let data = at_most(bytes.len(), *left);
                *left -= data as u64;
                Ok(Step { framing: 0, data })
            }
            Kind::Chunked(chunked) => chunked.decode(bytes),
            Kind::UntilClose => Ok(Step {
                framing: 0,
                data: bytes.len(),
            }),
            Kind::Closed => Ok(Step::default()),
        }
    }

    /// The sender has closed its side.
    ///
    /// # Errors
    /// The body is not whole.
    pub(crate) fn end_of_input(&mut self) -> Result<(), FramingError> {
        if let Kind::UntilClose = self.0 {
            self.0 = Kind::Closed;
        }
        if self.is_done() {
            Ok(())
        } else {
            Err(FramingError("closed within a body"))
        }
    }

    /// Bytes of data that are still to come, where the length was told.
    pub(crate) fn remaining(&self) -> Option<u64> {
        match self.0 {
            Kind::Length(left) => Some(left),
            _ => None,
        }
    }

    /// The trailers of a body that is done: those that may be trailers. `None` when there are none.
    pub(crate) fn take_trailers(&mut self) -> Option<Fields> {
        match &mut self.0 {
            Kind::Chunked(chunked) => chunked.trailers.take().map(|trailers| *trailers),
            _ => None,
        }
    }
}

fn at_most(length: usize, left: u64) -> usize {
    usize::try_from(left).map_or(length, |left| length.min(left))
}

impl Chunked {
    fn decode(&mut self, bytes: &[u8]) -> Result<Step, FramingError> {
        let mut framing = 0;
        while let Some(rest) = bytes.get(framing..).filter(|rest| !rest.is_empty()) {
            match self.place {
                Place::Done => break,
                Place::Data { left } => {
                    let data = at_most(rest.len(), left);
                    self.place = match left - data as u64 {
                        0 => Place::DataCr,
                        left => Place::Data { left },
                    };
                    return Ok(Step { framing, data });
                }
                Place::TrailerStart if !rest.starts_with(b"\r") => framing += self.trailer(rest)?,
                Place::Trailer => framing += self.trailer(rest)?,
                place => {
                    let byte = rest.first().copied().unwrap_or_default();
                    self.place = self.after(place, byte)?;
                    framing += 1;
                }
            }
        }
        Ok(Step { framing, data: 0 })
    }

    /// Where a byte of framing leads to.
    fn after(&mut self, place: Place, byte: u8) -> Result<Place, FramingError> {
        self.framing += 1;
        if self.framing > FREE_FRAMING.saturating_add(self.data.saturating_mul(FRAMING_PER_BYTE)) {
            return Err(FramingError("more framing than data"));
        }
        match place {
            Place::Size { value, digits } => after_size(value, digits, byte),
            Place::BeforeExtension { length, .. } | Place::Extension { length, .. }
                if length > MAX_EXTENSIONS =>
            {
                Err(FramingError("a long chunk extension"))
            }
            Place::BeforeExtension { size, length } => match byte {
                b' ' | b'\t' => Ok(Place::BeforeExtension {
                    size,
                    length: length + 1,
                }),
                b';' => Ok(Place::Extension { size, length }),
                _ => Err(BAD_SIZE),
            },
            Place::Extension { size, length } => match byte {
                b'\r' => Ok(Place::SizeEnd { size }),
                b'\t' | b' '..=0x7e | 0x80.. => Ok(Place::Extension {
                    size,
                    length: length + 1,
                }),
                _ => Err(FramingError("a bad chunk extension")),
            },
            Place::SizeEnd { size } if byte == b'\n' => Ok(self.begin(size)),
            Place::DataCr if byte == b'\r' => Ok(Place::DataLf),
            Place::DataLf if byte == b'\n' => Ok(Place::SIZE),
            Place::TrailerStart if byte == b'\r' => Ok(Place::LastLf),
            Place::LastLf if byte == b'\n' => self.finish(),
            _ => Err(FramingError("a bad chunk end")),
        }
    }

    /// What follows the line of a chunk's size.
    fn begin(&mut self, size: u64) -> Place {
        self.data = self.data.saturating_add(size);
        match size {
            0 => Place::TrailerStart,
            left => Place::Data { left },
        }
    }

    /// Takes the rest of a trailer's line, or as much as is there. Returns its length.
    fn trailer(&mut self, bytes: &[u8]) -> Result<usize, FramingError> {
        let line = bytes.split_inclusive(|byte| *byte == b'\n').next();
        let line = line.unwrap_or_default();
        if self.lines.len() + line.len() > MAX_TRAILER_BYTES {
            return Err(FramingError("long trailers"));
        }
        self.lines.extend_from_slice(line);
        self.place = match (self.lines.ends_with(b"\r\n"), line.ends_with(b"\n")) {
            (true, true) => Place::TrailerStart,
            (_, false) => Place::Trailer,
            (false, true) => return Err(FramingError("a bad trailer")),
        };
        Ok(line.len())
    }

    /// The blank line has come.
    fn finish(&mut self) -> Result<Place, FramingError> {
        let lines = std::mem::take(&mut self.lines);
        if !lines.is_empty() {
            let trailers = trailers::parse(&lines)?;
            self.trailers = (!trailers.is_empty()).then(|| Box::new(trailers));
        }
        Ok(Place::Done)
    }
}

const BAD_SIZE: FramingError = FramingError("a bad chunk size");

/// Where a byte leads to behind so many digits of a chunk's size.
fn after_size(value: u64, digits: u8, byte: u8) -> Result<Place, FramingError> {
    match (char::from(byte).to_digit(16), byte) {
        (Some(digit), _) if digits < MAX_DIGITS => Ok(Place::Size {
            value: value << 4 | u64::from(digit),
            digits: digits + 1,
        }),
        (Some(_), _) => Err(BAD_SIZE),
        _ if digits == 0 => Err(BAD_SIZE),
        (None, b'\r') => Ok(Place::SizeEnd { size: value }),
        (None, b';') => Ok(Place::Extension {
            size: value,
            length: 1,
        }),
        (None, b' ' | b'\t') => Ok(Place::BeforeExtension {
            size: value,
            length: 1,
        }),
        _ => Err(BAD_SIZE),
    }
}

impl Place {
    /// At the start of a chunk.
    const SIZE: Self = Self::Size {
        value: 0,
        digits: 0,
    };
}

/// Writes data as one chunk; no data is no chunk, since an empty one would end the body.
pub(crate) fn encode_chunk(data: &[u8], out: &mut Vec<u8>) {
    if data.is_empty() {
        return;
    }
    encode_size(data.len(), out);
    out.extend_from_slice(data);
    out.extend_from_slice(b"\r\n");
}

/// Writes the end of a chunked body.
pub(crate) fn encode_last_chunk(trailers: Option<&Fields>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"0\r\n");
    if let Some(trailers) = trailers {
        trailers.write(out);
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes the line of a chunk's size.
fn encode_size(size: usize, out: &mut Vec<u8>) {
    let first = size.checked_ilog2().unwrap_or(0) / 4;
    for place in (0..=first).rev() {
        let digit = (size >> (place * 4)) & 0xf;
        out.push(char::from_digit(digit as u32, 16).unwrap_or('0') as u8);
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests;
