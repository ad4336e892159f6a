//! `cargo xtask conformance`: HTTP/2 as h2spec has it, case by case, against a running Tidegate.
//!
//! A case that is missed is listed in `docs/conformance.md` with the reason, or the check fails; so does a case that is
//! listed and not missed any more.

use std::collections::BTreeSet;
use std::env;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use crate::process::free_port;
use crate::setup::{self, Need};
use crate::terminal::say;
use crate::{Verdict, build, process};

/// The release whose cases are checked.
const VERSION: &str = "v2.2.1+incompatible";
const MODULE: &str = "github.com/summerwind/h2spec/cmd/h2spec";
/// The page with the cases that are missed.
const PAGE: &str = "docs/conformance.md";
/// How long Tidegate may take to listen.
const START: Duration = Duration::from_secs(10);

/// Runs all cases with a Tidegate that is built for it.
pub(crate) fn run() -> Result<Verdict> {
    setup::ensure(&[Need::Compiler, Need::Cmake, Need::Go])?;
    let report = check(&build::as_tested()?)?;
    say(report.text());
    Ok(Verdict::of(report.agrees()))
}

/// Runs all cases with this program.
pub(crate) fn check(program: &Path) -> Result<Report> {
    let h2spec = install()?;
    let folder = TempDir::with_prefix("tidegate-conformance-")?;
    let tidegate = Tidegate::start(program, folder.path(), backend()?)?;
    let cases = folder.path().join("cases.xml");
    let mut command = Command::new(h2spec);
    command
        .args(["--tls", "--insecure", "--strict", "--host=127.0.0.1"])
        .arg(format!("--port={}", tidegate.port))
        .arg("--junit-report")
        .arg(&cases);
    // It ends with an error when a case is missed: the report tells.
    let ran = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    ran.context("cannot run h2spec")?;
    let cases = fs::read_to_string(&cases).context("h2spec left no report")?;
    let page = fs::read_to_string(crate::root().join(PAGE));
    let page = page.with_context(|| format!("cannot read {PAGE}"))?;
    let report = Report {
        cases: cases_of(&cases),
        explained: explained_in(&page),
    };
    ensure!(!report.cases.is_empty(), "h2spec ran no case");
    Ok(report)
}

/// One case of h2spec.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Case {
    /// Section and number within it, like `http2/8.1.2.1/3`.
    id: String,
    title: String,
    passed: bool,
}

/// What became of the cases.
#[derive(Debug)]
pub(crate) struct Report {
    cases: Vec<Case>,
    /// Those that are known to be missed, and why.
    explained: BTreeSet<String>,
}

impl Report {
    /// Whether just those cases are missed that are explained.
    pub(crate) fn agrees(&self) -> bool {
        self.surprises().is_empty()
    }

    fn surprises(&self) -> Vec<String> {
        let known = |case: &&Case| case.passed == self.explained.contains(&case.id);
        let surprise = |case: &Case| match case.passed {
            true => format!("{} passes; take it out of {PAGE}", case.id),
            false => format!("{} is missed: {}", case.id, case.title),
        };
        self.cases.iter().filter(known).map(surprise).collect()
    }

    /// For people, with a last line as cargo's tests have it.
    pub(crate) fn text(&self) -> String {
        let surprises = self.surprises();
        let missed = self.cases.iter().filter(|case| !case.passed).count();
        let failed = surprises.len();
        let ignored = missed.saturating_sub(failed);
        let passed = self.cases.len() - failed - ignored;
        let result = if failed == 0 { "ok" } else { "FAILED" };
        let line = format!(
            "test result: {result}. {passed} passed; {failed} failed; {ignored} ignored (explained in {PAGE})"
        );
        [surprises, vec![line]].concat().join("\n")
    }
}

/// The cases of a JUnit report. It has one element a line.
fn cases_of(xml: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    let mut number = 0;
    for line in xml.lines().map(str::trim_start) {
        if line.starts_with("<testsuite ") {
            number = 0;
        }
        if line.starts_with("<testcase ") {
            number += 1;
            let section = attribute(line, "package").unwrap_or_default();
            cases.push(Case {
                id: format!("{section}/{number}"),
                title: attribute(line, "classname").unwrap_or_default().to_owned(),
                passed: true,
            });
        }
        let failed = ["<failure", "<error", "<skipped"];
        if failed.iter().any(|element| line.contains(element))
            && let Some(case) = cases.last_mut()
        {
            case.passed = false;
        }
    }
    cases
}

fn attribute<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let (_, value) = line.split_once(&format!(" {name}=\""))?;
    value.split('"').next()
}

/// The cases in the first column of the page's tables.
fn explained_in(page: &str) -> BTreeSet<String> {
    let cells = page.lines().filter_map(|line| line.strip_prefix("| `"));
    let ids = cells.filter_map(|cells| cells.split('`').next());
    let sections = ["generic/", "http2/", "hpack/"];
    ids.filter(|id| sections.iter().any(|section| id.starts_with(section)))
        .map(str::to_owned)
        .collect()
}

/// h2spec, built on the first run and kept.
fn install() -> Result<PathBuf> {
    let caches = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let caches = caches
        .or_else(home)
        .context("set HOME, so that h2spec can be kept in its .cache")?;
    let folder = caches.join(format!("tidegate-peers/h2spec-{VERSION}"));
    let program = folder.join("h2spec");
    if !program.is_file() {
        say(format_args!("building h2spec {VERSION}"));
        let mut go = Command::new("go");
        go.env("GOBIN", &folder)
            .args(["install", &format!("{MODULE}@{VERSION}")]);
        process::output(&mut go)?;
    }
    Ok(program)
}

/// A running Tidegate; it is ended when this is dropped.
struct Tidegate {
    child: Child,
    port: u16,
}

impl Tidegate {
    fn start(program: &Path, folder: &Path, backend: u16) -> Result<Self> {
        let manifests = folder.join("tidegate.yaml");
        fs::write(
            &manifests,
            MANIFESTS.replace("{port}", &backend.to_string()),
        )?;
        let said = folder.join("tidegate.log");
        let log = File::create(&said)?;
        let port = free_port()?;
        let mut command = Command::new(program);
        process::as_own_instance(&mut command);
        let child = command
            .args(["serve", "--http=127.0.0.1:0", "--admin=127.0.0.1:0"])
            .arg(format!("--https=127.0.0.1:{port}"))
            .args(["--workers=1", "--access-log=off", "--manifests"])
            .arg(&manifests)
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let tidegate = Self { child, port };
        let deadline = Instant::now() + START;
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            if Instant::now() > deadline {
                let said = fs::read_to_string(&said).unwrap_or_default();
                bail!("Tidegate does not listen; it said: {}", said.trim());
            }
            sleep(Duration::from_millis(20));
        }
        Ok(tidegate)
    }
}

impl Drop for Tidegate {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// Answers every request with some bytes, for as long as this program runs.
fn backend() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = listener.local_addr()?.port();
    spawn(move || {
        for stream in listener.incoming().flatten() {
            // A connection that breaks is the client's affair.
            spawn(move || _ = answer(stream));
        }
    });
    Ok(port)
}

fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    let mut head = Vec::new();
    let mut piece = [0; 4096];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let count = stream.read(&mut piece)?;
        if count == 0 {
            return Ok(());
        }
        head.extend_from_slice(&piece[..count]);
    }
    let body = if head.starts_with(b"HEAD ") { "" } else { BODY };
    write!(
        stream,
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        BODY.len()
    )?;
    stream.shutdown(Shutdown::Write)?;
    // What is left of the request is read, so that closing does not take the answer back.
    while stream.read(&mut piece)? > 0 {}
    Ok(())
}

const BODY: &str = "Enough bytes for the cases that play with small windows.\n";

const MANIFESTS: &str = r"apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: conformance
spec:
  ingressClassName: tidegate
  rules:
    - http:
        paths:
          - path: /
            pathType: Prefix
            backend: {service: {name: backend, port: {number: 80}}}
---
apiVersion: v1
kind: Service
metadata:
  name: backend
spec:
  ports: [{name: http, port: 80, targetPort: {port}}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: backend-1
  labels: {kubernetes.io/service-name: backend}
addressType: IPv4
ports: [{name: http, port: {port}}]
endpoints:
  - addresses: [127.0.0.1]
";

#[cfg(test)]
mod tests {
    use super::*;

    const XML: &str = r#"
  <testsuite name="5.1. States" package="http2/5.1" id="5.1" tests="2">
    <testcase package="http2/5.1" classname="idle: a DATA frame" time="0.1"></testcase>
    <testcase package="http2/5.1" classname="idle: a PING frame" time="0.1">
      <failure>GOAWAY Frame</failure>
    </testcase>
  </testsuite>
  <testsuite name="6. Frames" package="http2/6" id="6" tests="1">
    <testcase package="http2/6" classname="padding" time="0.1"></testcase>
  </testsuite>"#;

    fn report(page: &str) -> Report {
        Report {
            cases: cases_of(XML),
            explained: explained_in(page),
        }
    }

    #[test]
    fn a_missed_case_needs_an_explanation() {
        assert!(!report("").agrees());
        assert!(report("").text().contains("http2/5.1/2 is missed"));
        let explained = report("| `http2/5.1/2` | must | because |");
        assert!(explained.agrees());
        assert!(
            explained
                .text()
                .starts_with("test result: ok. 2 passed; 0 failed; 1 ignored")
        );
    }

    #[test]
    fn an_explanation_needs_a_missed_case() {
        let page = "| `http2/5.1/2` | must | because |\n| `http2/6/1` | must | because |";
        assert_eq!(
            report(page).surprises(),
            ["http2/6/1 passes; take it out of docs/conformance.md"]
        );
    }
}
