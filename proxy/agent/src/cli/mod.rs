//! The command line: what can be said, and what `--help` tells about it.

mod certs;
mod given;
mod serve;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::probe::DEFAULT_SOCKET;
use crate::settings::Listen;

pub(crate) use certs::{CertsAction, CertsFlags, ImportFlags, TestFlags};
pub(crate) use given::Given;
#[cfg(test)]
pub(crate) use serve::SERVE_EXAMPLES;
pub(crate) use serve::{CertificateFlags, ClassFlags, ClusterFlags, ServeFlags};

const ABOUT: &str = "\
Tidegate is an ingress controller and reverse proxy for Kubernetes in one binary.

It reads Ingresses, IngressClasses, Services, EndpointSlices and TLS Secrets, and serves HTTP/1.1, HTTP/2 and WebSocket \
on the ports that it binds itself. The objects come from the API server of a cluster or from folders of manifests, and \
are followed: a change takes effect within a moment, and no open connection notices.";

const EXAMPLES: &str = "\
Examples:
  tidegate demo                                   try it: backends, manifests and proxy in one process
  tidegate check manifests/                       what would be served, and what is wrong
  tidegate serve --manifests manifests/           serve on 80 and 443
  tidegate serve --manifests /etc/tidegate --http 8080 --https off --ingress-class internal
  tidegate serve --kubeconfig ~/.kube/config      serve what a cluster has; in a pod, `tidegate serve` does
  tidegate serve --print-config                   the settings in effect, and where each is from
  tidegate probe ready                            for the probes of a pod: ask a process that serves
  tidegate certs                                  how certificates stand: ask a process that serves
  tidegate certs test shop.example.com            try what a CA would, without one
  tidegate import acme.json acme.json             go on with what Traefik has ordered
  tidegate doctor                                 what this machine lets it do
  tidegate completions bash > /etc/bash_completion.d/tidegate

Every flag can also be set in the environment, as its help says, and most of them in a settings file. \
Flags win over the environment, the environment over the file.

Exit codes: 0 done, 1 failed (for check: something is not served; for doctor and certs: something is missing), 2 wrong command line, settings or paths.";

const CHECK_EXAMPLES: &str = "\
Names of ExternalName services are not resolved, and no certificate is asked for: nothing is sent anywhere.

Examples:
  tidegate check manifests/
  tidegate check --ingress-class internal --output json manifests/ | jq .problems
  helm template ./chart > all.yaml && tidegate check all.yaml

Exit codes: 0 everything is served, 1 at least one problem of level error, 2 wrong command line, settings or paths.";

const DEMO_EXAMPLES: &str = "\
Nothing is sent beyond this machine, and everything listens on loopback.

Examples:
  tidegate demo                   follow the hints that it prints; Ctrl-C ends it
  tidegate demo --once            it tries everything itself and prints a table
  tidegate demo --dir ./demo      keep the manifests, to edit and to serve later";

const DOCTOR_EXAMPLES: &str = "\
It looks at the kernel, its own capabilities and /sys/fs/bpf, loads each eBPF program and lets go of it. Run it as Tidegate \
is run: in its container, as its user, with its capabilities. Nothing is left behind.

Examples:
  tidegate doctor
  tidegate doctor --output json | jq '.checks[] | select(.state != \"works\")'
  kubectl exec -n ingress ds/tidegate -- tidegate doctor

Exit codes: 0 everything works that the default settings use, 1 something is missing, 2 wrong command line.";

const PROBE_EXAMPLES: &str = "\
It asks the process that serves with `--probe-socket` at the same path, and no other: the admin pages move to another \
process with a hand-over, the socket does not. It prints the answer and gives up after 2 s.

Examples:
  tidegate probe live
  tidegate probe ready --socket /run/tidegate/probe.sock

Exit codes: 0 it is so, 1 it is not, or nobody answers, 2 wrong command line.";

/// What was typed.
#[derive(Debug, Parser)]
#[command(
    name = "tidegate",
    version,
    about = "Kubernetes ingress controller and reverse proxy in one binary",
    long_about = ABOUT,
    after_help = EXAMPLES,
    max_term_width = 110,
    propagate_version = true
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Cli {
    /// Parses a command line.
    ///
    /// # Errors
    /// What is wrong with it; help and version are such errors, too.
    pub(crate) fn read(
        line: impl IntoIterator<Item = impl Into<OsString> + Clone>,
    ) -> Result<Self, clap::Error> {
        let mut command = Self::command();
        let matches = command.try_get_matches_from_mut(line)?;
        let mut cli = Self::from_arg_matches(&matches)?;
        if let Command::Serve(flags) = &mut cli.command
            && let Some((name, matches)) = matches.subcommand()
            && let Some(command) = command.find_subcommand(name)
        {
            flags.given = Given::of(command, matches);
        }
        Ok(cli)
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve what a cluster or manifests describe, and follow their changes
    #[command(after_help = serve::SERVE_EXAMPLES)]
    Serve(Box<ServeFlags>),
    /// Translate manifests offline: print the routes and everything that is wrong
    #[command(after_help = CHECK_EXAMPLES)]
    Check(CheckFlags),
    /// Start example backends and manifests, and serve them
    #[command(after_help = DEMO_EXAMPLES)]
    Demo(DemoFlags),
    /// Ask a process that serves whether it is alive or ready
    #[command(after_help = PROBE_EXAMPLES)]
    Probe(ProbeFlags),
    /// Show how certificates stand, order one again, or try what a CA would
    #[command(after_help = certs::CERTS_EXAMPLES)]
    Certs(CertsFlags),
    /// Take over certificates and accounts that another program has ordered
    #[command(after_help = certs::IMPORT_EXAMPLES)]
    Import(ImportFlags),
    /// Tell what this machine lets Tidegate do, what is missing and what that costs
    #[command(after_help = DOCTOR_EXAMPLES)]
    Doctor(DoctorFlags),
    /// Print a completion script for a shell
    Completions {
        /// The shell that the script is for
        shell: Shell,
    },
}

#[derive(Debug, Args)]
pub(crate) struct CheckFlags {
    /// Folders and files with manifests
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,

    /// How to print
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) output: OutputFormat,

    /// Settings file (YAML), as for `tidegate serve`
    #[arg(long, value_name = "FILE", env = "TIDEGATE_CONFIG")]
    pub(crate) config: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) class: ClassFlags,
}

#[derive(Debug, Args)]
pub(crate) struct DemoFlags {
    /// Try everything, print a table and end: exit code 0 when all went as expected, else 1
    #[arg(long)]
    pub(crate) once: bool,

    /// Listen for HTTP here [default: 127.0.0.1:8080, or a free port]
    #[arg(long, value_name = "ADDR")]
    pub(crate) http: Option<Listen>,

    /// Listen for HTTPS here [default: 127.0.0.1:8443, or a free port]
    #[arg(long, value_name = "ADDR")]
    pub(crate) https: Option<Listen>,

    /// Put the example manifests here and leave them there; files of the same names are replaced [default: a temporary
    /// folder, removed at the end]
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
}

/// What `tidegate probe` is told.
#[derive(Debug, Args)]
pub(crate) struct ProbeFlags {
    /// What to ask
    #[arg(value_name = "WHAT")]
    pub(crate) question: Question,

    /// Where the process answers: its --probe-socket
    #[arg(long, value_name = "PATH", env = "TIDEGATE_PROBE_SOCKET", default_value = DEFAULT_SOCKET)]
    pub(crate) socket: PathBuf,
}

/// What a probe asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Question {
    /// Whether the process runs
    Live,
    /// Whether it serves
    Ready,
}

/// What `tidegate doctor` is told.
#[derive(Debug, Args)]
pub(crate) struct DoctorFlags {
    /// How to print
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) output: OutputFormat,
}

/// How a report is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    /// Tables for people
    Text,
    /// One object, for programs
    Json,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_was_typed_is_known_as_it_was_written() {
        let line = [
            "tidegate",
            "serve",
            "--http",
            "80,81",
            "--http=82",
            "--drain-timeout",
            "1m30s",
            "--watch-ingress-without-class",
        ];
        let Ok(Command::Serve(flags)) = Cli::read(line).map(|cli| cli.command) else {
            panic!("it is not taken");
        };
        let texts = |id| flags.given.argument(id).map(|found| found.texts.join(" "));
        assert_eq!(texts("http").as_deref(), Some("80 81 82"));
        assert_eq!(texts("drain_timeout").as_deref(), Some("1m30s"));
        assert_eq!(
            texts("watch_ingress_without_class").as_deref(),
            Some("true")
        );
        assert_eq!(texts("https"), None);
        let place = flags.given.argument("http").map(|found| &*found.place);
        assert_eq!(place, Some("--http"));
    }

    #[test]
    fn every_flag_of_serve_has_a_variable_and_a_help() {
        let command = Cli::command();
        let serve = command.find_subcommand("serve").unwrap();
        for argument in serve.get_arguments() {
            let name = argument.get_id();
            assert!(argument.get_help().is_some(), "{name} has no help");
            if name == "print_config" {
                // It is no setting: a process with this in its environment would never serve.
                assert_eq!(argument.get_env(), None);
                continue;
            }
            let variable = format!("TIDEGATE_{}", name.as_str().to_uppercase());
            let found = argument.get_env().map(|name| name.to_string_lossy());
            assert_eq!(found.as_deref(), Some(variable.as_str()));
        }
    }
}
