//! Makes a copy-on-write disk over a backing file for User-Mode Linux.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    uml_mkcow::run(std::env::args_os())
}
