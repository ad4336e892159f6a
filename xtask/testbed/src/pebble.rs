//! A real ACME server: Let's Encrypt's Pebble, with the name server that it looks hosts up at.
//!
//! It refuses 5 % of good nonces, reuses half of the authorizations that it may reuse and waits before it validates, as it
//! does when it is left alone. What it knows is in its memory: one that is [started again](Pebble::start) has no accounts,
//! no orders and another root.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rcgen::{CertificateParams, KeyPair};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::programs;
use crate::run;

const DIRECTORY: u16 = 14000;
const MANAGEMENT: u16 = 15000;
const NAMES: u16 = 8053;
const NAMES_MANAGEMENT: u16 = 8055;
/// How long it may take to be ready.
const START: Duration = Duration::from_secs(20);

/// How a Pebble is to be.
#[derive(Clone, Debug)]
pub struct PebbleOptions {
    /// Where it listens, on ports of its own: an address that no other Pebble of this machine has, such as
    /// [`Pebble::free_address`].
    pub address: Ipv4Addr,
    /// Port that HTTP-01 is validated at.
    pub http_port: u16,
    /// Port that TLS-ALPN-01 is validated at.
    pub tls_port: u16,
    /// Good nonces that are refused, in percent.
    pub refused_nonces: u8,
    /// Longest wait before a validation, in seconds; 0 for none.
    pub validation_wait: u8,
    /// Accounts that new ones have to be bound to: MAC keys (base64url) by key identifier. Empty: none has to.
    pub external_accounts: BTreeMap<String, String>,
    /// Roots beside the first, from which it offers other chains.
    pub alternate_roots: u8,
    /// Another name server than the one that is brought along.
    pub name_server: Option<SocketAddr>,
}

impl PebbleOptions {
    /// As Pebble is by default, at this address, validating at the usual ports.
    pub fn at(address: Ipv4Addr) -> Self {
        Self {
            address,
            http_port: 80,
            tls_port: 443,
            refused_nonces: 5,
            validation_wait: 1,
            external_accounts: BTreeMap::new(),
            alternate_roots: 0,
            name_server: None,
        }
    }
}

/// A running Pebble. It ends when this is dropped, or the process that started it ends.
#[derive(Debug)]
pub struct Pebble {
    options: PebbleOptions,
    programs: PathBuf,
    folder: tempfile::TempDir,
    authority: String,
    running: Mutex<Running>,
}

#[derive(Debug, Default)]
struct Running {
    pebble: Option<Child>,
    names: Option<Child>,
}

impl Pebble {
    /// An address of this machine's loopback interface, of those that are meant for this: another one each time.
    pub fn free_address() -> Ipv4Addr {
        use std::hash::{BuildHasher, RandomState};
        let [a, b, ..] = RandomState::new()
            .hash_one(std::process::id())
            .to_be_bytes();
        Ipv4Addr::new(127, 77, a, b.clamp(1, 254))
    }

    /// Starts one with its name server, both built first when they are not there yet.
    ///
    /// # Errors
    /// Go is missing, or something does not start; the message shows what it said last.
    pub fn new(options: PebbleOptions) -> Result<Self> {
        let folder = tempfile::TempDir::with_prefix("tidegate-pebble-")?;
        let key = KeyPair::generate()?;
        let certificate =
            CertificateParams::new([options.address.to_string()])?.self_signed(&key)?;
        let authority = certificate.pem();
        fs::write(folder.path().join("server.pem"), &authority)?;
        fs::write(folder.path().join("server.key"), key.serialize_pem())?;
        let pebble = Self {
            options,
            programs: programs::pebble()?,
            folder,
            authority,
            running: Mutex::default(),
        };
        fs::write(
            pebble.path("config.json"),
            serde_json::to_vec(&pebble.config())?,
        )?;
        pebble.start_names()?;
        pebble.start()?;
        Ok(pebble)
    }

    fn config(&self) -> Value {
        let PebbleOptions {
            address,
            http_port,
            tls_port,
            external_accounts,
            ..
        } = &self.options;
        json!({ "pebble": {
            "listenAddress": format!("{address}:{DIRECTORY}"),
            "managementListenAddress": format!("{address}:{MANAGEMENT}"),
            "certificate": self.path("server.pem"),
            "privateKey": self.path("server.key"),
            "httpPort": http_port,
            "tlsPort": tls_port,
            "externalAccountBindingRequired": !external_accounts.is_empty(),
            "externalAccountMACKeys": external_accounts,
            "caaIdentities": ["pebble.test"],
            "domainBlocklist": ["refused.test"],
            "retryAfter": { "authz": 1, "order": 1 },
            "keyAlgorithm": "ecdsa",
            "profiles": {
                "default": { "description": "90 days", "validityPeriod": 7_776_000 },
                "shortlived": { "description": "6 days", "validityPeriod": 518_400 },
            },
        } })
    }

    /// URL of its directory.
    pub fn directory(&self) -> String {
        format!("https://{}:{DIRECTORY}/dir", self.options.address)
    }

    /// What its own certificate is verified with, in PEM.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// The root of what it issues in this life, in PEM.
    ///
    /// # Errors
    /// It does not run.
    pub fn root(&self) -> Result<String> {
        self.root_of_chain(0)
    }

    /// The root of one of the chains that it offers, in PEM: 0 is the usual one.
    ///
    /// # Errors
    /// It does not run, or has fewer roots.
    pub fn root_of_chain(&self, number: u8) -> Result<String> {
        self.curl(MANAGEMENT, "https", &format!("/roots/{number}"), None)
    }

    /// Everything that it has said, in all its lives.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("pebble.log")).unwrap_or_default()
    }

    /// Orders that it has taken, in all its lives.
    pub fn orders(&self) -> usize {
        self.count("Added order ")
    }

    /// Lines of its log with a text.
    pub fn count(&self, text: &str) -> usize {
        self.log()
            .lines()
            .filter(|line| line.contains(text))
            .count()
    }

    /// Starts it when it does not run.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(&self) -> Result<()> {
        let mut running = self.lock();
        if running.pebble.is_some() {
            return Ok(());
        }
        let names = self.name_server().to_string();
        let wait = self.options.validation_wait;
        let mut command = self.command("pebble");
        command
            .arg("-config")
            .arg(self.path("config.json"))
            .args(["-dnsserver", &names])
            .env(
                "PEBBLE_WFE_NONCEREJECT",
                self.options.refused_nonces.to_string(),
            )
            .env(
                "PEBBLE_ALTERNATE_ROOTS",
                self.options.alternate_roots.to_string(),
            )
            .env("PEBBLE_VA_SLEEPTIME", wait.to_string());
        if wait == 0 {
            command.env("PEBBLE_VA_NOSLEEP", "1");
        }
        running.pebble = Some(self.spawn(command, "pebble.log")?);
        drop(running);
        self.answers("Pebble", "pebble.log", || self.root().map(drop))
    }

    /// Ends it at once. What it knew is lost.
    pub fn kill(&self) {
        if let Some(mut pebble) = self.lock().pebble.take() {
            end(&mut pebble);
        }
    }

    /// Stops it without an end: connections stand, and nothing is answered.
    ///
    /// # Errors
    /// It does not run.
    pub fn pause(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// It does not run.
    pub fn resume(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    /// Where it looks hosts up.
    pub fn name_server(&self) -> SocketAddr {
        let own = SocketAddr::from((self.options.address, NAMES));
        self.options.name_server.unwrap_or(own)
    }

    /// Has a host resolve to these addresses.
    ///
    /// # Errors
    /// The name server does not run.
    pub fn set_addresses(&self, host: &str, addresses: &[IpAddr]) -> Result<()> {
        for kind in ["a", "aaaa"] {
            self.names(&format!("/clear-{kind}"), &json!({ "host": host }))?;
        }
        let (old, new): (Vec<IpAddr>, Vec<IpAddr>) =
            addresses.iter().partition(|one| one.is_ipv4());
        for (kind, addresses) in [("a", old), ("aaaa", new)] {
            if !addresses.is_empty() {
                let body = json!({ "host": host, "addresses": addresses });
                self.names(&format!("/add-{kind}"), &body)?;
            }
        }
        Ok(())
    }

    /// Has every host resolve to this address that has none of its own; `None` for to nothing.
    ///
    /// # Errors
    /// The name server does not run.
    pub fn set_default_address(&self, address: Option<Ipv4Addr>) -> Result<()> {
        let ip = address.map_or_else(String::new, |address| address.to_string());
        self.names("/set-default-ipv4", &json!({ "ip": ip }))
    }

    /// Has look-ups of a host fail, or succeed again.
    ///
    /// # Errors
    /// The name server does not run.
    pub fn set_broken(&self, host: &str, is_broken: bool) -> Result<()> {
        let page = if is_broken {
            "/set-servfail"
        } else {
            "/clear-servfail"
        };
        self.names(page, &json!({ "host": host }))
    }

    /// Has it suggest this window for the renewal of a certificate (RFC 9773), times in RFC 3339.
    ///
    /// # Errors
    /// It does not know the certificate.
    pub fn set_renewal(&self, certificate: &str, start: &str, end: &str) -> Result<()> {
        let window = json!({ "suggestedWindow": { "start": start, "end": end } });
        let body = json!({ "certificate": certificate, "ariResponse": window.to_string() });
        self.curl(MANAGEMENT, "https", "/set-renewal-info/", Some(&body))
            .map(drop)
    }

    fn start_names(&self) -> Result<()> {
        if self.options.name_server.is_some() {
            return Ok(());
        }
        let address = self.options.address;
        let mut command = self.command("pebble-challtestsrv");
        command
            .args(["-http01", "", "-https01", "", "-tlsalpn01", "", "-doh", ""])
            .args(["-dnsserver", &format!("{address}:{NAMES}")])
            .args(["-management", &format!("{address}:{NAMES_MANAGEMENT}")])
            .args(["-defaultIPv4", &address.to_string(), "-defaultIPv6", ""]);
        self.lock().names = Some(self.spawn(command, "names.log")?);
        self.answers("its name server", "names.log", || {
            self.names("/clear-servfail", &json!({ "host": "ready.test" }))
        })
    }

    /// A program that ends with this process.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL"])
            .arg(self.programs.join(program));
        command
    }

    fn spawn(&self, mut command: Command, log: &str) -> Result<Child> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.path(log))?;
        command
            .stdin(Stdio::null())
            .stderr(log.try_clone()?)
            .stdout(log);
        command
            .spawn()
            .with_context(|| format!("cannot run {}", run::line(&command)))
    }

    fn answers(&self, what: &str, log: &str, ask: impl Fn() -> Result<()>) -> Result<()> {
        let start = Instant::now();
        while let Err(error) = ask() {
            if start.elapsed() > START {
                let said = fs::read_to_string(self.path(log)).unwrap_or_default();
                bail!("{what} is not ready after {START:?}: {error:#}\n{said}");
            }
            sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    fn names(&self, page: &str, body: &Value) -> Result<()> {
        self.curl(NAMES_MANAGEMENT, "http", page, Some(body))
            .map(drop)
    }

    fn curl(&self, port: u16, scheme: &str, page: &str, body: Option<&Value>) -> Result<String> {
        let mut curl = Command::new("curl");
        curl.args([
            "--silent",
            "--show-error",
            "--fail",
            "--max-time",
            "5",
            "--cacert",
        ])
        .arg(self.path("server.pem"));
        if let Some(body) = body {
            curl.args(["--data-binary", &body.to_string()]);
        }
        let address = self.options.address;
        run::output(curl.arg(format!("{scheme}://{address}:{port}{page}")))
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let running = self.lock();
        let pebble = running.pebble.as_ref().context("Pebble does not run")?;
        let process = Pid::from_raw(i32::try_from(pebble.id())?).context("no process")?;
        Ok(kill_process(process, signal)?)
    }

    fn path(&self, file: &str) -> PathBuf {
        Path::new(self.folder.path()).join(file)
    }

    fn lock(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pebble {
    fn drop(&mut self) {
        let mut running = self.lock();
        let Running { pebble, names } = &mut *running;
        pebble.iter_mut().chain(names).for_each(end);
    }
}

fn end(child: &mut Child) {
    // One that has ended by itself has no more to be ended.
    _ = child.kill();
    _ = child.wait();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_starts_tells_its_root_and_starts_again() {
        let options = PebbleOptions::at(Pebble::free_address());
        let pebble = Pebble::new(options).unwrap_or_else(|error| panic!("{error:#}"));
        let root = pebble.root().expect("it runs");
        assert!(root.starts_with("-----BEGIN CERTIFICATE-----"), "{root}");
        assert_eq!(pebble.orders(), 0);
        pebble
            .set_addresses("a.test", &[IpAddr::V4(Ipv4Addr::LOCALHOST)])
            .expect("its name server runs");
        pebble.kill();
        assert!(pebble.root().is_err());
        pebble.start().expect("it starts again");
        assert_ne!(pebble.root().expect("it runs"), root);
    }
}
