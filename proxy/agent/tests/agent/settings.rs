//! Settings from outside: where they are from, changes while connections are open, probes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use tidegate::demo::backend::Backend;
use tidegate::demo::client;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{
    DEADLINE, Instance, Manifests, free_port, ingress, run, service, text, tidegate,
};

const HOST: &str = "web.example.com";

/// A settings file in a folder of its own.
struct SettingsFile {
    folder: tempfile::TempDir,
}

impl SettingsFile {
    fn new(text: &str) -> Self {
        let file = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        file.write(text);
        file
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("settings.yaml")
    }

    fn write(&self, text: &str) {
        fs::write(self.path(), text).unwrap();
    }
}

/// A kept connection on which requests follow each other.
struct Kept(TcpStream);

impl Kept {
    async fn open(instance: &Instance) -> Self {
        Self(TcpStream::connect(instance.http).await.unwrap())
    }

    /// The status of one more request; fails when the connection is gone.
    async fn status(&mut self) -> u16 {
        let request = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
        self.0.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let read = async {
            let mut part = [0; 4096];
            loop {
                let number = self.0.read(&mut part).await.unwrap();
                assert_ne!(number, 0, "the connection was closed");
                answer.extend_from_slice(&part[..number]);
                let text = String::from_utf8_lossy(&answer);
                let Some((head, body)) = text.split_once("\r\n\r\n") else {
                    continue;
                };
                let mut lines = head.lines().map(str::to_ascii_lowercase);
                let length = lines
                    .find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
                if body.len() >= length.unwrap_or_default() {
                    return head.split(' ').nth(1).unwrap().parse().unwrap();
                }
            }
        };
        tokio::time::timeout(DEADLINE, read).await.unwrap()
    }
}

fn site(backend: &Backend) -> Manifests {
    let manifests = Manifests::new();
    manifests.put("a.yaml", &ingress("web", HOST, "web"));
    manifests.put("b.yaml", &service("web", backend.address()));
    manifests
}

async fn page(instance: &Instance, path: &str) -> String {
    let page = client::get(instance.admin, "localhost", path).await;
    page.unwrap().text()
}

fn count(log: &str, part: &str) -> usize {
    log.lines().filter(|line| line.contains(part)).count()
}

#[tokio::test]
async fn an_edit_is_in_force_and_touches_no_connection() {
    let backend = Backend::start("web").await.unwrap();
    let manifests = site(&backend);
    let file = SettingsFile::new("timeouts: {idle: 60s}\n");
    let path = file.path();
    let more = ["--config", path.to_str().unwrap()];
    let instance = Instance::serve(manifests.path(), &more).await;
    let logged = |part: &'static str| {
        let instance = &instance;
        async move {
            let is_there = async || instance.log().contains(part);
            instance.eventually(part, is_there).await;
        }
    };

    let mut kept = Kept::open(&instance).await;
    assert_eq!(kept.status().await, 200);
    let mut socket = client::websocket(instance.http, HOST, "/live")
        .await
        .unwrap();
    let mut goes_on = async |what: &str| {
        let echo = client::echo_text(&mut socket, what).await.unwrap();
        assert_eq!(echo, what);
    };
    goes_on("before").await;

    // Another redirect, other classes.
    file.write("timeouts: {idle: 60s}\nsslRedirect: {mode: all, status: 307}\n");
    logged("sslRedirect.mode: tls-hosts -> all, in force").await;
    let is_redirected = async || {
        let answer = client::get(instance.http, HOST, "/").await;
        answer.is_ok_and(|answer| answer.status() == 307)
    };
    instance.eventually("it redirects", is_redirected).await;
    assert_eq!(kept.status().await, 307);
    goes_on("redirected").await;

    file.write("ingressClass: other\n");
    let is_gone = async || {
        let answer = client::get(instance.http, HOST, "/").await;
        answer.is_ok_and(|answer| answer.status() == 404)
    };
    instance
        .eventually("the class is not served", is_gone)
        .await;
    assert_eq!(kept.status().await, 404);
    goes_on("of another class").await;

    // What is wrong changes nothing, and is said once.
    let wrong = "ingressClass: tidegate\ntimeouts: {idle: 1 parsec}\n";
    file.write(wrong);
    logged("cannot be used").await;
    file.write(&format!("{wrong}# and again\n"));
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(count(&instance.log(), "1 parsec"), 1, "{}", instance.log());
    assert!(
        page(&instance, "/metrics")
            .await
            .contains("tidegate_settings_rejected 1")
    );
    assert_eq!(kept.status().await, 404);

    // What needs a restart is named, what does not is in force.
    file.write("timeouts: {idle: 4s}\nworkers: 7\naccept: on-connect\nlog: {level: debug}\n");
    logged("can be used again").await;
    logged("accept: on-data -> on-connect is not in force").await;
    assert_eq!(count(&instance.log(), "workers"), 0, "a flag sets it");
    assert!(
        page(&instance, "/metrics")
            .await
            .contains("tidegate_settings_restart_required 1")
    );
    let ready = page(&instance, "/readyz?verbose").await;
    let remark = "settings: a restart is needed for accept\n";
    assert!(
        ready.contains(remark) && ready.ends_with("\nready\n"),
        "{ready}"
    );
    logged("log.level: info -> debug, in force").await;
    // What is said at this level only.
    let mut garbage = TcpStream::connect(instance.admin).await.unwrap();
    garbage.write_all(b"GET\r\n\r\n").await.unwrap();
    logged("DEBUG").await;

    // The new limit holds for the connections that were open before, too.
    let is_served = async || {
        let answer = client::get(instance.http, HOST, "/").await;
        answer.is_ok_and(|answer| answer.status() == 200)
    };
    instance
        .eventually("the class is served again", is_served)
        .await;
    assert_eq!(kept.status().await, 200);
    let start = Instant::now();
    let closed = tokio::time::timeout(DEADLINE, kept.0.read(&mut [0])).await;
    assert_eq!(closed.unwrap().unwrap(), 0, "it is open");
    assert!(
        start.elapsed() < Duration::from_secs(25),
        "{:?}",
        start.elapsed()
    );

    fs::remove_file(file.path()).unwrap();
    logged("cannot read settings file").await;
    file.write("timeouts: {drain: 1s}\n");
    let is_fine = async || {
        !page(&instance, "/readyz?verbose")
            .await
            .contains("settings")
    };
    instance.eventually("nothing is pending", is_fine).await;
    logged("accept: on-connect -> on-data, as it runs").await;
}

#[tokio::test]
async fn the_drain_timeout_in_force_is_the_one_of_the_last_edit() {
    let backend = Backend::start("web").await.unwrap();
    let manifests = site(&backend);
    let file = SettingsFile::new("timeouts: {drain: 10m}\n");
    let path = file.path();
    let more = ["--config", path.to_str().unwrap()];
    let mut instance = Instance::serve(manifests.path(), &more).await;
    let _socket = client::websocket(instance.http, HOST, "/live")
        .await
        .unwrap();
    file.write("timeouts: {drain: 300ms}\n");
    let is_read = async || instance.log().contains("drain: 10m -> 300ms");
    instance.eventually("the edit is read", is_read).await;
    let start = Instant::now();
    instance.signal("TERM");
    assert!(instance.ended().await.success());
    assert!(
        start.elapsed() < Duration::from_secs(20),
        "{:?}",
        start.elapsed()
    );
}

fn printing(arguments: &[&str], variables: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let mut command = tidegate();
    command.args(["serve", "--print-config"]).args(arguments);
    command.env_remove("KUBERNETES_SERVICE_HOST");
    command.envs(variables.iter().copied());
    let output = command.output().unwrap();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

#[test]
fn print_config_tells_origins_and_is_a_settings_file() {
    let manifests = Manifests::new();
    let file = SettingsFile::new("https: 8443\ntimeouts: {idle: 2m}\nhttp: 1\n");
    let path = file.path();
    let folder = manifests.path().to_str().unwrap();
    let (code, printed, error) = printing(
        &["--config", path.to_str().unwrap(), "--manifests", folder],
        &[
            ("TIDEGATE_HTTP", "8080,127.0.0.1:8081"),
            ("TIDEGATE_INSTANCE", "edge"),
        ],
    );
    assert_eq!((code, &*error), (Some(0), ""));
    for line in [
        "instance: edge  # from TIDEGATE_INSTANCE".to_owned(),
        "http: [8080, \"127.0.0.1:8081\"]  # from TIDEGATE_HTTP".to_owned(),
        format!("https: [8443]  # from {}", path.display()),
        format!("  idle: 2m  # from {}", path.display()),
        "  drain: 30s  # default".to_owned(),
        "# kubeconfig is not set".to_owned(),
    ] {
        assert!(
            printed.lines().any(|found| found == line),
            "no {line} in\n{printed}"
        );
    }
    let again = SettingsFile::new(&printed);
    let path = again.path();
    let (code, second, error) = printing(&["--config", path.to_str().unwrap()], &[]);
    assert_eq!((code, &*error), (Some(0), ""));
    let values = |text: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| !line.starts_with("instance"));
        lines
            .map(|line| line.split("  # ").next().unwrap_or_default().to_owned())
            .collect()
    };
    assert_eq!(values(&second), values(&printed));
}

#[test]
fn print_config_fails_as_serve_does_and_shows_no_secret() {
    let (code, printed, error) = printing(&[], &[]);
    assert_eq!((code, &*printed), (Some(2), ""));
    assert!(
        error.contains("--manifests") && error.contains("--kubeconfig"),
        "{error}"
    );
    let (code, _, error) = printing(&["--manifests", "m", "--kubeconfig", "k"], &[]);
    assert_eq!(code, Some(2));
    assert!(error.contains("drop manifests"), "{error}");
    let (code, printed, _) = printing(
        &[],
        &[
            ("KUBERNETES_SERVICE_HOST", "10.96.0.1"),
            ("TIDEGATE_DATA_KEY", "hush-hush"),
        ],
    );
    assert_eq!(code, Some(0));
    assert!(
        printed.contains("dataDir: /var/lib/tidegate  # default"),
        "{printed}"
    );
    assert!(!printed.contains("hush"), "{printed}");
}

#[test]
fn check_takes_a_settings_file() {
    let manifests = Manifests::new();
    manifests.put("a.yaml", &ingress("web", HOST, "web"));
    manifests.put("b.yaml", &service("web", ([127, 0, 0, 1], 9001).into()));
    let folder = manifests.path().to_str().unwrap();
    let check = |text: &str| {
        let file = SettingsFile::new(text);
        run(&["check", "--config", file.path().to_str().unwrap(), folder])
    };
    let served = check("ingressClass: tidegate\n");
    assert!(text(&served.stdout).contains("1 route, 0 errors"));
    let other = check("ingressClass: other\n");
    assert!(text(&other.stdout).contains("0 routes"));
    let wrong = check("trustedProxies: [here]\n");
    assert_eq!(wrong.status.code(), Some(2));
    let message = text(&wrong.stderr);
    for part in ["settings.yaml", "trustedProxies", "\"here\"", "10.0.0.0/8"] {
        assert!(message.contains(part), "{message}");
    }
    let nowhere = run(&["check", "--config", "/nowhere.yaml", folder]);
    assert_eq!(nowhere.status.code(), Some(2));
    assert!(text(&nowhere.stderr).contains("/nowhere.yaml"));
}

fn probe(question: &str, socket: &Path) -> (Option<i32>, String, String) {
    let output = tidegate()
        .args(["probe", question])
        .env("TIDEGATE_PROBE_SOCKET", socket)
        .output()
        .unwrap();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

#[tokio::test]
async fn probes_ask_the_process_that_serves() {
    let backend = Backend::start("web").await.unwrap();
    let manifests = site(&backend);
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("probe.sock");
    let (code, _, error) = probe("live", &socket);
    assert_eq!(code, Some(1));
    assert!(
        error.contains("nobody answers") && error.contains("probe.sock"),
        "{error}"
    );
    // What a process that was killed has left.
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());

    let more = ["--probe-socket", socket.to_str().unwrap()];
    let mut instance = Instance::serve(manifests.path(), &more).await;
    assert_eq!(
        probe("live", &socket),
        (Some(0), "ok\n".into(), String::new())
    );
    let (code, answer, error) = probe("ready", &socket);
    assert_eq!((code, &*error), (Some(0), ""));
    assert!(answer.ends_with("ready\n"), "{answer}");

    let held = client::websocket(instance.http, HOST, "/live")
        .await
        .unwrap();
    instance.signal("TERM");
    let is_draining = async || {
        let (code, answer, _) = probe("ready", &socket);
        code == Some(1) && answer.contains("waiting for: draining")
    };
    instance.eventually("it drains", is_draining).await;
    assert_eq!(probe("live", &socket).0, Some(0));
    drop(held);
    assert!(instance.ended().await.success());
    assert!(!socket.exists());

    let silent = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let start = Instant::now();
    let (code, _, error) = probe("ready", &socket);
    assert_eq!(code, Some(1));
    assert!(error.contains("no answer within 2s"), "{error}");
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "{:?}",
        start.elapsed()
    );
    drop(silent);
}

#[test]
fn a_probe_socket_that_cannot_be_opened_ends_the_start() {
    let manifests = Manifests::new();
    let file = SettingsFile::new("precious: true\n");
    let path = file.path();
    let mut command: Command = tidegate();
    command
        .arg("serve")
        .arg("--manifests")
        .arg(manifests.path());
    command.args([
        "--http",
        &format!("127.0.0.1:{}", free_port()),
        "--https",
        "off",
        "--admin",
        "off",
    ]);
    let output = command.arg("--probe-socket").arg(&path).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let message = text(&output.stderr);
    for part in [
        "probe socket",
        "settings.yaml",
        "--probe-socket",
        "is left as it is",
    ] {
        assert!(message.contains(part), "{message}");
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious: true\n");
}
