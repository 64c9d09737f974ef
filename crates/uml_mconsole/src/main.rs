//! Talks to the management console of a User-Mode Linux guest.
#![forbid(unsafe_code)]

use std::{env, process::ExitCode};

fn main() -> ExitCode {
    uml_mconsole::run(env::args_os())
}
