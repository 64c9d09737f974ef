#![expect(unsafe_code, reason = "giving up a terminal has no safe wrapper")]
//! The controlling terminal.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
};

use super::check;

/// `TIOCNOTTY`: gives up this terminal as the process's controlling one.
///
/// When the process leads its session, the kernel sends SIGHUP to the terminal's foreground
/// processes, this one included as a rule.
///
/// # Errors
/// `ENOTTY` where it isn't the controlling terminal.
pub fn give_up(tty: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: `tty` is borrowed, so it stays open. No memory is passed; on failure nothing has
    // changed.
    let result = unsafe { libc::ioctl(tty.as_raw_fd(), libc::TIOCNOTTY) };
    check(result)
}

#[cfg(test)]
mod tests {
    use std::{fs::File, os::fd::AsFd as _};

    use super::*;

    #[test]
    fn what_is_no_terminal_can_not_be_given_up() {
        let file = File::open("/dev/null").unwrap();
        let error = give_up(file.as_fd()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOTTY));
    }
}
