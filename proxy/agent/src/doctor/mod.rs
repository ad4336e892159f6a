//! `tidegate doctor`: what this machine lets Tidegate do, what it does not, and what that costs. Nothing is left behind.

mod checks;
mod facts;
mod report;

use std::process::ExitCode;

use crate::cli::{DoctorFlags, OutputFormat};
use crate::ebpf;
use crate::{Failure, output};

use facts::Facts;
use report::Report;

/// Looks, prints, and tells by its exit code whether everything works that the default settings use.
pub(crate) fn run(flags: &DoctorFlags) -> Result<ExitCode, Failure> {
    let report = Report::new(checks::all(&Facts::look(), &ebpf::probe()));
    let text = match flags.output {
        OutputFormat::Text => report.text(),
        OutputFormat::Json => report.json()?,
    };
    output::print(&text)?;
    Ok(match report.works() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}
