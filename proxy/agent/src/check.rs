//! `tidegate check`: what manifests would be served as, and what is wrong with them. Nothing is sent anywhere.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::Context;
use serde::Serialize;
use tidegate_controller::source::directory::Directory;
use tidegate_controller::{Translation, Translator};
use tidegate_model::{
    HostPattern, Hostname, Level, PathKind, Problem, Reason, RouteDescription, SnapshotDescription,
    UpstreamDescription, UpstreamId,
};

use crate::cli::{CheckFlags, OutputFormat};
use crate::{Failure, clock, output, settings};

/// How many addresses a row shows.
const SHOWN_ENDPOINTS: usize = 2;

/// Translates, prints, and tells by its exit code whether everything is served.
pub(crate) fn run(flags: CheckFlags) -> Result<ExitCode, Failure> {
    let translation = settings::for_checking(&flags).map_err(Failure::usage)?;
    let report = Report::new(Directory::new(flags.paths), translation);
    let text = match flags.output {
        OutputFormat::Text => report.text(),
        OutputFormat::Json => report.json()?,
    };
    output::print(&text)?;
    Ok(report.exit_code())
}

/// What is printed.
#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    snapshot: SnapshotDescription,
    problems: Vec<Problem>,
    /// Upstreams whose endpoints a name server would have to tell, with the name.
    #[serde(skip)]
    names: BTreeMap<UpstreamId, Hostname>,
}

impl Report {
    fn new(mut directory: Directory, settings: tidegate_controller::Settings) -> Self {
        let read = directory.load();
        let Translation {
            snapshot, problems, ..
        } = Translator::new(settings).apply(read.changes, clock::now());
        let mut problems: Vec<_> = read.problems.into_iter().chain(problems).collect();
        // Offline no name resolves, which says nothing about the manifests.
        problems.retain(|problem| problem.reason != Reason::NameNotResolved);
        problems.sort();
        problems.dedup();
        let unresolved = snapshot
            .upstreams
            .values()
            .filter(|upstream| upstream.endpoints.is_empty());
        let names = unresolved
            .filter_map(|upstream| Some((upstream.id.clone(), upstream.server_name.clone()?)))
            .collect();
        Self {
            snapshot: snapshot.describe(),
            problems,
            names,
        }
    }

    fn exit_code(&self) -> ExitCode {
        let broken = self
            .problems
            .iter()
            .any(|problem| problem.level == Level::Error);
        match broken {
            true => ExitCode::FAILURE,
            false => ExitCode::SUCCESS,
        }
    }

    fn json(&self) -> anyhow::Result<String> {
        let mut text = serde_json::to_string_pretty(self).context("cannot write JSON")?;
        text.push('\n');
        Ok(text)
    }

    fn text(&self) -> String {
        let mut text = match self.snapshot.routes.is_empty() {
            true => "no routes\n".to_owned(),
            false => self.routes(),
        };
        text.push('\n');
        for problem in &self.problems {
            text.push_str(&format!("{problem}\n"));
        }
        text.push_str(&self.summary());
        text
    }

    fn routes(&self) -> String {
        let upstreams: BTreeMap<_, _> = self
            .snapshot
            .upstreams
            .iter()
            .map(|upstream| (&upstream.id, upstream))
            .collect();
        let rows: Vec<_> = self
            .snapshot
            .routes
            .iter()
            .map(|route| self.row(route, &upstreams))
            .collect();
        let headings = [
            "HOST",
            "PATH",
            "TYPE",
            "INGRESS",
            "UPSTREAM",
            "ENDPOINTS",
            "TLS",
        ];
        output::table(headings, &rows)
    }

    fn row(
        &self,
        route: &RouteDescription,
        upstreams: &BTreeMap<&UpstreamId, &UpstreamDescription>,
    ) -> [String; 7] {
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        let (upstream, endpoints) = match &route.upstream {
            Some(id) => (id.to_string(), self.endpoints(upstreams.get(id).copied())),
            None => ("none: answered 503".to_owned(), "-".to_owned()),
        };
        [
            route.host.to_string(),
            or_dash(route.path.clone()),
            match route.path_type {
                Some(PathKind::Exact) => "Exact".to_owned(),
                Some(PathKind::Prefix) => "Prefix".to_owned(),
                None => "default".to_owned(),
            },
            or_dash(route.ingress.as_ref().map(ToString::to_string)),
            upstream,
            endpoints,
            self.tls(route),
        ]
    }

    fn endpoints(&self, upstream: Option<&UpstreamDescription>) -> String {
        if let Some(name) = upstream.and_then(|found| self.names.get(&found.id)) {
            return format!("{name}, resolved while serving");
        }
        let addresses = upstream
            .map(|found| found.endpoints.as_slice())
            .unwrap_or_default();
        if addresses.is_empty() {
            return "none: answered 503".to_owned();
        }
        let shown: Vec<_> = addresses
            .iter()
            .take(SHOWN_ENDPOINTS)
            .map(ToString::to_string)
            .collect();
        match addresses.len().checked_sub(SHOWN_ENDPOINTS) {
            None | Some(0) => shown.join(", "),
            Some(more) => format!("{} and {more} more", shown.join(", ")),
        }
    }

    /// The Secret that the host is served with, and whether plain text goes there.
    fn tls(&self, route: &RouteDescription) -> String {
        let certificates = &self.snapshot.certificates;
        let secret = |wanted: &HostPattern| {
            let found = certificates.iter().find(|found| found.host == *wanted);
            found.map(|found| found.secret.to_string())
        };
        let covering = || {
            let found = certificates
                .iter()
                .find(|found| found.host != HostPattern::Any && found.host.covers(&route.host));
            found.map(|found| found.secret.to_string())
        };
        let secret = secret(&route.host).or_else(covering);
        match (secret, route.tls_redirect) {
            (Some(secret), true) => format!("{secret}, redirected"),
            (Some(secret), false) => secret,
            (None, true) => "default certificate, redirected".to_owned(),
            (None, false) => "-".to_owned(),
        }
    }

    fn summary(&self) -> String {
        let count = |level| {
            self.problems
                .iter()
                .filter(|found| found.level == level)
                .count()
        };
        format!(
            "{}, {}, {}\n",
            plural(self.snapshot.routes.len(), "route", "routes"),
            plural(count(Level::Error), "error", "errors"),
            plural(count(Level::Warning), "warning", "warnings"),
        )
    }
}

fn plural(number: usize, one: &str, many: &str) -> String {
    match number {
        1 => format!("1 {one}"),
        _ => format!("{number} {many}"),
    }
}
