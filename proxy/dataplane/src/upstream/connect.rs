//! Opening a stream to an endpoint.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use rustls::pki_types::ServerName;
use thiserror::Error;
use tidegate_model::Protocol;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::UpstreamState;
use crate::clock::{Elapsed, Timer, within};

/// A stream to an endpoint, plain or TLS.
pub(crate) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Why an endpoint could not be reached.
#[derive(Debug, Error)]
pub(crate) enum ConnectError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("no connection within the time allowed")]
    TimedOut,
}

/// Connects, with TLS if the upstream's protocol has it, before the timer is due.
pub(crate) async fn connect(
    upstream: &UpstreamState,
    address: SocketAddr,
    tls: &TlsConnector,
    timer: &Timer,
) -> Result<Stream, ConnectError> {
    let opened = within(timer, async {
        let socket = if address.is_ipv4() {
            TcpSocket::new_v4()?
        } else {
            TcpSocket::new_v6()?
        };
        socket.set_nodelay(true)?;
        let stream = socket.connect(address).await?;
        if upstream.protocol() != Protocol::Https {
            return Ok(Stream::Plain(stream));
        }
        let named = upstream
            .server_name()
            .and_then(|name| ServerName::try_from(name.as_str().to_owned()).ok());
        let name = named.unwrap_or_else(|| ServerName::IpAddress(address.ip().into()));
        Ok(Stream::Tls(Box::new(tls.connect(name, stream).await?)))
    });
    match opened.await {
        Ok(opened) => opened.map_err(ConnectError::Io),
        Err(Elapsed) => Err(ConnectError::TimedOut),
    }
}

macro_rules! either {
    ($stream:expr, $inner:ident => $call:expr) => {
        match &mut *$stream {
            Stream::Plain(plain) => {
                let $inner = Pin::new(plain);
                $call
            }
            Stream::Tls(tls) => {
                let $inner = Pin::new(&mut **tls);
                $call
            }
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        either!(self, inner => inner.poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        either!(self, inner => inner.poll_write(cx, buf))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, inner => inner.poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, inner => inner.poll_shutdown(cx))
    }
}
