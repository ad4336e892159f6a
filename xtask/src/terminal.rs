//! Words to the person at the terminal. A closed pipe is no reason to stop.

use std::fmt::Display;
use std::io::{self, Write};

/// A line on standard output.
pub(crate) fn say(line: impl Display) {
    let mut out = io::stdout().lock();
    _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// A line on standard error.
pub(crate) fn warn(line: impl Display) {
    _ = writeln!(io::stderr().lock(), "{line}");
}
