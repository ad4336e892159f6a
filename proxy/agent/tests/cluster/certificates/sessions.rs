//! A client that comes to another node resumes its session.

use std::net::SocketAddr;
use std::process::{Command, Stdio};

use super::{EVERY_INGRESS, ingress, with_ca};
use crate::support::bed::Bed;
use crate::support::ca::Ca;
use crate::support::eventually;

/// Shakes hands with a saved session; whether it was resumed.
fn resumes(node: SocketAddr, session: &std::path::Path, version: &str) -> bool {
    let said = s_client(node, version, &["-sess_in", session.to_str().unwrap()]);
    said.contains("Reused, ")
}

fn s_client(node: SocketAddr, version: &str, more: &[&str]) -> String {
    let output = Command::new("openssl")
        .args(["s_client", "-connect", &node.to_string()])
        .args(["-servername", "move.test", version, "-ign_eof"])
        .args(more)
        .stdin(request())
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Tickets of TLS 1.3 come with the first answer.
fn request() -> Stdio {
    let mut echo = Command::new("printf")
        .arg("GET / HTTP/1.1\\r\\nHost: move.test\\r\\nConnection: close\\r\\n\\r\\n")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = echo.stdout.take().unwrap();
    echo.wait().unwrap();
    output.into()
}

#[test]
fn sessions_are_resumed_on_another_node() {
    with_ca(2, "http-01", EVERY_INGRESS, async |bed: Bed, ca: Ca| {
        ca.resolve("move.test", &bed.node_addresses());
        bed.create(&ingress("move", &["move.test"], "move-tls"))
            .await;
        bed.trusted_everywhere(&ca.client(), "move.test").await;
        let folder = tempfile::tempdir().unwrap();
        let [first, second] = bed.https()[..] else {
            panic!("two nodes");
        };
        for version in ["-tls1_2", "-tls1_3"] {
            let session = folder.path().join(version);
            // The keys of tickets may reach a node a moment later than the certificate.
            eventually("a session is resumed on another node", async || {
                s_client(first, version, &["-sess_out", session.to_str().unwrap()]);
                session.exists() && resumes(second, &session, version)
            })
            .await;
        }
    });
}
