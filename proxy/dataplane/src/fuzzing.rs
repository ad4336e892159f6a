//! What fuzz targets see of the parsers: bytes in, plain values out. Compiled for them only (`--cfg fuzzing`).

use http::uri::Scheme;

pub use crate::http2::fuzzing::{Side, Watched, watch};
use crate::message::{self, Name, RequestHead, RequestKind, ResponseHead};

/// A field line: name as written, value.
pub type Field = (Vec<u8>, Vec<u8>);

/// What came of reading a head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reading<Head> {
    /// A head, and how many bytes it took.
    Whole(Head, usize),
    /// More bytes are needed.
    Partial,
    /// Refused: the status that the client is answered with, and why.
    Refused(u16, &'static str),
}

/// How a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// At once.
    Empty,
    /// After so many bytes.
    Known(u64),
    /// Its framing tells.
    Chunked,
    /// When the sender closes.
    UntilClose,
}

/// A request's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Method.
    pub method: String,
    /// As access logs write it.
    pub version: &'static str,
    /// Target as received.
    pub received_target: String,
    /// Normalised path, and query.
    pub target: String,
    /// Normalised path.
    pub path: String,
    /// Host and port.
    pub authority: Option<String>,
    /// Host in lower case.
    pub host: String,
    /// Field lines.
    pub fields: Vec<Field>,
    /// How its body ends.
    pub body: Length,
    /// Whether another request may follow.
    pub persists: bool,
    /// Whether the client waits for 100.
    pub expects_continue: bool,
    /// Start line and fields as they are written, with the blank line.
    pub written: Vec<u8>,
}

/// A response's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// Status.
    pub status: u16,
    /// Whether the final response is still to come.
    pub is_informational: bool,
    /// Field lines.
    pub fields: Vec<Field>,
    /// How its body ends.
    pub body: Length,
    /// Whether another response may follow.
    pub persists: bool,
    /// Start line and fields as they are written, with the blank line.
    pub written: Vec<u8>,
}

/// Reads a request's head.
pub fn request_head(bytes: &[u8]) -> Reading<Request> {
    match RequestHead::parse(bytes) {
        Ok(Some((head, length))) => Reading::Whole(Request::of(&head), length),
        Ok(None) => Reading::Partial,
        Err(rejection) => Reading::Refused(rejection.kind.status(), rejection.reason),
    }
}

/// Reads the head of a response to `HEAD` or to another request.
pub fn response_head(bytes: &[u8], to_method: &str) -> Reading<Response> {
    let to = match to_method {
        "HEAD" => RequestKind::Head,
        _ => RequestKind::Other,
    };
    match ResponseHead::parse(bytes, to) {
        Ok(Some((head, length))) => Reading::Whole(Response::of(&head), length),
        Ok(None) => Reading::Partial,
        Err(rejection) => Reading::Refused(rejection.kind.status(), rejection.reason),
    }
}

/// A request that came over HTTP/2.
#[derive(Debug)]
pub struct Http2Request(RequestHead);

impl Http2Request {
    /// Takes over what the `h2` crate has of a request; `ended` tells that no body follows.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn new(parts: &http::request::Parts, ended: bool) -> Result<Self, &'static str> {
        let head = RequestHead::from_http2(parts, ended);
        head.map(Self).map_err(|rejection| rejection.reason)
    }

    /// Its head.
    pub fn request(&self) -> Request {
        Request::of(&self.0)
    }

    /// As it goes to an endpoint that speaks HTTP/2. `None` when that cannot carry it.
    pub fn forwarded(&self) -> Option<http::Request<()>> {
        self.0.to_http2(Scheme::HTTP)
    }
}

impl Request {
    fn of(head: &RequestHead) -> Self {
        let mut written = Vec::new();
        head.write_http1(&mut written);
        written.extend_from_slice(b"\r\n");
        Self {
            method: head.method().to_owned(),
            version: head.version().as_str(),
            received_target: head.received_target().to_owned(),
            target: head.path_and_query().to_owned(),
            path: head.path().to_owned(),
            authority: head.authority().map(str::to_owned),
            host: head.host().into_owned(),
            fields: lines(head.fields()),
            body: head.body_length().into(),
            persists: head.persists(),
            expects_continue: head.expects_continue(),
            written,
        }
    }
}

impl Response {
    fn of(head: &ResponseHead) -> Self {
        let mut written = Vec::new();
        head.write_http1(&mut written);
        written.extend_from_slice(b"\r\n");
        Self {
            status: head.status(),
            is_informational: head.is_informational(),
            fields: lines(head.fields()),
            body: head.body_length().into(),
            persists: head.persists(),
            written,
        }
    }
}

fn lines(fields: &message::Fields) -> Vec<Field> {
    let lines = fields.iter();
    lines
        .map(|(_, name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

impl From<message::BodyLength> for Length {
    fn from(length: message::BodyLength) -> Self {
        match length {
            message::BodyLength::Empty => Self::Empty,
            message::BodyLength::Known(length) => Self::Known(length),
            message::BodyLength::Chunked => Self::Chunked,
            message::BodyLength::UntilClose => Self::UntilClose,
        }
    }
}

impl From<Length> for message::BodyLength {
    fn from(length: Length) -> Self {
        match length {
            Length::Empty => Self::Empty,
            Length::Known(length) => Self::Known(length),
            Length::Chunked => Self::Chunked,
            Length::UntilClose => Self::UntilClose,
        }
    }
}

/// Fields that can be edited: those of a request's head.
#[derive(Debug)]
pub struct Fields(RequestHead);

impl Fields {
    /// Those of a head; `None` unless it is a whole and good one.
    pub fn of(head: &[u8]) -> Option<Self> {
        let (head, _) = RequestHead::parse(head).ok()??;
        Some(Self(head))
    }

    /// Puts one value in place of all others. Whether the name is one that can be set.
    pub fn set(&mut self, name: &[u8], value: &[u8]) -> bool {
        let known = known(name);
        if let Some(name) = known {
            self.0.fields_mut().set(name, value);
        }
        known.is_some()
    }

    /// Adds a line.
    pub fn append(&mut self, name: &[u8], value: &[u8]) {
        match known(name) {
            Some(name) => self.0.fields_mut().append(name, value),
            None => self.0.fields_mut().append_other(name, value),
        }
    }

    /// Takes every line of a name out.
    pub fn remove(&mut self, name: &[u8]) {
        match known(name) {
            Some(name) => self.0.fields_mut().remove(name),
            None => self.0.fields_mut().remove_named(name),
        }
    }

    /// Values of a name that can be asked for; `None` for others.
    pub fn all(&self, name: &[u8]) -> Option<Vec<Vec<u8>>> {
        let fields = self.0.fields();
        let name = known(name)?;
        let all: Vec<_> = fields.all(name).map(<[u8]>::to_owned).collect();
        assert_eq!(fields.first(name), all.first().map(Vec::as_slice));
        assert_eq!(fields.has(name), !all.is_empty());
        assert_eq!(fields.has_any(name.bit()), !all.is_empty());
        Some(all)
    }

    /// Every line.
    pub fn lines(&self) -> Vec<Field> {
        assert_eq!(
            self.0.fields().is_empty(),
            lines(self.0.fields()).is_empty()
        );
        lines(self.0.fields())
    }

    /// The lines as they are written, without a blank line.
    pub fn written(&self) -> Vec<u8> {
        let mut written = Vec::new();
        self.0.fields().write(&mut written);
        written
    }

    /// The whole head as it is written, with the blank line.
    pub fn head(&self) -> Vec<u8> {
        Request::of(&self.0).written
    }
}

/// The name, if it is one and not one of many that are handled alike.
fn known(name: &[u8]) -> Option<Name> {
    let known = Name::of(name);
    (!known.as_str().is_empty()).then_some(known)
}

/// Reads the framing of a body.
#[derive(Debug)]
pub struct Body(message::Decoder);

impl Body {
    /// A body that ends so.
    pub fn new(length: Length) -> Self {
        Self(message::Decoder::new(length.into()))
    }

    /// Bytes of framing and bytes of data behind them, or why the framing cannot be read.
    ///
    /// # Errors
    /// The reason.
    pub fn decode(&mut self, bytes: &[u8]) -> Result<(usize, usize), String> {
        let step = self.0.decode(bytes).map_err(|error| error.to_string())?;
        Ok((step.framing, step.data))
    }

    /// Whether it is over.
    pub fn is_done(&self) -> bool {
        self.0.is_done()
    }

    /// The sender has closed. Whether the body is whole.
    pub fn end_of_input(&mut self) -> bool {
        self.0.end_of_input().is_ok()
    }

    /// Bytes of data still to come, where that is known.
    pub fn remaining(&self) -> Option<u64> {
        self.0.remaining()
    }

    /// Its trailers.
    pub fn trailers(&mut self) -> Option<Vec<Field>> {
        self.0.take_trailers().map(|trailers| lines(&trailers))
    }
}

/// Writes a chunk.
pub fn encode_chunk(data: &[u8], out: &mut Vec<u8>) {
    message::encode_chunk(data, out);
}

/// Writes the last chunk and trailers.
pub fn encode_last_chunk(trailers: &[Field], out: &mut Vec<u8>) {
    let mut fields = message::Fields::new();
    for (name, value) in trailers {
        fields.append_other(name, value);
    }
    message::encode_last_chunk((!trailers.is_empty()).then_some(&fields), out);
}
