//! The one place that writes to standard output and standard error.
//!
//! A closed pipe or a full disk behind them never panics: it is an error for output that was asked
//! for, and ignored for messages.

use std::{
    error::Error,
    fmt::Display,
    io::{self, Write as _},
};

use crate::error::chain;

/// Writes one line to standard output.
///
/// # Errors
/// What the system said, a closed pipe included.
pub fn line(text: impl Display) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()
}

/// Writes text as it is to standard output.
///
/// # Errors
/// What the system said, a closed pipe included.
pub fn raw(bytes: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)?;
    out.flush()
}

/// Writes one line to standard error. Nobody is left to tell when that fails.
pub fn note(text: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Writes `TOOL: ERROR: SOURCE: …` to standard error.
pub fn report(tool: &str, error: &(dyn Error + 'static)) {
    note(format_args!("{tool}: {}", chain(error)));
}
