//! A gate in front of the CA: sees each request, and lets it through, answers it itself, or does something first or after.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rcgen::{CertificateParams, KeyPair};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tidegate_testbed::pebble::Pebble;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// What is done with a request.
pub(crate) enum Verdict {
    /// It is passed on, and so is its answer.
    Pass,
    /// It is answered with this, and not passed on.
    Answer(Response<&'static str>),
    /// It is passed on, and its answer is lost.
    LoseAnswer,
    /// It is lost.
    Lose,
}

type Judge = Box<dyn FnMut(&str) -> Verdict + Send>;

pub(crate) struct Gate {
    address: SocketAddr,
    authority: String,
    judge: Arc<Mutex<Judge>>,
    seen: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Gate {
    /// A gate that lets everything through.
    pub(crate) async fn new(pebble: &Pebble) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new([address.ip().to_string()])
            .unwrap()
            .self_signed(&key)
            .unwrap();
        let acceptor = acceptor(certificate.der().clone(), &key);
        let judge: Arc<Mutex<Judge>> = Arc::new(Mutex::new(Box::new(|_| Verdict::Pass)));
        let seen = Arc::<Mutex<Vec<String>>>::default();
        let behind = Behind::new(pebble);
        let (judged, noted) = (judge.clone(), seen.clone());
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (acceptor, behind) = (acceptor.clone(), behind.clone());
                let (judge, seen) = (judged.clone(), noted.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    let service = service_fn(|request| serve(request, &behind, &judge, &seen));
                    // Lost answers end a connection with an error.
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self {
            address,
            authority: certificate.pem(),
            judge,
            seen,
            task,
        }
    }

    pub(crate) fn directory(&self) -> String {
        format!("https://{}/dir", self.address)
    }

    pub(crate) fn authority(&self) -> Vec<u8> {
        self.authority.as_bytes().to_vec()
    }

    /// From here on, this decides about every request, by its path.
    pub(crate) fn judge(&self, judge: impl FnMut(&str) -> Verdict + Send + 'static) {
        *self.judge.lock().unwrap() = Box::new(judge);
    }

    /// Requests to paths that begin so.
    pub(crate) fn seen(&self, start: &str) -> usize {
        let seen = self.seen.lock().unwrap();
        seen.iter().filter(|path| path.starts_with(start)).count()
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    request: Request<Incoming>,
    behind: &Behind,
    judge: &Mutex<Judge>,
    seen: &Mutex<Vec<String>>,
) -> Result<Response<Full<Bytes>>, io::Error> {
    let path = request.uri().path().to_owned();
    seen.lock().unwrap().push(path.clone());
    let verdict = (judge.lock().unwrap())(&path);
    let lost = || Err(io::Error::other("lost"));
    match verdict {
        Verdict::Pass => behind.pass(request).await,
        Verdict::Answer(answer) => Ok(answer.map(Full::from)),
        Verdict::LoseAnswer => {
            behind.pass(request).await?;
            lost()
        }
        Verdict::Lose => lost(),
    }
}

/// What is behind the gate.
#[derive(Clone)]
struct Behind {
    address: SocketAddr,
    connector: TlsConnector,
}

impl Behind {
    fn new(pebble: &Pebble) -> Self {
        let directory: http::Uri = pebble.directory().parse().unwrap();
        let address = directory.authority().unwrap().as_str().parse().unwrap();
        let mut roots = RootCertStore::empty();
        let authority = CertificateDer::from_pem_slice(pebble.authority().as_bytes()).unwrap();
        roots.add(authority).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self {
            address,
            connector: TlsConnector::from(Arc::new(config)),
        }
    }

    /// Passes a request on with the `Host` that it has, so that the CA names the gate in its URLs.
    async fn pass(&self, request: Request<Incoming>) -> io::Result<Response<Full<Bytes>>> {
        let stream = TcpStream::connect(self.address).await?;
        let name = ServerName::IpAddress(self.address.ip().into());
        let stream = self.connector.connect(name, stream).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        tokio::spawn(connection);
        let (head, body) = request.into_parts();
        let body = Full::new(body.collect().await.map_err(io::Error::other)?.to_bytes());
        let answer = sender
            .send_request(Request::from_parts(head, body))
            .await
            .map_err(io::Error::other)?;
        let (mut head, body) = answer.into_parts();
        let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
        head.headers.remove(http::header::TRANSFER_ENCODING);
        if head.headers.get(http::header::CONNECTION).is_none() {
            head.headers.insert(
                http::header::CONNECTION,
                HeaderValue::from_static("keep-alive"),
            );
        }
        Ok(Response::from_parts(head, Full::new(body)))
    }
}

fn acceptor(certificate: CertificateDer<'static>, key: &KeyPair) -> TlsAcceptor {
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}
