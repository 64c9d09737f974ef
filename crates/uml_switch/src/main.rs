//! A virtual Ethernet switch for User-Mode Linux guests.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    uml_switch::run(std::env::args_os().collect())
}
