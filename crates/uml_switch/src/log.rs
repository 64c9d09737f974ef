//! The log: a line at a time, to standard output or syslog, never waiting for a slow reader.

use std::{
    fmt::Display,
    io,
    os::{fd::AsFd, unix::net::UnixDatagram},
    process,
    time::Duration,
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use uml_core::console;

/// How many lines about addresses are written a second at most: guests choose those.
const ADDRESS_LINES: u32 = 100;

/// Where syslog listens.
const SYSLOG: &str = "/dev/log";

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// Problems only.
    Quiet,
    /// What the switch always said.
    Normal,
    /// Who plugs in, and what became of the frames.
    Verbose,
    /// Frames too.
    Frames,
}

#[derive(Debug)]
enum Sink {
    Console,
    Syslog(UnixDatagram),
}

/// The log.
#[derive(Debug)]
pub(crate) struct Log {
    level: Level,
    sink: Sink,
    /// Lines that nobody had room for.
    lost: u64,
    second: u64,
    lines: u32,
}

impl Log {
    /// A log to standard output; problems go to standard error.
    #[must_use]
    pub(crate) const fn to_console(level: Level) -> Self {
        Self {
            level,
            sink: Sink::Console,
            lost: 0,
            second: 0,
            lines: 0,
        }
    }

    /// A log to syslog.
    ///
    /// # Errors
    /// Where nobody listens at `/dev/log`.
    pub(crate) fn to_syslog(level: Level) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(SYSLOG)?;
        socket.set_nonblocking(true)?;
        Ok(Self {
            sink: Sink::Syslog(socket),
            ..Self::to_console(level)
        })
    }

    /// Whether lines of this level are written.
    #[must_use]
    pub(crate) fn shows(&self, level: Level) -> bool {
        level <= self.level
    }

    /// A line that the switch always wrote.
    pub(crate) fn say(&mut self, text: impl Display) {
        self.write(Level::Normal, &text);
    }

    /// A line for `-v`.
    pub(crate) fn detail(&mut self, text: impl Display) {
        self.write(Level::Verbose, &text);
    }

    /// A line for `-vv`, about a frame.
    pub(crate) fn frame(&mut self, now: Duration, text: impl Display) {
        if self.shows(Level::Frames) {
            self.limited(Level::Frames, now, text);
        }
    }

    /// A line about an address, of which there may be many.
    pub(crate) fn address(&mut self, now: Duration, text: impl Display) {
        self.limited(Level::Normal, now, text);
    }

    /// A problem: to standard error, or to syslog as a warning.
    pub(crate) fn problem(&mut self, text: impl Display) {
        match &self.sink {
            Sink::Console => {
                if has_room(io::stderr()) {
                    console::note(text);
                }
            }
            Sink::Syslog(socket) => send(socket, 28, &text),
        }
    }

    fn limited(&mut self, level: Level, now: Duration, text: impl Display) {
        if now.as_secs() != self.second {
            self.second = now.as_secs();
            let more = std::mem::take(&mut self.lines).saturating_sub(ADDRESS_LINES);
            if more > 0 {
                self.write(level, &format_args!("{more} more lines about addresses"));
            }
        }
        self.lines = self.lines.saturating_add(1);
        if self.lines <= ADDRESS_LINES {
            self.write(level, &text);
        }
    }

    fn write(&mut self, level: Level, text: &dyn Display) {
        if !self.shows(level) {
            return;
        }
        match &self.sink {
            Sink::Console => {
                if !has_room(io::stdout()) {
                    self.lost += 1;
                    return;
                }
                if self.lost > 0 {
                    let lost = std::mem::take(&mut self.lost);
                    // Whoever should read it may be gone, as with the line itself.
                    let _ = console::line(format_args!("{lost} lines of the log were lost"));
                }
                let _ = console::line(text);
            }
            Sink::Syslog(socket) => send(socket, 30, text),
        }
    }
}

/// Whether a line may be written without waiting.
fn has_room(stream: impl AsFd) -> bool {
    let mut fds = [PollFd::new(stream.as_fd(), PollFlags::POLLOUT)];
    !matches!(poll(&mut fds, PollTimeout::ZERO), Ok(0))
}

/// Facility daemon (3): 28 is a warning, 30 for information.
fn send(socket: &UnixDatagram, priority: u8, text: &dyn Display) {
    let line = format!("<{priority}>uml_switch[{}]: {text}", process::id());
    // A log that is full or gone is no reason to stop switching.
    match socket.send(line.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
            // Its daemon may have been started again, and have a new socket.
            let _ = socket
                .connect(SYSLOG)
                .and_then(|()| socket.send(line.as_bytes()));
        }
        _ => {}
    }
}
