//! Text for people and tools on standard output and standard error.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Context;
use clap::CommandFactory;
use clap_complete::Shell;
use tidegate_model::UnixTime;

use crate::Failure;
use crate::cli::Cli;

/// Writes to standard output. A reader that went away (`tidegate check … | head`) is no error.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    let written = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome.context("cannot write to standard output"),
    }
}

/// Writes to standard error; when even that fails there is nobody left to tell.
pub(crate) fn complain(text: &str) {
    _ = io::stderr().lock().write_all(text.as_bytes());
}

/// `tidegate completions`.
pub(crate) fn completions(shell: Shell) -> Result<ExitCode, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "tidegate", &mut script);
    print(&String::from_utf8_lossy(&script))?;
    Ok(ExitCode::SUCCESS)
}

/// The day of a moment, in UTC.
pub(crate) fn day(moment: UnixTime) -> String {
    match jiff::Timestamp::from_second(moment.0) {
        Ok(time) => time.strftime("%Y-%m-%d").to_string(),
        Err(_) => "-".to_owned(),
    }
}

/// A moment to the minute, in UTC.
pub(crate) fn minute(moment: UnixTime) -> String {
    match jiff::Timestamp::from_second(moment.0) {
        Ok(time) => time.strftime("%Y-%m-%d %H:%M").to_string(),
        Err(_) => "-".to_owned(),
    }
}

/// Rows under headings, in columns that are as wide as they need to be.
pub(crate) fn table<const N: usize>(headings: [&str; N], rows: &[[String; N]]) -> String {
    let mut widths = headings.map(|heading| heading.chars().count());
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    let headings = headings.map(str::to_owned);
    for row in [&headings].into_iter().chain(rows) {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            line.push_str(&format!("{cell:width$}  "));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_shown_in_utc() {
        assert_eq!(day(UnixTime(0)), "1970-01-01");
        assert_eq!(minute(UnixTime(61)), "1970-01-01 00:01");
        assert_eq!(day(UnixTime(i64::MAX)), "-");
    }

    #[test]
    fn columns_are_aligned() {
        let rows = [
            ["a.example.com".to_owned(), "/".to_owned()],
            ["*".to_owned(), "/longer".to_owned()],
        ];
        assert_eq!(
            table(["HOST", "PATH"], &rows),
            "HOST           PATH\na.example.com  /\n*              /longer\n"
        );
    }
}
