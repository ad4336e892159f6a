//! Opening a stream to an endpoint.

use std::io;
use std::net::SocketAddr;

use rustls::pki_types::ServerName;
use thiserror::Error;
use tidegate_model::Protocol;

use super::{UpstreamState, UpstreamTls};
use crate::clock::{Elapsed, Timer, within};
use crate::transport::{Socket, Transport, connect_tls};

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
    tls: &UpstreamTls,
    timer: &Timer,
) -> Result<Transport, ConnectError> {
    let opened = within(timer, async {
        let socket = Socket::connect(address).await?;
        if upstream.protocol() != Protocol::Https {
            return Ok(Transport::Plain(socket));
        }
        let named = upstream
            .server_name()
            .and_then(|name| ServerName::try_from(name.as_str().to_owned()).ok());
        let name = named.unwrap_or_else(|| ServerName::IpAddress(address.ip().into()));
        let stream = connect_tls(socket, tls.clone(), name).await?;
        Ok(Transport::Tls(stream))
    });
    match opened.await {
        Ok(opened) => opened.map_err(ConnectError::Io),
        Err(Elapsed) => Err(ConnectError::TimedOut),
    }
}
