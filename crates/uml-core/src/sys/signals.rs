#![expect(
    unsafe_code,
    reason = "what is done about a signal is asked and set by calls that may install a handler"
)]
//! What this process does about signals, as whoever started it left it: `nohup` has SIGHUP ignored,
//! a shell has SIGINT ignored for what it runs in the background.

use std::{io, mem, ptr};

use nix::sys::signal::{SigHandler, Signal, signal};

/// Whether this signal is ignored.
#[must_use]
pub fn is_ignored(of: Signal) -> bool {
    // SAFETY: a sigaction is plain numbers and pointers that may be null, for which zeros are
    // valid values.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    // SAFETY: nothing is set, since the new action is null; the kernel writes the present one to
    // `action`, which is borrowed mutably. On failure it stays as it was.
    let result = unsafe { libc::sigaction(of as i32, ptr::null(), &raw mut action) };
    result == 0 && action.sa_sigaction == libc::SIG_IGN
}

/// Has this signal do again what it does by itself.
///
/// # Errors
/// `EINVAL` for a signal whose effect can't be changed.
pub fn set_default(of: Signal) -> io::Result<()> {
    // SAFETY: the default action runs no code of this process.
    unsafe { signal(of, SigHandler::SigDfl) }?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ignored_is_told() {
        // Rust programs ignore SIGPIPE from the start.
        assert!(is_ignored(Signal::SIGPIPE));
        assert!(!is_ignored(Signal::SIGWINCH));
        set_default(Signal::SIGWINCH).unwrap();
        assert!(!is_ignored(Signal::SIGWINCH));
        assert!(set_default(Signal::SIGKILL).is_err());
    }
}
