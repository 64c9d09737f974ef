//! Benchmarks against the reference tools and the peers.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    bench::main(std::env::args_os())
}
