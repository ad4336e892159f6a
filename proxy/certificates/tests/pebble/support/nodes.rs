//! Nodes: each serves the answers of the store as the data plane does, at its own address.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::ServerConfig;
use rustls::server::Acceptor;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls_pki_types::PrivateKeyDer;
use tidegate_certificates::proof::Node;
use tidegate_certificates::{MemoryStore, RecordKind, Store};
use tidegate_testbed::pebble::Pebble;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::LazyConfigAcceptor;

use super::{HTTP, HTTPS};

type SharedStore = Arc<Mutex<MemoryStore>>;

/// The nodes of a test.
pub(crate) struct Fleet {
    nodes: Vec<Arc<Serving>>,
    tasks: Vec<JoinHandle<()>>,
    ready: Arc<Mutex<Vec<Node>>>,
}

struct Serving {
    address: Ipv4Addr,
    store: SharedStore,
    is_silent: AtomicBool,
    answered: AtomicUsize,
}

impl Fleet {
    pub(crate) async fn start(store: SharedStore, count: u8) -> Self {
        let mut fleet = Self {
            nodes: Vec::new(),
            tasks: Vec::new(),
            ready: Arc::default(),
        };
        for number in 0..count {
            let (address, pages, handshakes) = listeners().await;
            let serving = Arc::new(Serving {
                address,
                store: store.clone(),
                is_silent: AtomicBool::new(false),
                answered: AtomicUsize::new(0),
            });
            fleet
                .tasks
                .push(tokio::spawn(accept(pages, serving.clone(), page)));
            fleet
                .tasks
                .push(tokio::spawn(accept(handshakes, serving.clone(), handshake)));
            fleet.nodes.push(serving);
            fleet.ready.lock().unwrap().push(Node {
                name: format!("node-{number}"),
                addresses: [IpAddr::from(address)].into(),
            });
        }
        fleet
    }

    pub(crate) fn nodes(&self) -> Arc<dyn Fn() -> Vec<Node> + Send + Sync> {
        let ready = self.ready.clone();
        Arc::new(move || ready.lock().unwrap().clone())
    }

    /// Takes all nodes out of service, and returns them.
    pub(crate) fn take_ready(&self) -> Vec<Node> {
        std::mem::take(&mut *self.ready.lock().unwrap())
    }

    pub(crate) fn set_ready(&self, nodes: Vec<Node>) {
        *self.ready.lock().unwrap() = nodes;
    }

    pub(crate) fn address(&self, node: usize) -> Ipv4Addr {
        self.nodes[node].address
    }

    /// A node gives no answers, as one that does not hear of them.
    pub(crate) fn set_silent(&self, node: usize, is_silent: bool) {
        self.nodes[node]
            .is_silent
            .store(is_silent, Ordering::SeqCst);
    }

    /// How many answers a node has given.
    pub(crate) fn answered(&self, node: usize) -> usize {
        self.nodes[node].answered.load(Ordering::SeqCst)
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Listeners at an address of their own.
async fn listeners() -> (Ipv4Addr, TcpListener, TcpListener) {
    for _ in 0..20 {
        let address = Pebble::free_address();
        let pages = TcpListener::bind((address, HTTP)).await;
        let handshakes = TcpListener::bind((address, HTTPS)).await;
        if let (Ok(pages), Ok(handshakes)) = (pages, handshakes) {
            return (address, pages, handshakes);
        }
    }
    panic!("no free address of 127/8 after 20 attempts");
}

async fn accept<F: Future<Output = Option<()>> + Send + 'static>(
    listener: TcpListener,
    serving: Arc<Serving>,
    serve: fn(TcpStream, Arc<Serving>) -> F,
) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        tokio::spawn(serve(stream, serving.clone()));
    }
}

impl Serving {
    /// The entry of an answer, while the node gives any.
    async fn entry(&self, key: &str) -> Option<String> {
        if self.is_silent.load(Ordering::SeqCst) {
            return None;
        }
        let store = self.store.lock().unwrap().clone();
        let records = store.load(RecordKind::ChallengeAnswers).await.unwrap();
        let entry = records.iter().find_map(|record| record.entries.get(key))?;
        self.answered.fetch_add(1, Ordering::SeqCst);
        Some(String::from_utf8(entry.clone()).unwrap())
    }
}

/// Answers one request for a page.
async fn page(mut stream: TcpStream, serving: Arc<Serving>) -> Option<()> {
    let mut request = [0; 4096];
    let read = stream.read(&mut request).await.ok()?;
    let request = String::from_utf8_lossy(&request[..read]).into_owned();
    let path = request.split(' ').nth(1)?;
    let token = path.strip_prefix("/.well-known/acme-challenge/")?;
    let answer = match serving.entry(token).await {
        Some(answer) => format!(
            "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{answer}",
            answer.len()
        ),
        None => {
            "HTTP/1.1 404 Not Found\r\nconnection: close\r\ncontent-length: 0\r\n\r\n".to_owned()
        }
    };
    stream.write_all(answer.as_bytes()).await.ok()
}

/// Answers one handshake.
async fn handshake(stream: TcpStream, serving: Arc<Serving>) -> Option<()> {
    let start = LazyConfigAcceptor::new(Acceptor::default(), stream)
        .await
        .ok()?;
    let host = {
        let hello = start.client_hello();
        let mut protocols = hello.alpn()?;
        protocols.find(|protocol| *protocol == b"acme-tls/1")?;
        hello.server_name()?.to_owned()
    };
    let authorization = serving.entry(&format!("tls-alpn-01.{host}")).await?;
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, authorization.as_bytes());
    let mut params = CertificateParams::new([host]).unwrap();
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest.as_ref())];
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap().der().clone();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    // Not by the builder, which refuses the extension that this is about.
    let shown = CertifiedKey::new(
        vec![certificate],
        provider.key_provider.load_private_key(key).unwrap(),
    );
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(shown)));
    config.alpn_protocols = vec![b"acme-tls/1".to_vec()];
    start.into_stream(Arc::new(config)).await.ok()?;
    Some(())
}
