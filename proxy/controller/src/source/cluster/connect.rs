//! From a kubeconfig or a pod's environment to a client of the API server. Nothing here needs the network.

use std::env;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::Request;
use http::header::{AUTHORIZATION, HeaderValue, USER_AGENT};
use kube::client::{Body, ClientBuilder};
use kube::config::{InClusterError, KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};
use thiserror::Error;
use tower::util::MapRequestLayer;

/// Longest wait for a connection to the API server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest silence on a connection; a little more than the longest that a watch of [`Timing`](super::Timing) may be.
const READ_TIMEOUT: Duration = Duration::from_secs(400);
/// By this the kubelet tells a pod where the API server is.
const SERVICE_HOST: &str = "KUBERNETES_SERVICE_HOST";
/// What the kubelet mounts for a pod.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Where the API server and our credentials are told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// A kubeconfig file. `None`: the pod's own service account, or outside a pod `$KUBECONFIG` or `~/.kube/config`.
    pub kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig; `None` for its current one.
    pub context: Option<String>,
}

/// A client of the API server.
#[derive(Clone)]
pub struct Connection {
    /// Sends requests with our credentials.
    pub client: Client,
    /// Namespace of the service account, or of the context; else `default`.
    pub namespace: String,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("Connection");
        shown
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}

/// Why there is no way to the API server.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// A file or an entry of it is missing or wrong.
    #[error(
        "kubeconfig {place}: {source}; correct it, or name another one with --kubeconfig and --context"
    )]
    Kubeconfig {
        /// Where it was looked for.
        place: String,
        /// What is wrong.
        source: KubeconfigError,
    },
    /// The environment says that this is a pod, and something of its service account is missing.
    #[error(
        "{SERVICE_HOST} is set, so this is a pod, but {source} (its service account is looked for in \
         {SERVICE_ACCOUNT}); set automountServiceAccountToken, or name a file with --kubeconfig"
    )]
    InCluster {
        /// What is wrong.
        source: InClusterError,
    },
    /// A token file that cannot be read, or that holds no token.
    #[error("token file {path}: {reason}; it has to hold a bearer token")]
    Token {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Certificates, keys or credentials that do not fit together.
    #[error(
        "the client of the API server at {server} cannot be made: {source}; correct the credentials in {place}"
    )]
    Client {
        /// URL of the API server.
        server: String,
        /// Where the credentials came from.
        place: String,
        /// What is wrong.
        source: Box<kube::Error>,
    },
}

/// Makes a client. Succeeds with the API server down.
pub async fn connect(access: &Access) -> Result<Connection, ConnectError> {
    let (config, place) = configuration(access).await?;
    client(config, &place)
}

async fn configuration(access: &Access) -> Result<(Config, String), ConnectError> {
    let options = KubeConfigOptions {
        context: access.context.clone(),
        ..KubeConfigOptions::default()
    };
    if let Some(path) = &access.kubeconfig {
        let place = path.display().to_string();
        let loaded = match Kubeconfig::read_from(path) {
            Ok(kubeconfig) => Config::from_custom_kubeconfig(kubeconfig, &options).await,
            Err(error) => Err(error),
        };
        return located(loaded, place);
    }
    if access.context.is_none() && env::var_os(SERVICE_HOST).is_some() {
        let config = Config::incluster().map_err(|source| ConnectError::InCluster { source })?;
        return Ok((config, SERVICE_ACCOUNT.to_owned()));
    }
    let place = match env::var_os("KUBECONFIG") {
        Some(paths) => format!("{} (KUBECONFIG)", Path::new(&paths).display()),
        None => "~/.kube/config".to_owned(),
    };
    located(Config::from_kubeconfig(&options).await, place)
}

fn located(
    loaded: Result<Config, KubeconfigError>,
    place: String,
) -> Result<(Config, String), ConnectError> {
    match loaded {
        Ok(config) => Ok((config, place)),
        Err(source) => Err(ConnectError::Kubeconfig { place, source }),
    }
}

fn client(mut config: Config, place: &str) -> Result<Connection, ConnectError> {
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    config.read_timeout = Some(READ_TIMEOUT);
    // Whoever sends a request knows best when to send it again.
    config.default_retry = false;
    let agent = HeaderValue::from_static(concat!("tidegate/", env!("CARGO_PKG_VERSION")));
    config.headers.push((USER_AGENT, agent));
    let token = match (&config.auth_info.token, config.auth_info.token_file.take()) {
        (None, Some(file)) => Some(TokenFile::open(file.into())?),
        _ => None,
    };
    let (namespace, server) = (
        config.default_namespace.clone(),
        config.cluster_url.to_string(),
    );
    let builder = ClientBuilder::try_from(config).map_err(|source| ConnectError::Client {
        server,
        place: place.to_owned(),
        source: Box::new(source),
    })?;
    let client = match token {
        Some(token) => {
            let token = Arc::new(token);
            let layer = MapRequestLayer::new(move |request| token.authorize(request));
            builder.with_layer(&layer).build()
        }
        None => builder.build(),
    };
    Ok(Connection { client, namespace })
}

/// A file with a bearer token that others renew. It is read for every request, of which there are few, so that a
/// renewed token is in use at once.
struct TokenFile {
    path: PathBuf,
    last: Mutex<HeaderValue>,
}

impl TokenFile {
    fn open(path: PathBuf) -> Result<Self, ConnectError> {
        match bearer(&path) {
            Ok(value) => Ok(Self {
                path,
                last: Mutex::new(value),
            }),
            Err(reason) => Err(ConnectError::Token { path, reason }),
        }
    }

    /// Adds the token. While the file cannot be read, the last one is used.
    fn authorize(&self, mut request: Request<Body>) -> Request<Body> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(value) = bearer(&self.path) {
            *last = value;
        }
        request.headers_mut().insert(AUTHORIZATION, last.clone());
        request
    }
}

fn bearer(path: &Path) -> Result<HeaderValue, String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let token = text.trim();
    if token.is_empty() {
        return Err("it is empty".to_owned());
    }
    let mut value = HeaderValue::try_from(format!("Bearer {token}"))
        .map_err(|_| "it has bytes that no token has".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}
