//! Hands a terminal to a User-Mode Linux kernel.
#![forbid(unsafe_code)]

use std::{env, process::ExitCode};

fn main() -> ExitCode {
    port_helper::run(env::args_os())
}
