//! TLS-ALPN-01 as a CA looks at it (RFC 8737 section 3): one handshake, and the certificate that comes in it.

use std::net::SocketAddr;
use std::sync::Arc;

use aws_lc_rs::digest;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tidegate_model::Hostname;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

/// The protocol that is asked for.
const PROTOCOL: &[u8] = b"acme-tls/1";
/// OID of acmeIdentifier.
const IDENTIFIER: &str = "1.3.6.1.5.5.7.1.31";

/// Looks once; an error says what was seen instead.
pub(super) async fn look(
    address: SocketAddr,
    host: &Hostname,
    authorization: &str,
) -> Result<(), String> {
    let stream = TcpStream::connect(address)
        .await
        .map_err(|error| format!("no connection: {error}"))?;
    let name = ServerName::try_from(host.as_str().to_owned()).map_err(|error| error.to_string())?;
    let connector = TlsConnector::from(Arc::new(config().map_err(|error| error.to_string())?));
    let stream = connector
        .connect(name, stream)
        .await
        .map_err(|error| format!("no handshake: {error}"))?;
    let (_, session) = stream.get_ref();
    if session.alpn_protocol() != Some(PROTOCOL) {
        return Err("it does not speak acme-tls/1".to_owned());
    }
    let leaf = session.peer_certificates().and_then(<[_]>::first);
    let leaf = leaf.ok_or("it shows no certificate")?;
    fault(leaf, host, authorization).map_or(Ok(()), Err)
}

/// Why a certificate does not answer the challenge.
fn fault(leaf: &CertificateDer<'_>, host: &Hostname, authorization: &str) -> Option<String> {
    let Ok((_, leaf)) = X509Certificate::from_der(leaf) else {
        return Some("its certificate cannot be read".to_owned());
    };
    let names = match leaf.subject_alternative_name() {
        Ok(Some(extension)) => &extension.value.general_names[..],
        _ => &[],
    };
    if !matches!(names, [GeneralName::DNSName(name)] if name.eq_ignore_ascii_case(host.as_str())) {
        return Some(format!("its certificate is not for {host} alone"));
    }
    let extension = leaf
        .extensions()
        .iter()
        .find(|extension| extension.oid.to_id_string() == IDENTIFIER);
    let Some(extension) = extension.filter(|extension| extension.critical) else {
        return Some("its certificate answers no challenge".to_owned());
    };
    let digest = digest::digest(&digest::SHA256, authorization.as_bytes());
    // An OCTET STRING of 32 bytes in DER.
    let is_right = matches!(extension.value, [0x04, 0x20, value @ ..] if value == digest.as_ref());
    (!is_right).then(|| "its certificate answers another challenge".to_owned())
}

fn config() -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anything(provider)))
        .with_no_client_auth();
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    Ok(config)
}

/// Accepts any certificate and signature: certificates of this challenge are self-signed with an extension that verifiers of
/// the web refuse, what is in them is looked at afterwards, and nothing secret is said.
#[derive(Debug)]
struct Anything(Arc<CryptoProvider>);

impl ServerCertVerifier for Anything {
    fn verify_server_cert(
        &self,
        _leaf: &CertificateDer<'_>,
        _others: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _leaf: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _leaf: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
