//! The command line.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt as _,
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use clap::Parser;
use uml_core::cli::{Usage, wrong};

/// What a wrong command line gets.
pub const USAGE: Usage = Usage {
    text: "Usage : uml_mconsole socket-name [command]",
    status: 1,
};

/// Talk to the management console of a User-Mode Linux guest.
///
/// With a command, sends it and prints the guest's answer: `OK TEXT` with status 0, or `ERR TEXT`
/// with another status.
#[derive(Debug, Parser)]
#[command(name = "uml_mconsole", version, max_term_width = 100)]
pub struct Cli {
    /// Give up after this many seconds without a word from the guest.
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    timeout: Duration,

    /// Look for guests below this directory alone, instead of ~/.uml and /tmp/uml.
    #[arg(long, value_name = "DIR")]
    uml_dir: Option<PathBuf>,

    /// The guest, by its umid or its socket's path, and the command with its words.
    ///
    /// A umid is looked for as ~/.uml/UMID/mconsole, then as /tmp/uml/UMID/mconsole, then as a
    /// path. The words of the command are joined by one space. What isn't a command of this
    /// program (quit, help, switch, log, mconsole-version, int, umlfs) goes to the guest, which
    /// lists its commands for help.
    #[arg(
        value_name = "SOCKET_OR_UMID [COMMAND",
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    words: Vec<OsString>,
}

/// What all tasks share.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long a guest may be silent.
    pub timeout: Duration,
    /// Where guests are looked for, instead of the usual places.
    pub uml_dir: Option<PathBuf>,
}

/// What a command line asks for.
#[derive(Debug)]
pub enum Task {
    /// One command to one guest.
    Once {
        /// The guest's umid or its socket's path.
        guest: OsString,
        /// The command.
        line: Vec<u8>,
        /// What all tasks share.
        options: Options,
    },
}

impl Cli {
    /// Sorts out what is asked for.
    ///
    /// # Errors
    /// The exit code to end with, after a message, when the words don't go together.
    pub fn into_task(self) -> Result<Task, ExitCode> {
        let options = Options {
            timeout: self.timeout,
            uml_dir: self.uml_dir,
        };
        let mut words = self.words.into_iter();
        match (words.next(), joined(words)) {
            (Some(guest), Some(line)) => Ok(Task::Once {
                guest,
                line,
                options,
            }),
            _ => Err(wrong("", USAGE)),
        }
    }
}

/// The words of a command joined by one space; `None` when there are none.
fn joined(words: impl Iterator<Item = OsString>) -> Option<Vec<u8>> {
    let words: Vec<OsString> = words.collect();
    let line = words.join(OsStr::new(" "));
    (!words.is_empty()).then(|| line.as_bytes().to_vec())
}

fn seconds(text: &str) -> Result<Duration, String> {
    let number: f64 = text
        .parse()
        .map_err(|_| "not a number of seconds".to_owned())?;
    match Duration::try_from_secs_f64(number) {
        Ok(duration) if duration > Duration::ZERO => Ok(duration),
        _ => Err("not a number of seconds above 0".to_owned()),
    }
}
