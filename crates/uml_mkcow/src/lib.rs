//! Makes a copy-on-write disk over a backing file for User-Mode Linux.
#![forbid(unsafe_code)]

pub mod cli;
pub mod make;

use std::{ffi::OsString, process::ExitCode};

use uml_core::{cli::parse, console, error::chain};

use crate::{
    cli::{Cli, USAGE},
    make::MakeError,
};

/// Runs the tool with its command line, `args[0]` being its name; returns its exit code.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli: Cli = match parse(args, USAGE) {
        Ok(cli) => cli,
        Err(status) => return status,
    };
    match make::make(&cli.cow, &cli.backing, cli.existing()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            match &error {
                // Scripts know this line as the old tool printed it, without the tool's name.
                MakeError::OpenCow(_) => console::note(chain(&error)),
                _ => console::report("uml_mkcow", &error),
            }
            ExitCode::FAILURE
        }
    }
}
