//! Authoritative name servers: Knot DNS, at port 53 of addresses of the loopback interface.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::run;

/// How long one may take to be ready.
const START: Duration = Duration::from_secs(20);

/// A key that updates are signed with, and its secret in base64.
pub const KEY: (&str, &str) = (
    "tidegate-test",
    "dGlkZWdhdGUgdGVzdHMgc2lnbiB3aXRoIHRoaXMga2V5Lg==",
);

/// How a name server is to be.
#[derive(Clone, Debug)]
pub struct KnotOptions {
    /// Where it listens.
    pub address: Ipv4Addr,
    /// Zones by name, each with its records as in a zone file. The names of its name servers are up to these.
    pub zones: Vec<(String, String)>,
    /// Where its zones come from.
    pub role: Role,
}

/// Where zones come from.
#[derive(Clone, Debug)]
pub enum Role {
    /// From the options. Everybody who has [`KEY`] may update them, and these servers are told of changes.
    Primary(Vec<Ipv4Addr>),
    /// From this server.
    Secondary(Ipv4Addr),
}

/// A name server. It ends when this is dropped, or the process that started it ends.
#[derive(Debug)]
pub struct Knot {
    options: KnotOptions,
    folder: tempfile::TempDir,
    process: Mutex<Option<Child>>,
}

impl Knot {
    /// An address of this machine's loopback interface, of those that are meant for this: another one each time.
    pub fn free_address() -> Ipv4Addr {
        use std::hash::{BuildHasher, RandomState};
        let [a, b, ..] = RandomState::new()
            .hash_one(std::process::id())
            .to_be_bytes();
        Ipv4Addr::new(127, 78, a, b.clamp(1, 254))
    }

    /// Makes one, which does not run yet.
    ///
    /// # Errors
    /// Knot is missing, or nobody but root may listen on port 53.
    pub fn new(options: KnotOptions) -> Result<Self> {
        let knotd = program("knotd");
        ensure!(
            knotd.is_file() || run::exists("knotd"),
            "knotd is missing: install the package `knot`"
        );
        ensure!(
            rustix::process::geteuid().is_root(),
            "a name server listens on port 53: run this as root"
        );
        let knot = Self {
            options,
            folder: tempfile::TempDir::with_prefix("tidegate-knot-")?,
            process: Mutex::default(),
        };
        fs::create_dir(knot.path("zones"))?;
        for (zone, records) in &knot.options.zones {
            let text = format!("$ORIGIN {zone}.\n$TTL 60\n{records}\n");
            fs::write(knot.path("zones").join(format!("{zone}.zone")), text)?;
        }
        fs::write(knot.path("knot.conf"), knot.config()?)?;
        Ok(knot)
    }

    /// Makes one and starts it.
    ///
    /// # Errors
    /// As [`Knot::new`] and [`Knot::start`].
    pub fn started(options: KnotOptions) -> Result<Self> {
        let knot = Self::new(options)?;
        knot.start()?;
        Ok(knot)
    }

    /// Starts it when it does not run, and waits until it has every zone.
    ///
    /// # Errors
    /// It does not start; the message shows what it said.
    pub fn start(&self) -> Result<()> {
        let mut process = self.lock();
        if process.is_some() {
            return Ok(());
        }
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.path("knot.log"))?;
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL"])
            .arg(program("knotd"))
            .arg("--config")
            .arg(self.path("knot.conf"))
            .stdin(Stdio::null())
            .stderr(log.try_clone()?)
            .stdout(log);
        let child = command
            .spawn()
            .with_context(|| format!("cannot run {}", run::line(&command)))?;
        let child = process.insert(child);
        let start = Instant::now();
        for (zone, _) in &self.options.zones {
            while let Err(error) = self.records(zone, "@", "SOA") {
                let has_ended = child.try_wait()?.is_some();
                if has_ended || start.elapsed() > START {
                    let said = self.log();
                    bail!("Knot at {} is not ready: {error:#}\n{said}", self.address());
                }
                sleep(Duration::from_millis(50));
            }
        }
        Ok(())
    }

    /// Ends it at once. Its zones stay as they were.
    pub fn kill(&self) {
        if let Some(mut process) = self.lock().take() {
            end(&mut process);
        }
    }

    /// Where it listens.
    pub fn address(&self) -> Ipv4Addr {
        self.options.address
    }

    /// The records of a type that it has at a name of a zone, which is `@` for the zone's own; each as in a zone file,
    /// from its owner on. None is an error, as it is to Knot.
    ///
    /// # Errors
    /// There are none, or it does not run.
    pub fn records(&self, zone: &str, owner: &str, kind: &str) -> Result<Vec<String>> {
        let mut knotc = Command::new(program("knotc"));
        knotc.arg("--config").arg(self.path("knot.conf"));
        let text = run::output(knotc.args(["zone-read", zone, owner, kind]))?;
        let prefix = format!("[{zone}.] ");
        let lines = text.lines().filter_map(|line| line.strip_prefix(&prefix));
        Ok(lines.map(str::to_owned).collect())
    }

    /// What it has said.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("knot.log")).unwrap_or_default()
    }

    fn config(&self) -> Result<String> {
        let address = self.options.address;
        let folder = self.folder.path().display();
        let (name, secret) = KEY;
        let mut text = format!(
            "server:\n  listen: {address}@53\n  rundir: {folder}\n\
             database:\n  storage: {folder}\n\
             log:\n  - target: stderr\n    any: info\n\
             key:\n  - id: {name}\n    algorithm: hmac-sha256\n    secret: {secret}\n"
        );
        let (others, zone) = match &self.options.role {
            Role::Primary(secondaries) => {
                let names: Vec<String> = (0..secondaries.len())
                    .map(|one| format!("other{one}"))
                    .collect();
                let zone = format!(
                    "notify: [{}]\n    acl: [update, transfer]",
                    names.join(", ")
                );
                (secondaries.as_slice(), zone)
            }
            Role::Secondary(primary) => (
                std::slice::from_ref(primary),
                "master: other0\n    acl: [notify]".to_owned(),
            ),
        };
        text.push_str("remote:\n");
        for (number, other) in others.iter().enumerate() {
            // From its own address, by which the other side knows it.
            writeln!(
                text,
                "  - id: other{number}\n    address: {other}@53\n    via: {address}"
            )?;
        }
        if others.is_empty() {
            text.truncate(text.len() - "remote:\n".len());
        }
        write!(
            text,
            "acl:\n  - id: update\n    key: {name}\n    action: update\n\
             \x20 - id: transfer\n    address: 127.0.0.0/8\n    action: transfer\n\
             \x20 - id: notify\n    address: 127.0.0.0/8\n    action: notify\n\
             zone:\n"
        )?;
        for (name, _) in &self.options.zones {
            writeln!(
                text,
                "  - domain: {name}\n    storage: {folder}/zones\n    file: {name}.zone\n    \
                 journal-content: all\n    zonefile-load: whole\n    {zone}"
            )?;
        }
        Ok(text)
    }

    fn path(&self, file: &str) -> PathBuf {
        Path::new(self.folder.path()).join(file)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Child>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Knot {
    fn drop(&mut self) {
        self.kill();
    }
}

fn end(child: &mut Child) {
    // One that has ended by itself has no more to be ended.
    _ = child.kill();
    _ = child.wait();
}

/// Debian keeps daemons where the search path of people who are not root does not lead.
fn program(name: &str) -> PathBuf {
    let debian = Path::new("/usr/sbin").join(name);
    match debian.is_file() {
        true => debian,
        false => PathBuf::from(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORDS: &str = "@ SOA ns hostmaster 1 1 1 600 1\n@ NS ns\nns A 127.0.0.1";

    #[test]
    fn it_serves_its_zones_and_hands_them_on() {
        let [primary, secondary] = [Knot::free_address(), Knot::free_address()];
        let zones = vec![("example.test".to_owned(), RECORDS.to_owned())];
        let knot = |address, zones: &Vec<(String, String)>, role| {
            let zones = zones.clone();
            Knot::started(KnotOptions {
                address,
                zones,
                role,
            })
            .unwrap_or_else(|error| panic!("{error:#}"))
        };
        let primary = knot(primary, &zones, Role::Primary(vec![secondary]));
        let empty = vec![("example.test".to_owned(), String::new())];
        let secondary = knot(secondary, &empty, Role::Secondary(primary.address()));
        let records = secondary.records("example.test", "ns", "A");
        assert_eq!(
            records.expect("it has the zone"),
            ["ns.example.test. 60 A 127.0.0.1"]
        );
    }
}
