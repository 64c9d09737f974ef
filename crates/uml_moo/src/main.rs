//! Merges a User-Mode Linux copy-on-write disk with its backing file.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    uml_moo::run(std::env::args_os())
}
