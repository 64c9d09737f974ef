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

/// How long a guest may be silent, unless the command line says otherwise.
const SILENCE: Duration = Duration::from_secs(5);

/// How long a guest may take to boot, unless the command line says otherwise.
const BOOT: Duration = Duration::from_secs(300);

/// Talk to the management console of a User-Mode Linux guest.
///
/// With a command, sends it and prints the guest's answer: `OK TEXT` with status 0, or `ERR TEXT`
/// with another status. Without one, asks for commands at a prompt; a standard input that is no
/// terminal is a script with a command on each line.
#[derive(Debug, Parser)]
#[expect(clippy::struct_excessive_bools, reason = "flags of a command line")]
#[command(
    name = "uml_mconsole",
    version,
    max_term_width = 100,
    override_usage = "uml_mconsole [OPTIONS] SOCKET_OR_UMID [COMMAND]...\n       \
                      uml_mconsole [OPTIONS] --all COMMAND...\n       \
                      uml_mconsole --list [--json]\n       \
                      uml_mconsole --notify SOCKET [--exec COMMAND] [--json]\n       \
                      uml_mconsole --wait-boot UMID [--notify SOCKET]"
)]
pub struct Cli {
    /// Give up after this many seconds without a word from the guest [default: 5]; with
    /// --wait-boot, after this many seconds in all [default: 300].
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    timeout: Option<Duration>,

    /// Look for guests below this directory alone, instead of ~/.uml and /tmp/uml.
    #[arg(long, value_name = "DIR")]
    uml_dir: Option<PathBuf>,

    /// End a script at the first command that fails.
    #[arg(long, conflicts_with_all = ["all", "list", "notify", "wait_boot"])]
    stop_on_error: bool,

    /// Send the command to every running guest at once; each line begins with the guest's umid.
    #[arg(long)]
    all: bool,

    /// List the guests: umid, process id, state, kernel version, uptime, devices.
    #[arg(long, conflicts_with_all = ["all", "notify", "wait_boot", "words"])]
    list: bool,

    /// Print what guests started with mconsole=notify:SOCKET tell: boots, panics, hangs, messages.
    #[arg(long, value_name = "SOCKET", conflicts_with_all = ["all", "words"])]
    notify: Option<PathBuf>,

    /// Run this shell command at every notification; `UML_UMID`, `UML_PID`, `UML_EVENT` (boot, panic,
    /// hang, message), `UML_TEXT` and `UML_TIME` are in its environment.
    #[arg(
        long,
        value_name = "COMMAND",
        requires = "notify",
        conflicts_with = "wait_boot"
    )]
    exec: Option<OsString>,

    /// Print JSON: an array with --list, an object on each line with --notify.
    #[arg(long, conflicts_with_all = ["all", "wait_boot", "words"])]
    json: bool,

    /// Wait until this guest's console answers, or --notify's socket hears that it has booted.
    #[arg(long, value_name = "UMID", conflicts_with_all = ["all", "words"])]
    wait_boot: Option<OsString>,

    /// The guest, by its umid or its socket's path, and the command with its words.
    ///
    /// A umid is looked for as ~/.uml/UMID/mconsole, then as /tmp/uml/UMID/mconsole, then as a
    /// path. The words of the command are joined by one space. What isn't a command of this
    /// program (quit, help, switch, log, mconsole-version, int, umlfs) goes to the guest, which
    /// lists its commands for help.
    #[arg(
        value_name = "SOCKET_OR_UMID [COMMAND]",
        required_unless_present_any = ["list", "notify", "wait_boot"],
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

/// Whether a script goes on after a command that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterError {
    /// It does; the first failure is its status in the end.
    GoOn,
    /// It ends there.
    Stop,
}

/// How a list or notifications are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
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
    },
    /// Commands from standard input, to begin with to this guest.
    Lines {
        /// The guest's umid or its socket's path.
        guest: OsString,
        /// Only for scripts.
        after_error: AfterError,
    },
    /// One command to all running guests.
    All {
        /// The command.
        line: Vec<u8>,
    },
    /// A list of the guests.
    List(Format),
    /// Notifications as they come.
    Notify {
        /// The socket to make.
        socket: PathBuf,
        /// A shell command to run at each.
        exec: Option<OsString>,
        /// How they are printed.
        format: Format,
    },
    /// Wait for a guest.
    WaitBoot {
        /// The guest's umid or its socket's path.
        guest: OsString,
        /// The socket on which its boot may be told.
        notify: Option<PathBuf>,
        /// How long to wait in all.
        limit: Duration,
    },
}

impl Cli {
    /// Sorts out what is asked for.
    ///
    /// # Errors
    /// The exit code to end with, after a message, when words are missing.
    pub fn into_task(self) -> Result<(Task, Options), ExitCode> {
        let options = Options {
            timeout: self.timeout.unwrap_or(SILENCE),
            uml_dir: self.uml_dir,
        };
        // A misspelt option must not be taken for a guest; `./-x` is the way to such a socket.
        if let Some(word) = self.words.first() {
            if word.as_bytes().starts_with(b"-") {
                let what = format!("unexpected argument '{}' found", word.to_string_lossy());
                return Err(wrong(&what, USAGE));
            }
        }
        let format = if self.json {
            Format::Json
        } else {
            Format::Text
        };
        let task = if let Some(guest) = self.wait_boot {
            Task::WaitBoot {
                guest,
                notify: self.notify,
                limit: self.timeout.unwrap_or(BOOT),
            }
        } else if let Some(socket) = self.notify {
            Task::Notify {
                socket,
                exec: self.exec,
                format,
            }
        } else if self.list {
            Task::List(format)
        } else if self.all {
            Task::All {
                line: joined(self.words.into_iter()).ok_or_else(|| wrong("", USAGE))?,
            }
        } else {
            let mut words = self.words.into_iter();
            let guest = words.next().ok_or_else(|| wrong("", USAGE))?;
            match joined(words) {
                Some(line) => Task::Once { guest, line },
                None => Task::Lines {
                    guest,
                    after_error: if self.stop_on_error {
                        AfterError::Stop
                    } else {
                        AfterError::GoOn
                    },
                },
            }
        };
        Ok((task, options))
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

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_declaration_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn seconds_are_positive() {
        assert_eq!(seconds("0.25"), Ok(Duration::from_millis(250)));
        for wrong in ["0", "-1", "NaN", "inf", "1e30", "x", ""] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }
}
