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

pub(crate) use run::{apply, check, remove};
