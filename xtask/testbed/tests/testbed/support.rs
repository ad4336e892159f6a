//! What the test asks the cluster and the machine.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;
use tidegate_testbed::Testbed;

/// Asks until there is an answer, for at most 60 s.
pub(crate) fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited too long for {what}");
        sleep(Duration::from_millis(50));
    }
}

/// Runs kubectl as admin, which is to succeed.
pub(crate) fn kubectl(testbed: &Testbed, arguments: &[&str]) -> String {
    let output = testbed.kubectl().args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "kubectl {arguments:?}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The ready addresses of a Service in the namespace `default`.
pub(crate) fn endpoints(testbed: &Testbed, service: &str) -> Vec<String> {
    let selector = format!("--selector=kubernetes.io/service-name={service}");
    let list = kubectl(
        testbed,
        &["get", "endpointslices", &selector, "--output=json"],
    );
    let list: Value = serde_json::from_str(&list).unwrap();
    let slices = list["items"].as_array().into_iter().flatten();
    let endpoints = slices.flat_map(|slice| slice["endpoints"].as_array().into_iter().flatten());
    let ready = endpoints.filter(|endpoint| endpoint["conditions"]["ready"] == true);
    let addresses =
        ready.flat_map(|endpoint| endpoint["addresses"].as_array().into_iter().flatten());
    addresses
        .filter_map(|address| Some(address.as_str()?.to_owned()))
        .collect()
}

/// The name of the first pod with a label in the namespace `default`.
pub(crate) fn first_pod(testbed: &Testbed, label: &str) -> String {
    let path = "--output=jsonpath={.items[0].metadata.name}";
    kubectl(testbed, &["get", "pods", "--selector", label, path])
}

/// What the echo server answered.
pub(crate) struct Get {
    pub(crate) status: u16,
    pub(crate) json: Value,
}

impl Get {
    pub(crate) fn from(address: &str, port: u16, path: &str) -> Option<Self> {
        let mut stream = TcpStream::connect((address, port)).ok()?;
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .ok()?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: echo\r\nConnection: close\r\n\r\n"
        )
        .ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some(Self {
            status: head.split(' ').nth(1)?.parse().ok()?,
            json: serde_json::from_str(body).unwrap_or_default(),
        })
    }
}

/// The mounts of this process, by their mount points.
pub(crate) fn mounts() -> Vec<String> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let points = text.lines().filter_map(|line| line.split(' ').nth(4));
    // Others that test on this machine at the same time have theirs elsewhere.
    let points = points.filter(|point| point.contains("testbed"));
    points.map(str::to_owned).collect()
}
