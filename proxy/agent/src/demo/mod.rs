//! `tidegate demo`: example backends, example manifests and an instance that serves them, in one process.

pub mod backend;
pub mod client;
mod manifests;
mod tour;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, anyhow};
use tidegate_certificates::CertificateSettings;
use tidegate_controller::resolve::ResolverSettings;
use tidegate_controller::translate;
use tidegate_dataplane::{AcceptMode, AccessLog, ListenAddress, ListenerProtocol};
use tidegate_model::{Policy, RedirectPolicy};

use crate::app::{self, Running};
use crate::cli::DemoFlags;
use crate::settings::effective::Effective;
use crate::settings::{
    AfterHandOver, DataSettings, InstanceName, Listen, LogSettings, Pod, Publish, Settings, Source,
    SteeringMode,
};
use crate::{Failure, limits, logging, output, serve};

use backend::Backend;
use manifests::Folder;

const HTTP_PORT: u16 = 8080;
const HTTPS_PORT: u16 = 8443;
/// How long a drain may take when the demo ends.
const DRAIN: Duration = Duration::from_secs(2);

/// Runs the demo: the tour with `--once`, else until a signal ends it.
pub(crate) fn run(flags: &DemoFlags) -> Result<ExitCode, Failure> {
    let http = address("--http", flags.http, HTTP_PORT)?;
    let https = address("--https", flags.https, HTTPS_PORT)?;
    // The tour breaks things on purpose: its table tells more than warnings would.
    let level = if flags.once { "error" } else { "warn" };
    logging::start(&LogSettings {
        level: level.to_owned(),
        ..LogSettings::default()
    })?;
    let code = serve::runtime()?.block_on(async {
        let demo = Demo::start(flags, http, https).await?;
        match flags.once {
            true => demo.tour().await,
            false => demo.follow().await,
        }
    })?;
    Ok(code)
}

/// The address of a listener. Without a wish it is the usual port of loopback, or a free one when that is taken.
fn address(flag: &str, wish: Option<Listen>, usual: u16) -> Result<SocketAddr, Failure> {
    let loopback = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    match wish {
        Some(Listen::Off) => Err(Failure::usage(anyhow!(
            "{flag} off: the demo shows both HTTP and HTTPS; name an address or leave the flag out"
        ))),
        Some(Listen::On(ListenAddress::Socket(address))) if address.port() != 0 => Ok(address),
        Some(Listen::On(ListenAddress::Socket(address))) => Ok(free(address)?),
        Some(Listen::On(ListenAddress::Port(0))) => Ok(free(loopback(0))?),
        Some(Listen::On(ListenAddress::Port(port))) => Ok(loopback(port)),
        None => Ok(free(loopback(usual)).or_else(|_| free(loopback(0)))?),
    }
}

/// The address when it is free; for port 0 with a port that is. The redirect of the demo names the port, so it has to
/// be known before the instance starts.
fn free(address: SocketAddr) -> anyhow::Result<SocketAddr> {
    let listener =
        TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))?;
    listener.local_addr().context("free port")
}

/// Everything that runs.
struct Demo {
    folder: Folder,
    running: Running,
    http: SocketAddr,
    https: SocketAddr,
    admin: SocketAddr,
    _backends: Vec<Backend>,
}

impl Demo {
    async fn start(flags: &DemoFlags, http: SocketAddr, https: SocketAddr) -> anyhow::Result<Self> {
        let mut backends = Vec::new();
        for name in [manifests::SHOP, manifests::CART, manifests::APPS] {
            backends.push(Backend::start(name).await?);
        }
        let folder = Folder::write(flags.dir.as_deref(), &backends)?;
        let running = app::start(settings(&folder, http, https)).await?;
        let bound = |protocol| running.address(protocol).context("no listener");
        let demo = Self {
            http: bound(ListenerProtocol::Http)?,
            https: bound(ListenerProtocol::Https)?,
            admin: running.admin().context("no admin listener")?,
            folder,
            running,
            _backends: backends,
        };
        demo.ready().await?;
        Ok(demo)
    }

    /// Waits for the first configuration.
    async fn ready(&self) -> anyhow::Result<()> {
        let mut serving = self.running.serving();
        let first = serving.wait_for(Option::is_some);
        tokio::time::timeout(Duration::from_secs(10), first)
            .await
            .context("the example manifests were not served within 10 s")?
            .context("the control plane ended")?;
        Ok(())
    }

    /// Prints what to try and serves until a signal.
    async fn follow(mut self) -> anyhow::Result<ExitCode> {
        let mut signals = serve::Signals::new()?;
        output::print(&self.hints())?;
        tokio::select! {
            _ = signals.next() => {}
            _ = self.running.event() => return Err(anyhow!("the control plane ended, which is a bug")),
        }
        tokio::select! {
            _ = self.running.drain(DRAIN) => Ok(ExitCode::SUCCESS),
            _ = signals.next() => Ok(ExitCode::FAILURE),
        }
    }

    async fn tour(self) -> anyhow::Result<ExitCode> {
        let steps = tour::Tour {
            http: self.http,
            https: self.https,
            admin: self.admin,
            folder: &self.folder,
        };
        let outcome = steps.run().await?;
        output::print(&outcome.text())?;
        self.running.drain(DRAIN).await;
        Ok(outcome.exit_code())
    }

    fn hints(&self) -> String {
        let (http, https, admin) = (self.http, self.https, self.admin);
        let (ip, port) = (https.ip(), https.port());
        let folder = self.folder.path().display();
        format!(
            "\
Tidegate serves the manifests in {folder}
  HTTP on {http}, HTTPS on {https}, admin pages on http://{admin}/

Try:
  curl -H 'Host: shop.localhost' http://{http}/                    an exact host
  curl -H 'Host: shop.localhost' http://{http}/cart/items          another path, another backend
  curl -H 'Host: blue.apps.localhost' http://{http}/               a wildcard host
  curl -H 'Host: shop.localhost' -d 'a body' http://{http}/orders  a body
  curl -i -H 'Host: secure.localhost' http://{http}/               redirected to HTTPS
  curl -k --resolve secure.localhost:{port}:{ip} https://secure.localhost:{port}/
  curl -i -H 'Host: broken.localhost' http://{http}/               a rule without its Service: 503
  curl -i -H 'Host: unknown.localhost' http://{http}/              nothing is there: 404
  curl http://{admin}/problems                             what is wrong
  curl http://{admin}/metrics

Edit a file in {folder} and try again: it takes effect at once.
What it says is also what `tidegate check {folder}` prints. Ctrl-C ends the demo.
"
        )
    }
}

fn settings(folder: &Folder, http: SocketAddr, https: SocketAddr) -> Settings {
    let redirect = RedirectPolicy {
        port: https.port(),
        ..RedirectPolicy::default()
    };
    Settings {
        instance: InstanceName::unique("demo"),
        dataplane: tidegate_dataplane::Settings {
            http: vec![ListenAddress::Socket(http)],
            https: vec![ListenAddress::Socket(https)],
            workers: NonZeroUsize::MIN,
            accept: AcceptMode::default(),
            access_log: AccessLog::Off,
            max_connections: limits::default_connections(),
            pin: None,
            on_demand: None,
        },
        admin: Some(ListenAddress::Socket((Ipv4Addr::LOCALHOST, 0).into())),
        probe_socket: None,
        source: Source::Manifests(vec![folder.path().to_owned()]),
        publish: Publish::default(),
        pod: Pod::default(),
        data: DataSettings::default(),
        certificates: CertificateSettings::default(),
        problems: Vec::new(),
        translation: translate::Settings {
            policy: Policy {
                redirect,
                ..Policy::default()
            },
            ..translate::Settings::default()
        },
        resolver: ResolverSettings::default(),
        drain: DRAIN,
        // It shall run without any right.
        steering: SteeringMode::Kernel,
        after_hand_over: AfterHandOver::Exit,
        guard: None,
        log: LogSettings::default(),
        effective: Effective::default(),
        live: None,
    }
}
