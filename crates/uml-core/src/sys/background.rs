#![expect(
    unsafe_code,
    reason = "fork, and descriptors that were inherited by number, have no safe wrapper"
)]
//! Going to the background, and descriptors that whoever started the process left for it.

use std::{
    io,
    os::fd::{BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
};

use nix::{
    fcntl::{FcntlArg, FdFlag, fcntl},
    unistd::{ForkResult, Pid},
};

/// Which of the two processes this is after [`fork`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The one that called.
    Parent {
        /// The new process.
        child: Pid,
    },
    /// The new one.
    Child,
}

/// Makes a second process. Refused while there is more than one thread: the others' locks would
/// stay locked in the child for ever.
///
/// # Errors
/// What the system said; [`io::ErrorKind::Unsupported`] with several threads.
pub fn fork() -> io::Result<Side> {
    if std::fs::read_dir("/proc/self/task").is_ok_and(|tasks| tasks.count() > 1) {
        return Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "fork with several threads",
        ));
    }
    // SAFETY: there is one thread, so no lock is held by another one and the child may go on with
    // anything.
    let result = unsafe { nix::unistd::fork() };
    Ok(match result? {
        ForkResult::Parent { child } => Side::Parent { child },
        ForkResult::Child => Side::Child,
    })
}

/// Takes over a descriptor that was inherited under this number, and makes it close on exec.
///
/// To be called once for a number, before anything else is opened that could get it.
///
/// # Errors
/// `EBADF` where there is none; [`io::ErrorKind::InvalidInput`] for the standard streams' numbers.
pub fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    if number < 3 {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "numbers below 3 are the standard streams'",
        ));
    }
    // SAFETY: the number isn't negative, and the borrow ends with this function; a number that no
    // descriptor stands behind makes the call below fail with EBADF.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    fcntl(borrowed, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    // SAFETY: the call above showed that it is open; nobody else in this process knows of it, as
    // the caller promises.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_without_a_descriptor_are_refused() {
        assert_eq!(
            inherited(1_000_000).unwrap_err().raw_os_error(),
            Some(libc::EBADF)
        );
        assert_eq!(
            inherited(1).unwrap_err().kind(),
            io::ErrorKind::InvalidInput
        );
    }
}
