//! Stopping in an orderly way when a signal comes.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use nix::sys::signal::Signal;
use signal_hook::{flag, low_level};
use uml_core::sys::signals::is_ignored;

use crate::error::MooError;

/// Whether a signal has asked the tool to stop. The merge looks at it between windows.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    signal: Arc<AtomicUsize>,
}

impl Stop {
    /// Never stops: for callers that have no signals.
    #[must_use]
    pub fn never() -> Self {
        Self::default()
    }

    /// Stops at the first of `SIGINT`, `SIGTERM` and `SIGHUP`. A second one ends the process at
    /// once; what it leaves then, the next run cleans. Those that whoever started this process has
    /// ignored stay so: `nohup` is for merges that outlive their terminal.
    ///
    /// # Errors
    /// The system refused to install a handler.
    pub fn on_signals() -> io::Result<Self> {
        let stop = Self::default();
        let again = Arc::new(AtomicBool::new(false));
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
            if is_ignored(signal) {
                continue;
            }
            let signal = signal as i32;
            flag::register_conditional_default(signal, Arc::clone(&again))?;
            flag::register(signal, Arc::clone(&again))?;
            let value = usize::try_from(signal).unwrap_or_default();
            flag::register_usize(signal, Arc::clone(&stop.signal), value)?;
        }
        // A file that would become longer than the caller's limit is an error then, not a death.
        flag::register(libc::SIGXFSZ, Arc::new(AtomicBool::new(false)))?;
        Ok(stop)
    }

    /// Goes on unless a signal came.
    pub(crate) fn check(&self) -> Result<(), MooError> {
        if self.signal.load(Ordering::Relaxed) == 0 {
            Ok(())
        } else {
            Err(MooError::Stopped)
        }
    }

    /// Ends the process by the signal that came, so that its parent sees it. Returns if none did.
    pub(crate) fn end_as_told(&self) {
        if let Ok(signal @ 1..) = i32::try_from(self.signal.load(Ordering::Relaxed)) {
            // The exit code says that it failed if this can't be done.
            let _ = low_level::emulate_default_handler(signal);
        }
    }
}
