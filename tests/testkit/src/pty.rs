//! Terminals of a test's own.

use std::{
    fs::File,
    os::{fd::OwnedFd, unix::fs::OpenOptionsExt as _},
    path::PathBuf,
    process::Command,
};

use nix::{
    fcntl::OFlag,
    pty::{grantpt, posix_openpt, ptsname_r, unlockpt},
};

use crate::{bins::installed, cmd::run};

/// Both ends of a terminal of 24 lines and 80 columns.
///
/// Neither is left open in what other tests start at the same time, as those of `openpty` are: a
/// program that is given no descriptor 3, say, must not find one of these there.
#[derive(Debug)]
pub struct Terminal {
    /// The keyboard and the screen.
    pub master: File,
    /// The end that programs have, under this name.
    pub slave: File,
    /// The slave's name.
    pub name: PathBuf,
}

/// Makes a terminal. Panics when the system has none to give.
#[must_use]
pub fn open() -> Terminal {
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let master = posix_openpt(flags).expect("a terminal");
    grantpt(&master).expect("a terminal of the test's own");
    unlockpt(&master).expect("a terminal to be opened");
    let name = PathBuf::from(ptsname_r(&master).expect("a terminal's name"));
    let slave = File::options()
        .read(true)
        .write(true)
        .custom_flags(OFlag::O_NOCTTY.bits())
        .open(&name)
        .expect("a terminal's other end");
    let mut stty = Command::new(installed("stty", "coreutils"));
    stty.arg("-F").arg(&name).args(["rows", "24", "cols", "80"]);
    let _ = run(&mut stty).success();
    Terminal {
        master: File::from(OwnedFd::from(master)),
        slave,
        name,
    }
}
