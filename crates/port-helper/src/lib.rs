//! Hands a terminal to a User-Mode Linux kernel.
//!
//! The kernel takes one message: its 4 bytes are the process id of the sender (i32, the host's
//! byte order), and the terminal's descriptor goes with it (`SCM_RIGHTS`). When the console is
//! closed, the kernel kills that process, and the terminal emulator around it ends.
#![forbid(unsafe_code)]

pub mod cli;

use std::{
    ffi::OsString,
    io::{self, IoSlice, stdin},
    os::{
        fd::{AsFd as _, AsRawFd as _, RawFd},
        unix::net::UnixDatagram,
    },
    path::Path,
    process::{ExitCode, id},
};

use nix::{
    errno::Errno,
    sys::{
        signal::{SigSet, Signal},
        socket::{ControlMessage, MsgFlags, sendmsg},
    },
    unistd::pause,
};
use uml_core::{
    IoError,
    cli::{parse, respell},
    console,
    error::system_text,
    sys::controlling_tty,
};

use crate::cli::{Cli, USAGE, WORDS};

const TOOL: &str = "port-helper";

/// Where telnetd's caller leaves the socket.
const INHERITED: RawFd = 3;

/// Runs the tool with this command line, the program's name first. Returns only when that fails.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match parse::<Cli>(respell(args, &WORDS), USAGE) {
        Ok(cli) => cli,
        Err(status) => return status,
    };
    let handed_over = match &cli.uml_socket {
        Some(path) => to_named(path),
        None => hand_over(INHERITED, Path::new("descriptor 3")),
    };
    if let Err(error) = handed_over {
        console::report(TOOL, &error);
        return ExitCode::FAILURE;
    }
    loop {
        // A signal that doesn't kill ends only one turn.
        pause();
    }
}

fn to_named(path: &Path) -> Result<(), IoError> {
    let socket = UnixDatagram::unbound().map_err(IoError::at("making a socket for", path))?;
    socket.connect(path).map_err(IoError::at("connect", path))?;
    hand_over(socket.as_raw_fd(), path)
}

fn hand_over(socket: RawFd, peer: &Path) -> Result<(), IoError> {
    // The terminal's hang-up is the kernel's business from now on. Blocked, it does nothing to a
    // process that runs no other program.
    SigSet::from(Signal::SIGHUP)
        .thread_block()
        .map_err(io::Error::from)
        .map_err(IoError::at("ignoring SIGHUP for", peer))?;
    let terminal = stdin();
    if let Err(error) = controlling_tty::give_up(terminal.as_fd()) {
        console::note(format_args!(
            "TIOCNOTTY failed in port-helper, check UML's exec call for xterm or telnetd: {}",
            system_text(&error)
        ));
    }
    let pid = id().to_ne_bytes();
    let descriptors = [terminal.as_raw_fd()];
    loop {
        let sent = sendmsg::<()>(
            socket,
            &[IoSlice::new(&pid)],
            &[ControlMessage::ScmRights(&descriptors)],
            MsgFlags::MSG_NOSIGNAL,
            None,
        );
        match sent {
            Ok(_) => return Ok(()),
            Err(Errno::EINTR) => {}
            Err(errno) => {
                return Err(IoError::at("sending the terminal to", peer)(errno.into()));
            }
        }
    }
}
