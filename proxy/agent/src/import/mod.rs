//! `tidegate import`: certificates and accounts that another program has ordered go on being used.

mod destination;

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, anyhow};
use tidegate_certificates::import::{self, Import, LONGEST, Selection};
use tidegate_certificates::{Issuer, Issuers, NameSet, StoreError};
use tidegate_controller::certificates::Imported;
use tidegate_model::{NamespacedName, UnixTime};

use crate::cli::ImportFlags;
use crate::settings::{self, Directory};
use crate::{Failure, clock, output};
use destination::Destination;

/// The name of an issuer where neither a flag nor the settings have one: that of the short form.
const ISSUER: &str = "default";

/// `tidegate import`: exit code 0 when everything that can be used is kept.
pub(crate) fn run(flags: &ImportFlags) -> Result<ExitCode, Failure> {
    let issuers = settings::issuers(flags.config.as_deref()).map_err(Failure::usage)?;
    let content = read(&flags.file).map_err(Failure::Usage)?;
    let import = import(&content, flags, &issuers).map_err(Failure::Usage)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start a runtime")?;
    let rows = runtime.block_on(keep(&import, flags))?;
    output::print(&report(&import, &rows))?;
    Ok(match rows.iter().any(|row| row.outcome.is_err()) {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    })
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let place = || format!("cannot read {}", path.display());
    let file = File::open(path).with_context(place)?;
    let mut content = Vec::new();
    file.take(LONGEST as u64 + 1)
        .read_to_end(&mut content)
        .with_context(place)?;
    Ok(content)
}

fn import(content: &[u8], flags: &ImportFlags, issuers: &Issuers) -> anyhow::Result<Import> {
    let directory = flags.directory.as_ref().map(Directory::url);
    let named = flags.issuer.as_deref();
    if let Some(name) = named
        && flags.config.is_some()
        && issuers.find(Some(name)).is_none()
    {
        return Err(anyhow!(
            "--issuer {name}: the settings file has no issuer of this name"
        ));
    }
    let of_directory = |issuer: &&Issuer| directory == Some(issuer.directory.as_str());
    let issuer = match named {
        Some(name) => issuers.find(Some(name)),
        None => issuers.0.iter().find(of_directory).or(issuers.0.first()),
    };
    let external = issuer.and_then(|issuer| issuer.external_account.as_ref());
    let selection = Selection {
        resolver: flags.resolver.as_deref(),
        issuer: named
            .or(issuer.map(|issuer| issuer.name.as_str()))
            .unwrap_or(ISSUER),
        directory,
        external_key_id: external.map(|external| external.key_id.as_str()),
        now: clock::now(),
    };
    import::traefik(content, &selection)
        .with_context(|| format!("{} cannot be imported", flags.file.display()))
}

/// Something that was to be kept.
struct Row {
    /// Names of a certificate, or whose account it is.
    what: String,
    expires: Option<UnixTime>,
    secret: NamespacedName,
    outcome: Result<Imported, StoreError>,
}

async fn keep(import: &Import, flags: &ImportFlags) -> anyhow::Result<Vec<Row>> {
    if import.accounts.is_empty() && import.certificates.is_empty() {
        return Ok(Vec::new());
    }
    let destination = Destination::open(flags).await?;
    let mut rows = Vec::new();
    for account in &import.accounts {
        rows.push(Row {
            what: format!("account at {}", account.directory),
            expires: None,
            secret: destination.record_name(&account.record),
            outcome: destination.record(&account.record).await,
        });
    }
    for certificate in &import.certificates {
        let secret = destination.certificate_name(&certificate.names);
        let outcome = destination.certificate(&secret, &certificate.issued).await;
        rows.push(Row {
            what: shown(&certificate.names),
            expires: Some(certificate.not_after),
            secret,
            outcome,
        });
    }
    destination.close().await;
    Ok(rows)
}

/// Some of the names, and how many more there are.
fn shown(names: &NameSet) -> String {
    const SHOWN: usize = 3;
    let some: Vec<_> = names.iter().take(SHOWN).map(ToString::to_string).collect();
    match names.len().saturating_sub(SHOWN) {
        0 => some.join(", "),
        more => format!("{} and {more} more", some.join(", ")),
    }
}

fn report(import: &Import, rows: &[Row]) -> String {
    let mut text = String::new();
    if !rows.is_empty() {
        let rows: Vec<_> = rows.iter().map(Row::cells).collect();
        text.push_str(&output::table(
            ["WHAT", "EXPIRES", "SECRET", "OUTCOME"],
            &rows,
        ));
    }
    for skipped in &import.skipped {
        text.push_str(&format!("left out: {}: {}\n", skipped.what, skipped.why));
    }
    if rows.is_empty() {
        text.push_str("nothing in it can be used\n");
    }
    text
}

impl Row {
    fn cells(&self) -> [String; 4] {
        let outcome = match &self.outcome {
            Ok(Imported::Made) => "imported".to_owned(),
            Ok(Imported::There) => "there already, as it was".to_owned(),
            Err(error) => format!("failed: {error}"),
        };
        [
            self.what.clone(),
            self.expires.map_or_else(|| "-".to_owned(), output::day),
            self.secret.to_string(),
            outcome,
        ]
    }
}

#[cfg(test)]
mod tests;
