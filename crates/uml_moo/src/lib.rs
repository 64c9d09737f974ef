//! Merges a User-Mode Linux copy-on-write disk with its backing file.
//!
//! A merge reads both in windows of 256 KiB, composes the image in memory and writes it, one thread
//! reading while another writes. Holes are skipped on the way in and made on the way out, so that
//! time and memory follow the data and not the image's size. Where the file system can share
//! blocks, the backing file is cloned and only what changed is laid over it.
#![forbid(unsafe_code)]

pub mod cli;
mod compose;
mod device;
mod error;
mod head_start;
mod image;
mod in_place;
mod journal;
mod merge;
mod overlay;
mod pipeline;
mod progress;
mod source;
mod stop;
mod stream;
mod verify;

use std::{ffi::OsString, process::ExitCode};

use uml_core::{
    cli::{parse, wrong},
    console,
    cow::BackingMismatch,
};

use crate::cli::{Cli, USAGE};
pub use crate::{
    error::MooError,
    merge::{Durability, Mtime, Outcome, Request, Talk, Target, Verify, merge},
    stop::Stop,
};

/// Runs the tool with its command line, `args[0]` being its name; returns its exit code. A signal
/// that stopped it ends the process as that signal does, after the cleaning up.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli: Cli = match parse(args, USAGE) {
        Ok(cli) => cli,
        Err(status) => return status,
    };
    let Some(request) = cli.request() else {
        return wrong("", USAGE);
    };
    // A stream that nobody reads could be waited for for ever, and there is nothing to clean up:
    // there a signal does what it always does.
    let stop = if request.streams() {
        Ok(Stop::never())
    } else {
        Stop::on_signals()
    };
    let stop = match stop {
        Ok(stop) => stop,
        Err(error) => {
            console::report("uml_moo: catching signals", &error);
            return ExitCode::FAILURE;
        }
    };
    match merge(&request, &stop) {
        Ok(outcome) => {
            outcome.tell(&request);
            ExitCode::SUCCESS
        }
        Err(error) => {
            tell(&error);
            stop.end_as_told();
            ExitCode::FAILURE
        }
    }
}

fn tell(error: &MooError) {
    match error {
        // Scripts know these two lines as the old tool printed them, without the tool's name.
        MooError::Mismatch(mismatch) => {
            console::note(mismatch);
            if let BackingMismatch::Mtime {
                header,
                found,
                path,
            } = mismatch
            {
                source::ways_out(*header, *found, path);
            }
        }
        error => console::report("uml_moo", error),
    }
}
