//! Every command in `docs/examples/*/README.md`, run as it stands there, with the ports replaced by free ones.
//!
//! A README starts its instances with `tidegate serve …` lines; each `curl` line has the expected outcome in the comment
//! above it. A folder whose README says less than that fails.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use hickory_proto::op::{Message, OpCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{RData, Record};
use tidegate::demo::backend::Backend;
use tidegate::demo::client;
use tidegate::settings::InstanceName;
use tokio::net::UdpSocket;

use crate::support::{Instance, free_port, text, tidegate};

const BACKEND_PORTS: [&str; 3] = ["9001", "9002", "9003"];
const LISTENER_PORTS: [&str; 5] = ["8080", "8081", "8443", "9090", "9091"];
const NAME_SERVER_PORT: &str = "5353";

/// A `curl` line and what is written above it.
#[derive(Debug)]
struct Try {
    expected: String,
    command: String,
}

/// What a README says.
#[derive(Debug, Default)]
struct Readme {
    serve: Vec<String>,
    tries: Vec<Try>,
}

impl Readme {
    fn parse(readme: &str) -> Self {
        let mut parsed = Self::default();
        let mut comment = "";
        for line in readme.lines() {
            if let Some(text) = line.strip_prefix("# ") {
                comment = text;
            } else if line.starts_with("tidegate serve ") {
                parsed.serve.push(line.to_owned());
            } else if line.starts_with("curl ") {
                parsed.tries.push(Try {
                    expected: std::mem::take(&mut comment).to_owned(),
                    command: line.to_owned(),
                });
            }
        }
        parsed
    }
}

/// Ports as they are written, and those in their place.
struct Ports(BTreeMap<&'static str, u16>);

impl Ports {
    fn replace(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (written, port) in &self.0 {
            text = text.replace(written, &format!("<{port}>"));
        }
        // In two steps, so that no replacement is replaced again.
        for port in self.0.values() {
            text = text.replace(&format!("<{port}>"), &port.to_string());
        }
        text
    }

    fn port(&self, written: &str) -> u16 {
        self.0[written]
    }
}

fn examples() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/examples");
    let entries = std::fs::read_dir(root)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut folders: Vec<_> = entries.filter(|path| path.is_dir()).collect();
    folders.sort();
    folders
}

/// Copies a folder with its ports replaced; certificates and keys stay as they are.
fn copy(from: &Path, to: &Path, ports: &Ports) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target, ports);
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let text = match text.contains("-----BEGIN") {
            true => text,
            false => ports.replace(&text),
        };
        std::fs::write(target, text).unwrap();
    }
}

/// Answers every question for an IPv4 address with 127.0.0.1.
async fn name_server(socket: UdpSocket) {
    let mut buffer = [0; 1500];
    loop {
        let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
        let question = Message::from_vec(&buffer[..length]).unwrap();
        let mut answer = Message::response(question.metadata.id, OpCode::Query);
        for query in question.queries {
            if query.query_type == hickory_proto::rr::RecordType::A {
                let address = RData::A(A([127, 0, 0, 1].into()));
                answer.add_answer(Record::from_rdata(query.name.clone(), 30, address));
            }
            answer.add_query(query);
        }
        socket
            .send_to(&answer.to_vec().unwrap(), from)
            .await
            .unwrap();
    }
}

/// One example: its copy, its backends and its instances.
struct Stage {
    folder: tempfile::TempDir,
    ports: Ports,
    instances: Vec<Instance>,
    _backends: Vec<Backend>,
}

impl Stage {
    async fn set(example: &Path, readme: &Readme) -> Self {
        let mut backends = Vec::new();
        let mut ports = BTreeMap::new();
        for name in BACKEND_PORTS {
            let backend = Backend::start(name).await.unwrap();
            ports.insert(name, backend.address().port());
            backends.push(backend);
        }
        for written in LISTENER_PORTS {
            ports.insert(written, free_port());
        }
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        ports.insert(NAME_SERVER_PORT, socket.local_addr().unwrap().port());
        tokio::spawn(name_server(socket));
        let ports = Ports(ports);
        let folder = tempfile::tempdir().unwrap();
        copy(example, folder.path(), &ports);
        let instances = readme
            .serve
            .iter()
            .map(|line| start(line, folder.path(), &ports));
        let stage = Self {
            instances: instances.collect(),
            folder,
            ports,
            _backends: backends,
        };
        for instance in &stage.instances {
            instance.ready().await;
        }
        stage
    }

    /// Runs a `curl` line and says what came back, in the words of the READMEs.
    fn curl(&self, command: &str, version: &str) -> String {
        let body = self.folder.path().join("body");
        let format = "%{http_code} %{http_version} %{redirect_url}";
        let line = format!(
            "{} --silent --show-error --max-time 20 {version} --output {} --write-out '{format}'",
            self.ports.replace(command),
            body.display()
        );
        let output = Command::new("sh")
            .args(["-c", &line])
            .current_dir(self.folder.path())
            .output();
        let output = output.unwrap();
        assert!(output.status.success(), "{line}: {}", text(&output.stderr));
        let written = text(&output.stdout);
        let mut words = written.split(' ');
        let mut word = || words.next().unwrap_or_default();
        let (status, agreed, redirect) = (word(), word(), word());
        let expected_version = if version == "--http2" { "2" } else { "1.1" };
        assert_eq!(agreed, expected_version, "{line}");
        let body = std::fs::read_to_string(body).unwrap_or_default();
        let echo: Option<serde_json::Value> = serde_json::from_str(&body).ok();
        let backend = echo.as_ref().and_then(|echo| echo["backend"].as_str());
        match backend {
            Some(backend) => format!("{status} from {backend}"),
            None if !redirect.is_empty() => format!("{status} to {redirect}"),
            None => status.to_owned(),
        }
    }

    /// What is written above a `curl` line, with the ports of this stage where they are listeners'.
    fn expected(&self, written: &str) -> String {
        match written.contains(" to ") {
            true => self.ports.replace(written),
            false => written.to_owned(),
        }
    }

    /// Opens a WebSocket where a plain-text `curl` line reaches a backend.
    async fn websocket(&self, command: &str) {
        let host = command
            .split("-H 'Host: ")
            .nth(1)
            .and_then(|rest| rest.split('\'').next());
        let url = command.split("http://127.0.0.1:").nth(1).unwrap();
        let (port, path) = url.trim_end_matches('"').split_once('/').unwrap();
        let to = ([127, 0, 0, 1], self.ports.port(port)).into();
        let mut socket = client::websocket(to, host.unwrap(), &format!("/{path}"))
            .await
            .unwrap();
        let echo = client::echo_text(&mut socket, command).await.unwrap();
        assert_eq!(echo, command);
    }

    /// Waits until a try comes out as expected where something has to be resolved first.
    async fn settled(&self, first: &Try) {
        let expected = self.expected(&first.expected);
        let version = "--http1.1";
        let settled = async || self.curl(&first.command, version) == expected;
        self.instances[0]
            .eventually(&format!("{first:?}"), settled)
            .await;
    }
}

fn start(line: &str, folder: &Path, ports: &Ports) -> Instance {
    let written: Vec<_> = line.split(' ').collect();
    let after = |flag| {
        let at = written.iter().position(|word| *word == flag).unwrap();
        ports.port(written[at + 1].strip_prefix("127.0.0.1:").unwrap())
    };
    let mut command = tidegate();
    // Beside another run of the tests, a name of the README would be somebody else's.
    let replace = |(before, word): (&&str, &&str)| match *before {
        "--instance" => InstanceName::unique(word).to_string(),
        _ => ports.replace(word),
    };
    let words = written.iter().zip(written.iter().skip(1)).map(replace);
    command
        .args(words)
        .args(["--workers", "1"])
        .current_dir(folder);
    Instance::start(command, after("--http"), after("--admin"))
}

async fn try_example(example: &Path) {
    let name = example.file_name().unwrap().to_string_lossy().into_owned();
    let readme = std::fs::read_to_string(example.join("README.md"));
    let readme = Readme::parse(&readme.unwrap_or_else(|_| panic!("{name} has no README.md")));
    assert!(
        !readme.serve.is_empty(),
        "{name}: no `tidegate serve` line in its README"
    );
    assert!(
        readme.tries.len() > 1,
        "{name}: hardly any `curl` line in its README"
    );
    let stage = Stage::set(example, &readme).await;
    stage.settled(&readme.tries[0]).await;
    for Try { expected, command } in &readme.tries {
        assert!(
            !expected.is_empty(),
            "{name}: nothing is expected of {command}"
        );
        let expected = stage.expected(expected);
        assert_eq!(
            stage.curl(command, "--http1.1"),
            expected,
            "{name}: {command}"
        );
        let plain = command.contains("http://");
        if !plain {
            assert_eq!(
                stage.curl(command, "--http2"),
                expected,
                "{name}: {command}"
            );
        }
        if plain && expected.starts_with("200") {
            stage.websocket(command).await;
        }
    }
    println!(
        "example {name}: {} commands as expected",
        readme.tries.len()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_example_does_what_its_readme_says() {
    let examples = examples();
    assert!(examples.len() >= 11, "examples are missing: {examples:?}");
    for example in &examples {
        try_example(example).await;
    }
    println!("figure: examples tried = {} examples", examples.len());
}
