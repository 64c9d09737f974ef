//! The terminal's settings, given back even when a signal ends the prompt.

use std::{
    io::{self, stdin},
    thread,
};

use nix::{
    sys::{
        signal::{SigSet, Signal},
        termios::{SetArg, Termios, tcgetattr, tcsetattr},
    },
    unistd::{getpgrp, tcgetpgrp},
};
use signal_hook::low_level::emulate_default_handler;
use uml_core::sys::signals::is_ignored;

/// The signals that end the prompt.
const ENDS: [Signal; 3] = [Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGTERM];

/// From now on a signal that ends this process gives standard input, a terminal, the settings back
/// that it has now.
///
/// The signals are blocked in the calling thread and in those that it starts: call it before there
/// are others. Those that whoever started this process has ignored stay so.
///
/// # Errors
/// What the system said.
pub fn restore_at_end() -> io::Result<()> {
    let settings = tcgetattr(stdin())?;
    let signals: SigSet = ENDS.into_iter().filter(|end| !is_ignored(*end)).collect();
    signals.thread_block()?;
    thread::Builder::new().spawn(move || {
        if let Ok(signal) = signals.wait() {
            restore(&settings);
            // Ends the process as the signal does by itself.
            let _ = emulate_default_handler(signal as i32);
        }
    })?;
    Ok(())
}

/// In the background the terminal is another's by now, who has given it settings of his own.
fn restore(settings: &Termios) {
    let is_elsewhere = tcgetpgrp(stdin()).is_ok_and(|group| group != getpgrp());
    if !is_elsewhere {
        // Nobody is left to tell when that fails.
        let _ = tcsetattr(stdin(), SetArg::TCSANOW, settings);
    }
}
