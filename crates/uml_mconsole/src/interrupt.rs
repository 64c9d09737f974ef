//! ctrl-C as something to look at, instead of something that happens.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
};

use nix::sys::{
    signal::{SigSet, Signal},
    signalfd::{SfdFlags, SignalFd},
};

/// Whether the user has asked not to wait any longer.
///
/// SIGINT is blocked in the thread that makes it, so that no handler of anybody's sees it, and is
/// read from a descriptor.
#[derive(Debug)]
pub struct Interrupt {
    descriptor: SignalFd,
}

impl Interrupt {
    /// Blocks SIGINT in this thread from now on.
    ///
    /// # Errors
    /// What the system said.
    pub fn new() -> io::Result<Self> {
        let set = SigSet::from(Signal::SIGINT);
        set.thread_block()?;
        let descriptor =
            SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        Ok(Self { descriptor })
    }

    /// Whether SIGINT has come since the last call.
    #[must_use]
    pub fn take(&self) -> bool {
        matches!(self.descriptor.read_signal(), Ok(Some(_)))
    }
}

impl AsFd for Interrupt {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interrupt_is_taken_once() {
        let interrupt = Interrupt::new().unwrap();
        assert!(!interrupt.take());
        nix::sys::signal::raise(Signal::SIGINT).unwrap();
        assert!(interrupt.take());
        assert!(!interrupt.take());
    }
}
