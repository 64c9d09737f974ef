//! Talks to the management console of a User-Mode Linux guest.
//!
//! A [`session::Session`] sends one request at a time and gathers the pieces of the reply. The
//! one-shot call, scripts and the prompt share it by way of [`command`].
#![forbid(unsafe_code)]

pub mod absolute;
pub mod cli;
pub mod command;
pub mod guests;
pub mod log;
pub mod session;
pub mod show;

use std::{error::Error, ffi::OsString, process::ExitCode};

use uml_core::{cli::parse, console};

use crate::{
    cli::{Cli, Task, USAGE},
    command::{Command, Context},
    guests::Places,
};

/// The name that errors are reported under.
pub(crate) const TOOL: &str = "uml_mconsole";

/// Runs the tool with this command line, the program's name first.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let task = match parse::<Cli>(args, USAGE).and_then(Cli::into_task) {
        Ok(task) => task,
        Err(status) => return status,
    };
    match carry_out(task) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            console::report(TOOL, &*error);
            ExitCode::FAILURE
        }
    }
}

fn carry_out(task: Task) -> Result<u8, Box<dyn Error>> {
    match task {
        Task::Once {
            guest,
            line,
            options,
        } => {
            let places = Places::new(options.uml_dir);
            let mut context = Context::new(places, guest, options.timeout);
            let outcome = Command::parse(&line).carry_out(&mut context);
            Ok(show::outcome(&outcome)?)
        }
    }
}
