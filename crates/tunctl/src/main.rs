//! Makes, lists and deletes tun and tap devices, and sets up a host's network from a file.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    tunctl::run(std::env::args_os())
}
