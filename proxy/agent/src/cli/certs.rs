//! The flags of `tidegate certs` and `tidegate import`.

use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand, ValueEnum};
use tidegate_model::HostPattern;

use super::OutputFormat;
use crate::probe::DEFAULT_SOCKET;
use crate::settings::{self, Directory, InstanceName};

pub(super) const CERTS_EXAMPLES: &str = "\
It asks the process that serves with `--probe-socket` at the same path. Whichever process of a cluster is asked, the ledger \
is that of the instance; orders are made by the one that leads.

`test` looks at a name as a CA does, and orders nothing: its addresses in DNS and whether they are those of nodes or \
published ones; whether every node answers on the port that the issuer's challenge needs, at its own address and at those of \
the name; whether the CA's directory is reachable; whether CAA records let it issue. With --staging it also orders at the \
issuer's staging directory. For a challenge on port 80 it asks for a token that nobody has: any HTTP answer will do.

Examples:
  tidegate certs
  tidegate certs --output json | jq '.outlook[] | select(.lastError)'
  tidegate certs renew shop.example.com
  tidegate certs test shop.example.com --issuer letsencrypt
  kubectl exec -n ingress ds/tidegate -- tidegate certs

Exit codes: 0 done, and every certificate that is wanted is there and alive; 1 one is not, a step of test failed, or nobody \
answers; 2 wrong command line.";

pub(super) const IMPORT_EXAMPLES: &str = "\
It takes certificates that have not expired, and accounts with their keys, out of an acme.json of Traefik 1, 2 or 3. On a \
cluster they become Secrets in Tidegate's namespace, with your rights; without one, with --data-dir, they go into the file of \
the instance there, whose process must not run meanwhile. What is there already stays as it was. The file is not changed.

Certificates are said to be of an issuer of the settings, so that they are renewed and not ordered again: the one that --issuer \
names, else the one in --config whose directory is that of --directory, else the first one, else `default`.

Examples:
  tidegate import acme.json /etc/traefik/acme.json --dry-run
  tidegate import acme.json acme.json --namespace ingress --issuer letsencrypt
  tidegate import acme.json acme.json --resolver web --config settings.yaml --data-dir /var/lib/tidegate

Exit codes: 0 everything that can be used is there, 1 something could not be kept, 2 wrong command line, settings or file.";

/// What `tidegate certs` is told.
#[derive(Debug, Args)]
pub(crate) struct CertsFlags {
    #[command(subcommand)]
    pub(crate) action: Option<CertsAction>,

    /// Where the process answers: its --probe-socket
    #[arg(long, global = true, value_name = "PATH", env = "TIDEGATE_PROBE_SOCKET", default_value = DEFAULT_SOCKET)]
    pub(crate) socket: PathBuf,

    /// How to print
    #[arg(long, global = true, value_name = "FORMAT", default_value = "text")]
    pub(crate) output: OutputFormat,
}

/// What to do about a certificate.
#[derive(Debug, Subcommand)]
pub(crate) enum CertsAction {
    /// Order the certificates for a name again now, whatever the plan says
    Renew {
        /// A name of the certificate: a DNS name or a wildcard
        #[arg(value_name = "NAME", value_parser = host)]
        name: HostPattern,
    },
    /// Try every step of an order for a name, without a CA or at its staging directory
    Test(TestFlags),
}

/// What `tidegate certs test` is told.
#[derive(Debug, Args)]
pub(crate) struct TestFlags {
    /// A DNS name or a wildcard
    #[arg(value_name = "HOST", value_parser = host)]
    pub(crate) host: HostPattern,

    /// The issuer that it would be ordered from [default: the first one]
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) issuer: Option<String>,

    /// Order at the issuer's staging directory, too; the certificate is thrown away
    #[arg(long)]
    pub(crate) staging: bool,
}

/// What `tidegate import` is told.
#[derive(Debug, Args)]
pub(crate) struct ImportFlags {
    /// Of what form the file is
    #[arg(value_name = "FORM")]
    pub(crate) form: ImportForm,

    /// The file
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,

    /// Take only what this resolver of Traefik 2 or 3 has ordered [default: all]
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) resolver: Option<String>,

    /// The issuer that the certificates are of from now on
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) issuer: Option<String>,

    /// The ACME directory that accounts are of: letsencrypt, letsencrypt-staging or a URL [default: known by their URLs, for
    /// Let's Encrypt]
    #[arg(long, value_name = "DIRECTORY", value_parser = settings::directory)]
    pub(crate) directory: Option<Directory>,

    /// Settings file (YAML) whose issuers are meant
    #[arg(long, value_name = "FILE", env = "TIDEGATE_CONFIG")]
    pub(crate) config: Option<PathBuf>,

    /// Print what would be done, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// Which Tidegate it is for [default: tidegate]
    #[arg(long, value_name = "NAME", env = "TIDEGATE_INSTANCE")]
    pub(crate) instance: Option<InstanceName>,

    /// Import into the file of a Tidegate without a cluster, in this folder
    #[arg(long, value_name = "DIR", conflicts_with_all = ["kubeconfig", "context"])]
    pub(crate) data_dir: Option<PathBuf>,

    /// File with the key that encrypts that file; TIDEGATE_DATA_KEY can have the key itself
    #[arg(long, value_name = "FILE", requires = "data_dir")]
    pub(crate) data_key_file: Option<PathBuf>,

    /// How to reach the API server [default: as a pod of the cluster, else as kubectl does]
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,

    /// Context of the kubeconfig [default: its current one]
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) context: Option<String>,

    /// The namespace that Tidegate runs in [default: that of this pod, else tidegate]
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) namespace: Option<String>,
}

/// Forms of files that are imported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ImportForm {
    /// Of Traefik 1, 2 and 3
    #[value(name = "acme.json")]
    AcmeJson,
}

fn host(text: &str) -> Result<HostPattern, String> {
    match HostPattern::parse(text) {
        Ok(HostPattern::Any) => {
            Err("write a DNS name, or a wildcard such as *.example.com".to_owned())
        }
        Ok(host) => Ok(host),
        Err(error) => Err(error.to_string()),
    }
}
