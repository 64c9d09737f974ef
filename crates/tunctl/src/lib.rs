//! Makes, lists and deletes tun and tap devices, and sets up a host's network from a file.
//!
//! Without a new option this is the `tunctl` of 2007: same options, same lines, same exit codes.
#![forbid(unsafe_code)]

pub mod cli;
mod device;
mod holders;
mod ids;
mod list;
pub mod network;

use std::{ffi::OsString, process::ExitCode};

use cli::Request;
use uml_core::console;

/// Runs the tool with a command line, `args[0]` being its name.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let request = match cli::parse(args) {
        Ok(request) => request,
        Err(status) => return status,
    };
    let outcome = match request {
        Request::Create(create) => device::create(&create),
        Request::Delete(delete) => device::delete(&delete),
        Request::List(format) => list::print(format),
        Request::Check(file) => network::check(&file),
        Request::Apply(file, doing) => network::apply(&file, doing),
        Request::Remove(file, doing) => network::remove(&file, doing),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            for line in failure.lines() {
                console::note(line);
            }
            ExitCode::FAILURE
        }
    }
}

/// Why nothing, or not all, was done: lines for standard error.
#[derive(Debug)]
struct Failure(Vec<String>);

impl Failure {
    /// An error in the tool's own words.
    fn new(error: &(dyn std::error::Error + 'static)) -> Self {
        Self::say(&uml_core::error::chain(error))
    }

    /// One line with the tool's name before it.
    fn say(line: &str) -> Self {
        Self(vec![format!("tunctl: {line}")])
    }

    /// Lines with the tool's name before each.
    fn all(lines: Vec<String>) -> Self {
        let named = lines.into_iter().map(|line| format!("tunctl: {line}"));
        Self(named.collect())
    }

    fn lines(&self) -> &[String] {
        &self.0
    }
}

impl From<uml_core::hostnet::HostError> for Failure {
    fn from(error: uml_core::hostnet::HostError) -> Self {
        Self::new(&error)
    }
}

impl From<std::io::Error> for Failure {
    /// Standard output can't be written to.
    fn from(error: std::io::Error) -> Self {
        Self::say(&format!(
            "writing to standard output: {}",
            uml_core::error::system_text(&error)
        ))
    }
}
