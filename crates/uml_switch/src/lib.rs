//! A virtual Ethernet switch for User-Mode Linux guests.
#![forbid(unsafe_code)]

pub mod callers;
pub mod cli;
pub mod exchange;
pub mod fabric;
mod inherit;
mod link;
mod listen;
mod log;
mod memory;
mod peer;
mod server;
mod setup;
mod token;

use std::{
    ffi::OsString,
    fs::File,
    io::{self, IsTerminal as _, Read as _, Write as _},
    process::ExitCode,
};

use nix::{
    sys::signal::{SigSet, raise},
    unistd::{pipe2, setsid},
};
use uml_core::{
    IoError, cli as core_cli, console,
    error::chain,
    sys::{
        background::{Side, fork},
        signals::set_default,
    },
};

use cli::Cli;
use inherit::Inherited;
use log::{Level, Log};
use server::{Ending, Server};
use setup::SetupError;

/// Runs the switch; `args` is the whole command line.
#[must_use]
pub fn run(args: Vec<OsString>) -> ExitCode {
    let name = args.first().map_or_else(
        || "uml_switch".to_owned(),
        |name| name.to_string_lossy().into_owned(),
    );
    let usage = core_cli::Usage {
        // Once in the life of the process.
        text: String::leak(cli::usage_text(&name)),
        status: 1,
    };
    let args = cli::spell(args);
    let cli: Cli = match core_cli::parse(args.iter().cloned(), usage) {
        Ok(cli) => cli,
        Err(status) => return status,
    };
    match start(&cli, &name, &args) {
        Ok(status) => status,
        Err(error) => {
            console::note(chain(&error));
            ExitCode::FAILURE
        }
    }
}

fn start(cli: &Cli, name: &str, args: &[OsString]) -> Result<ExitCode, SetupError> {
    let inherited = Inherited::take(cli)?;
    if !cli.daemon {
        return run_here(cli, name, args, inherited, None);
    }
    let going = || IoError::at("going to", "the background");
    let (mut theirs, ours) = pipe2(nix::fcntl::OFlag::O_CLOEXEC)
        .map(|(theirs, ours)| (File::from(theirs), File::from(ours)))
        .map_err(|error| going()(error.into()))?;
    match fork().map_err(going())? {
        Side::Parent { .. } => {
            drop(ours);
            // Nothing comes where the child has failed, and has said why.
            let ready = theirs.read_exact(&mut [0]).is_ok();
            Ok(if ready {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            })
        }
        Side::Child => {
            drop(theirs);
            setsid().map_err(|error| going()(error.into()))?;
            run_here(cli, name, args, inherited, Some(ours))
        }
    }
}

/// Sets the switch up, tells whoever waits, and switches.
fn run_here(
    cli: &Cli,
    name: &str,
    args: &[OsString],
    inherited: Inherited,
    parent: Option<File>,
) -> Result<ExitCode, SetupError> {
    let level = match (cli.quiet, cli.verbose) {
        (true, _) => Level::Quiet,
        (_, 0) => Level::Normal,
        (_, 1) => Level::Verbose,
        _ => Level::Frames,
    };
    let mut log = if cli.syslog {
        Log::to_syslog(level).map_err(IoError::at("opening", "/dev/log"))?
    } else {
        Log::to_console(level)
    };
    // In the order of the words, as ever.
    for arg in args {
        if cli.hub && arg == "--hub" {
            log.say(format_args!("{name} will be a hub instead of a switch"));
        } else if cli.compat_v0 && arg == "--compat-v0" {
            log.say("Control protocol 0 compatibility");
        }
    }
    let mut server = setup::make(cli, name, log, inherited)?;
    let pidfile = cli
        .pidfile
        .as_deref()
        .map(setup::write_pidfile)
        .transpose()?;
    if let Some(user) = &cli.user {
        setup::become_user(user)?;
    }
    if parent.is_none() && io::stdin().is_terminal() {
        let watching = IoError::at("watching", "standard input");
        server.watch_input().map_err(watching)?;
    }
    if let Err(error) = setup::tell_ready() {
        server.log().problem(chain(&error));
    }
    if let Some(mut parent) = parent {
        setup::let_go()?;
        // Who started it may be gone.
        let _ = parent.write_all(&[0]);
    }
    let ending = serve(server)?;
    drop(pidfile);
    Ok(end(ending))
}

fn serve(mut server: Server) -> Result<Ending, SetupError> {
    let waiting = IoError::at("waiting for", "events");
    Ok(server.run().map_err(waiting)?)
}

/// Ends as whoever sent a signal expects it: by that signal.
fn end(ending: Ending) -> ExitCode {
    if let Ending::Signal(signal) = ending {
        let mut mask = SigSet::empty();
        mask.add(signal);
        // It ends the process as soon as it isn't blocked any more.
        if set_default(signal).is_ok() && raise(signal).is_ok() && mask.thread_unblock().is_ok() {
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
