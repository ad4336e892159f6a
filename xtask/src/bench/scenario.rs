//! What is asked of the proxies.

use std::process::Command;

use anyhow::Result;
use clap::ValueEnum;

use super::load::{self, Load};
use crate::process;

/// One kind of load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(super) enum Scenario {
    /// 128 bytes over kept connections
    H1,
    /// 10 KiB over kept connections
    #[value(name = "h1-10k")]
    H1Ten,
    /// 1 MiB over kept connections
    #[value(name = "h1-1m")]
    H1Million,
    /// A new connection for each request
    H1Close,
    /// 128 bytes over kept TLS connections
    Tls,
    /// A TLS handshake for each request
    TlsClose,
    /// HTTP/2 over TLS, 16 connections of 16 streams
    H2,
}

impl Scenario {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::H1 => "h1",
            Self::H1Ten => "h1-10k",
            Self::H1Million => "h1-1m",
            Self::H1Close => "h1-close",
            Self::Tls => "tls",
            Self::TlsClose => "tls-close",
            Self::H2 => "h2",
        }
    }

    /// The most CPU per request that Tidegate may take, as a ratio to HAProxy in the same run.
    pub(super) fn limit(self) -> f64 {
        match self {
            Self::H1 | Self::H1Ten => 0.85,
            Self::H1Million | Self::H1Close | Self::Tls => 0.75,
            Self::TlsClose => 0.55,
            Self::H2 => 0.95,
        }
    }

    /// Puts the load on for so many seconds.
    pub(super) fn load(self, seconds: u32) -> Result<Load> {
        let mut command = Command::new("taskset");
        command.args(["-c", "1"]);
        match self {
            Self::H2 => {
                command.args(["h2load", "-t1", "-c16", "-m16", "--warm-up-time=0"]);
                command.args(["-D", &seconds.to_string(), "https://127.0.0.1:8443/"]);
                load::of_h2load(&process::output(&mut command)?)
            }
            _ => {
                command.args(["wrk", "-t1", "--latency", &format!("-d{seconds}s")]);
                command.args(self.wrk());
                load::of_wrk(&process::output(&mut command)?)
            }
        }
    }

    fn wrk(self) -> &'static [&'static str] {
        match self {
            Self::H1Ten => &["-c64", "http://127.0.0.1:8080/10240"],
            Self::H1Million => &["-c16", "http://127.0.0.1:8080/1048576"],
            Self::H1Close => &["-c64", "-H", "Connection: close", "http://127.0.0.1:8080/"],
            Self::Tls => &["-c64", "https://127.0.0.1:8443/"],
            Self::TlsClose => &["-c64", "-H", "Connection: close", "https://127.0.0.1:8443/"],
            Self::H1 | Self::H2 => &["-c64", "http://127.0.0.1:8080/"],
        }
    }
}
