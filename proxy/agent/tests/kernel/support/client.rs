//! One connection of a client, and how it ended.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;

/// Time for a connection and its request.
const LIMIT: Duration = Duration::from_secs(10);

/// How a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Nobody listened.
    Refused,
    /// The connection ended before the response did.
    Reset,
    /// Anything else.
    Other,
}

/// A request that failed.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) kind: Kind,
    pub(crate) what: String,
    /// When its connection was opened.
    pub(crate) started: Instant,
    /// When it failed.
    pub(crate) ended: Instant,
}

/// Where requests go, in plain text or by TLS.
#[derive(Clone)]
pub(crate) enum Target {
    Plain(PlainTarget),
    Tls(TlsTarget),
}

#[derive(Clone)]
pub(crate) struct PlainTarget {
    from: Option<IpAddr>,
    round_trip: Duration,
    address: SocketAddr,
    host: &'static str,
}

#[derive(Clone)]
pub(crate) struct TlsTarget {
    plain: PlainTarget,
    config: Arc<ClientConfig>,
}

impl TlsTarget {
    /// Trusts one certificate and resumes no session.
    pub(crate) fn new(
        address: SocketAddr,
        host: &'static str,
        certificate: &CertificateDer<'static>,
    ) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.resumption = Resumption::disabled();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Self {
            plain: PlainTarget {
                from: None,
                round_trip: Duration::ZERO,
                address,
                host,
            },
            config: Arc::new(config),
        }
    }
}

impl Target {
    pub(crate) fn plain(address: SocketAddr, host: &'static str) -> Self {
        Self::Plain(PlainTarget {
            from: None,
            round_trip: Duration::ZERO,
            address,
            host,
        })
    }

    /// The same from another address of this machine.
    pub(crate) fn from(mut self, address: IpAddr) -> Self {
        match &mut self {
            Self::Plain(plain) => plain.from = Some(address),
            Self::Tls(tls) => tls.plain.from = Some(address),
        }
        self
    }

    /// The same over a longer way: a connection's first bytes come so long after the server knew of it.
    pub(crate) fn over(mut self, round_trip: Duration) -> Self {
        match &mut self {
            Self::Plain(plain) => plain.round_trip = round_trip,
            Self::Tls(tls) => tls.plain.round_trip = round_trip,
        }
        self
    }

    /// A connection, a request and its response.
    pub(crate) async fn once(&self) -> Result<(), Failure> {
        let started = Instant::now();
        let exchange = async {
            match self {
                Self::Plain(plain) => {
                    let mut stream = plain.connect().await?;
                    plain.request(&mut stream, After::Close).await
                }
                Self::Tls(tls) => {
                    let connector = TlsConnector::from(tls.config.clone());
                    let name = ServerName::try_from(tls.plain.host).map_err(io::Error::other)?;
                    let stream = tls.plain.connect().await?;
                    let mut stream = connector.connect(name, stream).await?;
                    tls.plain.request(&mut stream, After::Close).await
                }
            }
        };
        classify(started, exchange).await.map(drop)
    }

    /// A plain connection that is kept after its first request.
    pub(crate) async fn open(&self) -> Result<KeptAlive, Failure> {
        let (Self::Plain(plain) | Self::Tls(TlsTarget { plain, .. })) = self;
        let started = Instant::now();
        let stream = classify(started, plain.connect()).await?;
        let mut connection = KeptAlive {
            target: plain.clone(),
            stream,
            started,
        };
        connection.request().await?;
        Ok(connection)
    }
}

/// What is asked of the server for the time after a response.
#[derive(Clone, Copy, PartialEq)]
enum After {
    Close,
    KeepAlive,
}

/// Whether there can be another request on the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Possible,
    Closed,
}

impl PlainTarget {
    async fn connect(&self) -> io::Result<TcpStream> {
        let socket = match self.address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        if let Some(from) = self.from {
            socket.bind((from, 0).into())?;
        }
        let stream = socket.connect(self.address).await?;
        stream.set_nodelay(true)?;
        if !self.round_trip.is_zero() {
            tokio::time::sleep(self.round_trip).await;
        }
        Ok(stream)
    }

    async fn request(
        &self,
        stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
        after: After,
    ) -> io::Result<Next> {
        let connection = match after {
            After::Close => "connection: close\r\n",
            After::KeepAlive => "",
        };
        let request = format!("GET / HTTP/1.1\r\nhost: {}\r\n{connection}\r\n", self.host);
        stream.write_all(request.as_bytes()).await?;
        stream.flush().await?;
        let next = read_response(stream).await?;
        if next == Next::Closed {
            // Lets the server close first; how is of no interest after a whole response.
            let mut rest = [0; 64];
            let closing = stream.read(&mut rest);
            _ = tokio::time::timeout(Duration::from_secs(1), closing).await;
        }
        Ok(next)
    }
}

/// A connection with more than one request.
pub(crate) struct KeptAlive {
    target: PlainTarget,
    stream: TcpStream,
    started: Instant,
}

impl KeptAlive {
    /// Whether the server has closed it meanwhile.
    pub(crate) fn is_closed(&self) -> bool {
        let ended = self.stream.try_read(&mut [0; 1]);
        !matches!(ended, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Another request.
    pub(crate) async fn request(&mut self) -> Result<Next, Failure> {
        let request = self.target.request(&mut self.stream, After::KeepAlive);
        classify(self.started, request).await
    }
}

async fn read_response(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Next> {
    let mut response = Vec::with_capacity(512);
    let head = loop {
        if stream.read_buf(&mut response).await? == 0 {
            let part = format!("closed after {} bytes of the response", response.len());
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, part));
        }
        let end = response.windows(4).position(|four| four == b"\r\n\r\n");
        if let Some(end) = end {
            let head = String::from_utf8_lossy(&response[..end]).to_lowercase();
            response.drain(..end + 4);
            break head;
        }
    };
    let length: usize = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .and_then(|length| length.parse().ok())
        .ok_or_else(|| io::Error::other(format!("a response without its length: {head}")))?;
    while response.len() < length {
        if stream.read_buf(&mut response).await? == 0 {
            let part = "closed within the body of the response";
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, part));
        }
    }
    match head.split(' ').nth(1) {
        Some("200") if head.contains("\r\nconnection: close") => Ok(Next::Closed),
        Some("200") => Ok(Next::Possible),
        status => Err(io::Error::other(format!("status {status:?}"))),
    }
}

async fn classify<T>(
    started: Instant,
    exchange: impl Future<Output = io::Result<T>>,
) -> Result<T, Failure> {
    let failure = |kind, what| Failure {
        kind,
        what,
        started,
        ended: Instant::now(),
    };
    match tokio::time::timeout(LIMIT, exchange).await {
        Err(_) => Err(failure(Kind::Other, format!("nothing within {LIMIT:?}"))),
        Ok(result) => result.map_err(|error| failure(kind_of(&error), error.to_string())),
    }
}

fn kind_of(error: &io::Error) -> Kind {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Kind::Refused,
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::UnexpectedEof => Kind::Reset,
        _ => Kind::Other,
    }
}
