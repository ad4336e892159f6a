//! Another reader of HTTP/1.1: hyper's server, fed from memory.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Runtime;

/// Field lines that a head may have there: more than a head may have here.
pub(crate) const MOST_FIELDS: usize = 200;

/// A request as hyper reads it.
#[derive(Clone, PartialEq, Eq)]
pub struct Read {
    /// Method.
    pub method: String,
    /// Target as received.
    pub target: String,
    /// Names in lower case and values, sorted by name.
    pub fields: Vec<(String, Vec<u8>)>,
    /// The body; `None` when it breaks off or its framing is refused.
    pub body: Option<Vec<u8>>,
}

impl fmt::Debug for Read {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.target)?;
        for (name, value) in &self.fields {
            write!(f, "\n  {name}: {}", value.escape_ascii())?;
        }
        match &self.body {
            Some(body) => writeln!(f, "\n  body: {}", body.escape_ascii()),
            None => writeln!(f, "\n  no body"),
        }
    }
}

/// Reads streams of requests.
#[derive(Debug)]
pub struct Reader {
    runtime: Runtime,
}

impl Reader {
    /// # Errors
    /// No runtime.
    pub fn new() -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        Ok(Self { runtime })
    }

    /// Every request of a stream, up to its end or to what hyper refuses.
    pub fn read(&self, bytes: &[u8]) -> Vec<Read> {
        let seen = Rc::new(RefCell::new(Vec::new()));
        self.runtime.block_on(serve(bytes, seen.clone()));
        seen.take()
    }
}

async fn serve(bytes: &[u8], seen: Rc<RefCell<Vec<Read>>>) {
    let (mut client, server) = tokio::io::duplex(bytes.len() + 1);
    let service = hyper::service::service_fn(move |request| {
        let seen = seen.clone();
        async move {
            let read = collect(request).await;
            let answer = match read.body {
                Some(_) => Ok(Response::new(Empty::<Bytes>::new())),
                None => Err("the body breaks off"),
            };
            seen.borrow_mut().push(read);
            answer
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .half_close(true)
        .max_headers(MOST_FIELDS)
        .serve_connection(TokioIo::new(server), service);
    let exchange = async {
        // It all fits, so that this does not wait for the server.
        let _ = client.write_all(bytes).await;
        let _ = client.shutdown().await;
        let _ = client.read_to_end(&mut Vec::new()).await;
    };
    let _ = tokio::join!(connection, exchange);
}

/// Reads a request to its end.
pub(crate) async fn collect(request: Request<Incoming>) -> Read {
    let (parts, body) = request.into_parts();
    let fields = parts.headers.iter();
    let mut fields: Vec<_> = fields
        .map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_owned()))
        .collect();
    fields.sort_by(|(a, _), (b, _)| a.cmp(b));
    let body = body.collect().await;
    Read {
        method: parts.method.as_str().to_owned(),
        target: parts.uri.to_string(),
        fields,
        body: body.ok().map(|body| body.to_bytes().to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_follow_each_other_until_one_is_refused() {
        let read = Reader::new().unwrap().read(
            b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc\
              PUT /b?c HTTP/1.1\r\nHost: a\r\nB: 2\r\nA: 1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n\
              GET /c HTTP/1.1\r\nHost : a\r\n\r\nGET /d HTTP/1.1\r\nHost: a\r\n\r\n",
        );
        let [first, second] = &*read else {
            panic!("{read:?}");
        };
        assert_eq!((&*first.method, &*first.target), ("POST", "/a"));
        assert_eq!(first.body.as_deref(), Some(&b"abc"[..]));
        assert_eq!((&*second.method, &*second.target), ("PUT", "/b?c"));
        assert_eq!(second.fields[0], ("a".to_owned(), b"1".to_vec()));
        assert_eq!(second.body.as_deref(), Some(&b"x"[..]));
    }

    #[test]
    fn a_body_that_breaks_off_is_none() {
        let reader = Reader::new().unwrap();
        let read = reader.read(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nab");
        assert_eq!(read[0].body, None);
        assert_eq!(read.len(), 1);
    }
}
