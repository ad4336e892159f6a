//! Probes of a pod over a Unix socket: `tidegate probe` asks, the process that serves answers.
//!
//! The admin listener moves to another process with a hand-over; this socket is its process's own, so that a probe within
//! a pod is about that pod.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;

use crate::admin::{self, Pages};
use crate::cli::{ProbeFlags, Question};
use crate::{Failure, output};

/// Where `tidegate probe` asks unless a flag says otherwise.
pub(crate) const DEFAULT_SOCKET: &str = "/run/tidegate/probe.sock";

/// Time for question and answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Longest answer.
const LONGEST: usize = 64 * 1024;

/// `tidegate probe`: exit code 0 when the answer is yes.
pub(crate) fn run(flags: &ProbeFlags) -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start a runtime")?;
    let asked = runtime.block_on(async {
        let asking = ask(&flags.socket, flags.question);
        tokio::time::timeout(PATIENCE, asking).await
    });
    let socket = flags.socket.display();
    let answer = asked
        .unwrap_or_else(|_| Err(anyhow!("no answer within {PATIENCE:?}: the process hangs")))
        .with_context(|| format!("probe by {socket}"))?;
    output::print(&answer.text)?;
    match answer.status {
        StatusCode::OK => Ok(ExitCode::SUCCESS),
        _ => Ok(ExitCode::FAILURE),
    }
}

/// What a process that serves answers.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) text: String,
}

async fn ask(socket: &Path, question: Question) -> anyhow::Result<Answer> {
    let page = match question {
        Question::Live => "/livez",
        Question::Ready => "/readyz?verbose",
    };
    exchange(socket, Method::GET, page, LONGEST).await
}

/// Asks for a page of the process at this socket, for an answer of so many bytes at most.
pub(crate) async fn exchange(
    socket: &Path,
    method: Method,
    page: &str,
    longest: usize,
) -> anyhow::Result<Answer> {
    let stream = UnixStream::connect(socket).await.context(
        "nobody answers; is a `tidegate serve` running with --probe-socket at this path?",
    )?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::builder()
        .method(method)
        .uri(page)
        .header("host", "localhost")
        .body(Empty::<Bytes>::new())?;
    let exchange = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), longest).collect().await;
        let body = body.map_err(|error| anyhow!("{error}"))?.to_bytes();
        let text = String::from_utf8_lossy(&body).into_owned();
        Ok(Answer { status, text })
    };
    let mut exchange = std::pin::pin!(exchange);
    tokio::select! {
        answer = &mut exchange => answer,
        // The server closes behind its answer, which may not have been looked at yet.
        _ = connection => exchange.await,
    }
}

/// A socket that answers probes for as long as this lives.
#[derive(Debug)]
pub(crate) struct ProbeSocket {
    path: PathBuf,
    /// Device and inode: a process that took over may have put its own in this place.
    identity: (u64, u64),
    answering: JoinHandle<()>,
}

impl ProbeSocket {
    /// Answers with these pages, for nobody but the same user (mode 0600). A socket at the same path is replaced, whose
    /// process is dead or about to be replaced itself. Call it within a tokio runtime.
    ///
    /// # Errors
    /// The socket cannot be made there, or something is there that is none.
    pub(crate) fn open(path: &Path, pages: Arc<Pages>) -> anyhow::Result<Self> {
        let remedy = || {
            format!(
                "probe socket {}: name a path of at most 100 bytes in a folder that exists and can be written, with \
                 --probe-socket or `probeSocket:` in the settings file",
                path.display()
            )
        };
        let listener = bind(path).with_context(remedy)?;
        let facts = fs::symlink_metadata(path).with_context(remedy)?;
        Ok(Self {
            path: path.to_owned(),
            identity: (facts.dev(), facts.ino()),
            answering: tokio::spawn(admin::run(listener, pages)),
        })
    }
}

impl Drop for ProbeSocket {
    fn drop(&mut self) {
        self.answering.abort();
        let identity = fs::symlink_metadata(&self.path).map(|facts| (facts.dev(), facts.ino()));
        if identity.is_ok_and(|identity| identity == self.identity) {
            _ = fs::remove_file(&self.path);
        }
    }
}

/// Binds beside the path and moves it there: whoever asks meets the old socket or the new one.
fn bind(path: &Path) -> anyhow::Result<UnixListener> {
    match fs::symlink_metadata(path) {
        Ok(facts) if !facts.file_type().is_socket() => {
            bail!("there is a file that is no socket; it is left as it is");
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let mut draft = OsString::from(path);
    draft.push(format!(".{}", std::process::id()));
    let draft = PathBuf::from(draft);
    _ = fs::remove_file(&draft);
    let listener = UnixListener::bind(&draft)?;
    let moved = fs::set_permissions(&draft, fs::Permissions::from_mode(0o600))
        .and_then(|()| fs::rename(&draft, path));
    if let Err(error) = moved {
        _ = fs::remove_file(&draft);
        return Err(error.into());
    }
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certs::{CertsError, CertsPages, Facts};
    use crate::readiness::Readiness;
    use crate::verbose::Parts;
    use futures_util::future::BoxFuture;
    use prometheus_client::registry::Registry;
    use tidegate_certificates::Report;
    use tidegate_model::HostPattern;
    use tokio::sync::watch;

    fn pages(readiness: &Readiness) -> Arc<Pages> {
        let (_, serving) = watch::channel(None);
        let (readiness, registry) = (readiness.clone(), Registry::default());
        Arc::new(Pages::new(readiness, serving, registry, Parts::default()))
    }

    #[tokio::test]
    async fn a_process_answers_for_itself_at_every_phase() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("probe.sock");
        let readiness = Readiness::new();
        let waiting = readiness.guard("hand-over");
        let socket = ProbeSocket::open(&path, pages(&readiness))?;
        assert_eq!(fs::metadata(&path)?.mode() & 0o777, 0o600);
        let live = ask(&path, Question::Live).await?;
        assert_eq!((live.status, &*live.text), (StatusCode::OK, "ok\n"));
        let ready = ask(&path, Question::Ready).await?;
        assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(ready.text.contains("waiting for: hand-over\n"));
        assert!(ready.text.ends_with("not ready\n"));
        drop(waiting);
        assert_eq!(ask(&path, Question::Ready).await?.status, StatusCode::OK);
        drop(socket);
        assert!(!path.exists());
        assert_eq!(fs::read_dir(folder.path())?.count(), 0);
        Ok(())
    }

    #[derive(Debug)]
    struct Certs;

    impl CertsPages for Certs {
        fn report(&self) -> BoxFuture<'_, Result<Arc<Report>, CertsError>> {
            Box::pin(async { Ok(Arc::default()) })
        }

        fn renew(&self, name: HostPattern) -> BoxFuture<'_, Result<(), CertsError>> {
            Box::pin(async move {
                match name.to_string().as_str() {
                    "a.example" => Ok(()),
                    name => Err(CertsError::Unknown(format!("no certificate for {name}"))),
                }
            })
        }

        fn facts(&self) -> BoxFuture<'_, Result<Facts, CertsError>> {
            Box::pin(async { Err(CertsError::Unavailable("not yet".to_owned())) })
        }

        fn rehearse(
            &self,
            name: HostPattern,
            issuer: Option<String>,
        ) -> BoxFuture<'_, Result<String, CertsError>> {
            Box::pin(async move { Ok(format!("{name} by {issuer:?}")) })
        }
    }

    #[tokio::test]
    async fn certificates_are_shown_and_asked_for_by_the_socket() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("probe.sock");
        let (_, serving) = watch::channel(None);
        let parts = Parts {
            certs: Some(Arc::new(Certs)),
            ..Parts::default()
        };
        let pages = Pages::new(Readiness::new(), serving, Registry::default(), parts);
        let _socket = ProbeSocket::open(&path, Arc::new(pages))?;
        let ask = async |method: Method, page: &str| {
            let answer = exchange(&path, method, page, LONGEST).await?;
            anyhow::Ok((answer.status.as_u16(), answer.text))
        };
        let (status, text) = ask(Method::GET, "/certs").await?;
        assert_eq!(status, 200);
        assert!(text.contains("\"outlook\": []"), "{text}");
        let facts = ask(Method::GET, "/certs/facts").await?;
        assert_eq!(facts, (503, "not yet\n".to_owned()));
        let (status, text) = ask(Method::POST, "/certs/renew?name=a.example").await?;
        assert_eq!(status, 200, "{text}");
        let (status, text) = ask(Method::POST, "/certs/renew?name=b.example").await?;
        assert_eq!((status, &*text), (404, "no certificate for b.example\n"));
        assert_eq!(ask(Method::POST, "/certs/renew").await?.0, 400);
        assert_eq!(
            ask(Method::GET, "/certs/renew?name=a.example").await?.0,
            405
        );
        assert_eq!(ask(Method::POST, "/certs").await?.0, 405);
        let (_, text) = ask(Method::POST, "/certs/rehearse?name=*.a.example&issuer=x").await?;
        assert_eq!(text, "*.a.example by Some(\"x\")\n");
        Ok(())
    }

    #[tokio::test]
    async fn a_port_that_others_reach_has_nothing_done() -> anyhow::Result<()> {
        let (_, serving) = watch::channel(None);
        let parts = Parts {
            certs: Some(Arc::new(Certs)),
            ..Parts::default()
        };
        let pages = Pages::new(Readiness::new(), serving, Registry::default(), parts);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        tokio::spawn(admin::run(listener, Arc::new(pages)));
        let stream = tokio::net::TcpStream::connect(address).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let request = Request::post("/certs/renew?name=a.example")
            .header("host", "localhost")
            .body(Empty::<Bytes>::new())?;
        let response = sender.send_request(request).await?;
        assert_eq!(response.status(), StatusCode::FORBIDDEN);
        Ok(())
    }

    #[tokio::test]
    async fn a_socket_is_replaced_and_its_process_leaves_the_new_one() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("probe.sock");
        let (old, new) = (Readiness::new(), Readiness::new());
        let _old_is_not_ready = old.guard("draining");
        let first = ProbeSocket::open(&path, pages(&old))?;
        let _second = ProbeSocket::open(&path, pages(&new))?;
        assert_eq!(ask(&path, Question::Ready).await?.status, StatusCode::OK);
        drop(first);
        assert_eq!(ask(&path, Question::Ready).await?.status, StatusCode::OK);
        Ok(())
    }

    #[tokio::test]
    async fn what_stands_in_the_way_is_named_and_left() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("precious");
        fs::write(&file, "text")?;
        let nowhere = folder.path().join("missing/probe.sock");
        let long = folder.path().join("x".repeat(120));
        for path in [&file, &nowhere, &long] {
            let error = ProbeSocket::open(path, pages(&Readiness::new()));
            let error = format!("{:#}", error.err().context("it was opened")?);
            assert!(error.contains("--probe-socket"), "{error}");
            assert!(error.contains(&*path.to_string_lossy()), "{error}");
        }
        assert_eq!(fs::read_to_string(&file)?, "text");
        let error = ask(&nowhere, Question::Live).await.err();
        assert!(format!("{:#}", error.context("somebody answered")?).contains("nobody answers"));
        Ok(())
    }
}
