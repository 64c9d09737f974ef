//! Watches over a User-Mode Linux guest.
//!
//! The guest's kernel keeps the other ends of two pipes. Standard output: one byte when the watch
//! has begun, of any value. Standard input: a newline for each sign of life; the end when the
//! watch is called off.
#![forbid(unsafe_code)]

pub mod cli;

use std::{
    ffi::OsString,
    io::{self, stdin},
    os::{fd::AsFd as _, unix::net::UnixDatagram},
    path::{Path, PathBuf},
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::signal::{Signal, kill},
    unistd::{Pid, read},
};
use uml_core::{
    IoError,
    cli::{parse, respell, wrong},
    console,
    wire::mconsole::{Event, Notification},
};

use crate::cli::{Cli, USAGE, WORDS};

const TOOL: &str = "uml_watchdog";

/// How long a guest has to obey a signal.
const GRACE: Duration = Duration::from_secs(1);

/// How long whoever hears notifications may take to make room for one.
const ROOM: Duration = Duration::from_secs(5);

/// What happens to a guest that hangs.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Remedy {
    /// Its process is ended.
    Kill(Pid),
    /// This socket is told.
    Tell(PathBuf),
}

/// How a watch ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The guest has closed its end of the pipe.
    CalledOff,
    /// Nothing came for too long.
    Silence,
}

/// Runs the tool with this command line, the program's name first.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match parse::<Cli>(respell(args, &WORDS), USAGE) {
        Ok(cli) => cli,
        Err(status) => return status,
    };
    let remedy = match (cli.pid, cli.mconsole) {
        (Some(pid), _) => Remedy::Kill(Pid::from_raw(pid)),
        (None, Some(socket)) => Remedy::Tell(socket),
        (None, None) => return wrong("", USAGE),
    };
    match keep_watch(&remedy, cli.timeout) {
        Ok(End::CalledOff) => ExitCode::SUCCESS,
        // Something had to be done: never a success.
        Ok(End::Silence) => ExitCode::FAILURE,
        Err(error) => {
            console::report(TOOL, &error);
            ExitCode::FAILURE
        }
    }
}

fn keep_watch(remedy: &Remedy, timeout: Duration) -> Result<End, IoError> {
    if let Remedy::Kill(pid) = remedy {
        signal(*pid, None)?;
    }
    console::raw(b"\0").map_err(IoError::at("telling that it is ready to", "the guest"))?;
    let end = listen(timeout).map_err(IoError::at("listening to", "the guest"))?;
    if end == End::Silence {
        match remedy {
            Remedy::Kill(pid) => end_process(*pid)?,
            Remedy::Tell(socket) => tell(socket)?,
        }
    }
    Ok(end)
}

/// Takes signs of life until there are none.
fn listen(timeout: Duration) -> io::Result<End> {
    let pipe = stdin();
    let mut heard = Instant::now();
    loop {
        let left = timeout.saturating_sub(heard.elapsed());
        if left.is_zero() {
            return Ok(End::Silence);
        }
        let mut fds = [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)];
        // Rounded up, lest the last millisecond be waited for in a busy loop.
        let wait = PollTimeout::try_from(left + Duration::from_millis(1));
        match poll(&mut fds, wait.unwrap_or(PollTimeout::MAX)) {
            Ok(0) | Err(Errno::EINTR) => continue,
            Ok(_) => {}
            Err(errno) => return Err(errno.into()),
        }
        // Past the buffer that standard input has: what is in there, poll doesn't see.
        match read(&pipe, &mut [0; 512]) {
            Ok(0) => return Ok(End::CalledOff),
            Ok(_) => heard = Instant::now(),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Asks twice, then doesn't ask any more. A process that has obeyed gets no further signal.
fn end_process(pid: Pid) -> Result<(), IoError> {
    for what in [Signal::SIGINT, Signal::SIGINT] {
        signal(pid, Some(what))?;
        thread::sleep(GRACE);
        if kill(pid, None) == Err(Errno::ESRCH) {
            return Ok(());
        }
    }
    signal(pid, Some(Signal::SIGKILL))
}

fn signal(pid: Pid, what: Option<Signal>) -> Result<(), IoError> {
    let path = format!("process {pid}");
    kill(pid, what)
        .map_err(io::Error::from)
        .map_err(IoError::at("sending a signal to", path))
}

fn tell(socket: &Path) -> Result<(), IoError> {
    let hang = Notification {
        event: Event::Hang,
        text: b"",
    };
    UnixDatagram::unbound()
        .and_then(|own| send_within(ROOM, &own, &hang.encode(), socket))
        .map_err(IoError::at("telling that the guest hangs to", socket))
}

/// Sends a datagram as soon as there is room for it, within this time.
fn send_within(
    limit: Duration,
    own: &UnixDatagram,
    datagram: &[u8],
    socket: &Path,
) -> io::Result<()> {
    let begin = Instant::now();
    loop {
        let left = limit.saturating_sub(begin.elapsed());
        // No time at all would mean for ever.
        own.set_write_timeout(Some(left.max(Duration::from_millis(1))))?;
        match own.send_to(datagram, socket) {
            // It was stopped and goes on: the kernel doesn't take this wait up again by itself.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            sent => return sent.map(drop),
        }
    }
}
