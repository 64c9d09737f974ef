//! Setting up a host's network as a file describes it.

mod change;
mod file;
mod guests;
mod model;
mod plan;
mod reader;
mod run;
mod segments;
mod state;

use std::path::Path;

pub(crate) use run::{apply, check, remove};

/// What the text of a network file means, written out: texts that mean the same set-up give the
/// same. It is what [`--check`](crate::cli::Cli) reads, without a file.
///
/// # Errors
/// `FILE:LINE: WHAT` for each thing that is wrong, in the order of the lines.
pub fn meaning(file: &Path, text: &str) -> Result<String, Vec<String>> {
    file::read(file, text).map(|network| format!("{network:#?}"))
}
