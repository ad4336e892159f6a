//! The command line: what can be said, and what `--help` tells about it.

mod serve;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::settings::Listen;

#[cfg(test)]
pub(crate) use serve::SERVE_EXAMPLES;
pub(crate) use serve::{ClassFlags, ServeFlags};

const ABOUT: &str = "\
Tidegate is an ingress controller and reverse proxy for Kubernetes in one binary.

It reads Ingresses, IngressClasses, Services, EndpointSlices and TLS Secrets, and serves HTTP/1.1, HTTP/2 and WebSocket \
on the ports that it binds itself. In this version the objects come from folders of manifests, which are followed: \
an edit takes effect within a moment, and no open connection notices.";

const EXAMPLES: &str = "\
Examples:
  tidegate demo                                   try it: backends, manifests and proxy in one process
  tidegate check manifests/                       what would be served, and what is wrong
  tidegate serve --manifests manifests/           serve on 80 and 443
  tidegate serve --manifests /etc/tidegate --http 8080 --https off --ingress-class internal
  tidegate doctor                                 what this machine lets it do
  tidegate completions bash > /etc/bash_completion.d/tidegate

Every flag can also be set in the environment, as its help says, and most of them in a settings file. \
Flags win over the environment, the environment over the file.

Exit codes: 0 done, 1 failed (for check: something is not served; for doctor: something is missing), 2 wrong command line, settings or paths.";

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

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve what manifests describe, and follow their changes
    #[command(after_help = serve::SERVE_EXAMPLES)]
    Serve(ServeFlags),
    /// Translate manifests offline: print the routes and everything that is wrong
    #[command(after_help = CHECK_EXAMPLES)]
    Check(CheckFlags),
    /// Start example backends and manifests, and serve them
    #[command(after_help = DEMO_EXAMPLES)]
    Demo(DemoFlags),
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
    fn every_flag_of_serve_has_a_variable_and_a_help() {
        let command = Cli::command();
        let serve = command.find_subcommand("serve").unwrap();
        for argument in serve.get_arguments() {
            let name = argument.get_id();
            assert!(argument.get_help().is_some(), "{name} has no help");
            let variable = format!("TIDEGATE_{}", name.as_str().to_uppercase());
            let found = argument.get_env().map(|name| name.to_string_lossy());
            assert_eq!(found.as_deref(), Some(variable.as_str()));
        }
    }
}
