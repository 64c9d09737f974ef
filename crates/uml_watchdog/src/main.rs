//! Watches over a User-Mode Linux guest.
#![forbid(unsafe_code)]

use std::{env, process::ExitCode};

fn main() -> ExitCode {
    uml_watchdog::run(env::args_os())
}
