//! Benchmarks of the tools against the 2007 ones and the peers, all in one run.
//!
//! A benchmark measures its contenders in turn (A B C A B C …), prints the median of each figure,
//! and beside each target the ratio that was reached. It never fails because a target was missed:
//! a machine's speed is nothing to assert.
#![forbid(unsafe_code)]

pub mod cli;
pub mod contest;
pub mod document;
pub mod error;
pub mod machine;
pub mod moo;
pub mod plot;
pub mod programs;
pub mod record;
pub mod report;
pub mod switch;

use std::{ffi::OsString, process::ExitCode};

use clap::Parser as _;
use uml_core::console;

use crate::{
    cli::{Cli, Verb},
    error::Error,
    report::Report,
};

/// Runs the command line `args`, `args[0]` being the program's name.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            let failed = error.use_stderr();
            // Nobody is left to tell when that can't be printed.
            let _ = error.print();
            return if failed {
                ExitCode::from(2)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            console::report("bench", &error);
            ExitCode::FAILURE
        }
    }
}

/// Runs what the command line asks for, and writes the figures where `--json` says.
///
/// # Errors
/// A missing program, or a step of the preparation that failed.
pub fn run(cli: &Cli) -> Result<(), Error> {
    let mut report = Report::default();
    match &cli.verb {
        Verb::Moo(moo) => moo::run(&cli.options, moo, &mut report)?,
        Verb::Switch(switch) => switch::run(&cli.options, switch, &mut report)?,
        Verb::All(all) => {
            moo::run(&cli.options, &all.moo, &mut report)?;
            switch::run(&cli.options, &all.switch, &mut report)?;
        }
        Verb::Document(paths) => return document::write(&paths.figures, &paths.out),
    }
    report.summary()?;
    match &cli.options.json {
        Some(path) if !cli.options.list => {
            report.record.machine = machine::describe();
            report.record.add_to(path)
        }
        _ => Ok(()),
    }
}
