//! Talks to the management console of a User-Mode Linux guest.
//!
//! A [`session::Session`] sends one request at a time and gathers the pieces of the reply. The
//! one-shot call, [`script`]s, the [`prompt`] and [`many`] guests share it by way of [`command`].
#![forbid(unsafe_code)]

pub mod absolute;
pub mod boot;
pub mod cli;
pub mod command;
pub mod completion;
pub mod guests;
pub mod interrupt;
pub mod list;
pub mod listen;
pub mod log;
pub mod many;
pub mod notify;
pub mod process;
pub mod prompt;
pub mod script;
pub mod session;
pub mod show;
pub mod terminal;

use std::{
    error::Error,
    ffi::OsString,
    io::{self, IsTerminal as _},
    process::ExitCode,
};

use uml_core::{cli::parse, console};

use crate::{
    cli::{Cli, Options, Task, USAGE},
    command::{Command, Context},
    guests::Places,
};

/// The name that errors are reported under.
pub(crate) const TOOL: &str = "uml_mconsole";

/// Runs the tool with this command line, the program's name first.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let (task, options) = match parse::<Cli>(args, USAGE).and_then(Cli::into_task) {
        Ok(asked) => asked,
        Err(status) => return status,
    };
    match carry_out(task, options) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            console::report(TOOL, &*error);
            ExitCode::FAILURE
        }
    }
}

fn carry_out(task: Task, options: Options) -> Result<u8, Box<dyn Error>> {
    let places = Places::new(options.uml_dir);
    let timeout = options.timeout;
    match task {
        Task::Once { guest, line } => {
            let mut context = Context::new(places, guest, timeout);
            let outcome = Command::parse(&line).carry_out(&mut context);
            Ok(show::outcome(&outcome)?)
        }
        Task::Lines { guest, after_error } => {
            let context = Context::new(places, guest, timeout);
            if io::stdin().is_terminal() {
                prompt::run(context)
            } else {
                Ok(script::run(io::stdin().lock(), context, after_error)?)
            }
        }
        Task::All { line } => Ok(many::run(&places, &line, timeout)?),
        Task::List(format) => Ok(list::run(&places, timeout, format)?),
        Task::Notify {
            socket,
            exec,
            format,
        } => notify::run(&socket, exec.as_deref(), format, places),
        Task::WaitBoot {
            guest,
            notify,
            limit,
        } => Ok(boot::run(&places, &guest, notify.as_deref(), limit)?),
    }
}
