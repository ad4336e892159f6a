//! What clients see.

use std::net::SocketAddr;

use http::Version;
use tidegate::demo::client::{self, TlsClient};

use super::make::Pair;

/// The status of `/` of a host; `None` when nobody answers.
pub(crate) async fn status(node: SocketAddr, host: &str) -> Option<u16> {
    let answer = client::get(node, host, "/").await.ok()?;
    Some(answer.status())
}

/// The pod that answers `/` of a host; `None` when no pod does.
pub(crate) async fn pod(node: SocketAddr, host: &str) -> Option<String> {
    let answer = client::get(node, host, "/").await.ok()?;
    if answer.status() != 200 {
        return None;
    }
    let echo: serde_json::Value = serde_json::from_slice(&answer.body).ok()?;
    Some(echo.get("pod")?.as_str()?.to_owned())
}

/// The status of `/` of a host by TLS, with this certificate and no other.
pub(crate) async fn tls_status(node: SocketAddr, host: &str, pair: &Pair) -> Option<u16> {
    let client = TlsClient::trusting(pair.certificate.clone()).unwrap();
    let answer = client.get(node, host, "/", Version::HTTP_11).await.ok()?;
    Some(answer.status())
}
