//! Finds and runs the programs that are measured.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use nix::sys::resource::{UsageWho, getrusage};
use uml_core::error::IoError;

use crate::error::Error;

/// What a command took.
#[derive(Debug, Clone, Copy)]
pub struct Cost {
    /// From its start to its end.
    pub wall: Duration,
    /// CPU time in user mode, its children's included.
    pub user: Duration,
    /// CPU time in the kernel, its children's included.
    pub system: Duration,
}

impl std::ops::Add for Cost {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            wall: self.wall + other.wall,
            user: self.user + other.user,
            system: self.system + other.system,
        }
    }
}

/// Finds a program in the usual directories.
///
/// # Errors
/// [`Error::Missing`], which names Debian's package.
pub fn find(program: &'static str, package: &'static str) -> Result<PathBuf, Error> {
    ["/usr/bin", "/usr/sbin", "/bin", "/sbin", "/usr/local/bin"]
        .iter()
        .map(|dir| Path::new(dir).join(program))
        .find(|path| path.is_file())
        .ok_or(Error::Missing { program, package })
}

/// Finds a program in a given directory; none is no error.
#[must_use]
pub fn within(dir: &Path, program: &str) -> Option<PathBuf> {
    let path = dir.join(program);
    path.is_file().then_some(path)
}

/// A command without standard input and output, its messages kept.
#[must_use]
pub fn command(program: impl AsRef<Path>) -> Command {
    let mut command = Command::new(program.as_ref());
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command
}

/// Runs a command to its end and measures it. Nothing else may be waited for meanwhile.
///
/// # Errors
/// The command can't be started, or ends with an error.
pub fn time(command: &mut Command) -> Result<Cost, Error> {
    measure(UsageWho::RUSAGE_CHILDREN, || run(command))
}

/// Runs `work` in this thread and measures it.
///
/// # Errors
/// Those of `work`.
pub fn time_here(work: impl FnOnce() -> Result<(), Error>) -> Result<Cost, Error> {
    measure(UsageWho::RUSAGE_THREAD, work)
}

fn measure(who: UsageWho, work: impl FnOnce() -> Result<(), Error>) -> Result<Cost, Error> {
    let usage = || getrusage(who).map_err(Error::system("reading CPU times"));
    let before = usage()?;
    let start = Instant::now();
    work()?;
    let wall = start.elapsed();
    let after = usage()?;
    Ok(Cost {
        wall,
        user: duration(after.user_time()).saturating_sub(duration(before.user_time())),
        system: duration(after.system_time()).saturating_sub(duration(before.system_time())),
    })
}

/// Runs a command to its end.
///
/// # Errors
/// The command can't be started, or ends with an error.
pub fn run(command: &mut Command) -> Result<(), Error> {
    let output = command
        .output()
        .map_err(IoError::at("starting", command.get_program()))?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::Failed {
        command: line(command),
        status: output.status.to_string(),
        stderr: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}

/// The command line as a person would type it (without quotes).
#[must_use]
pub fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    words.join(" ")
}

fn duration(time: nix::sys::time::TimeVal) -> Duration {
    let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
    let micros = u64::try_from(time.tv_usec()).unwrap_or(0);
    Duration::from_secs(seconds) + Duration::from_micros(micros)
}
