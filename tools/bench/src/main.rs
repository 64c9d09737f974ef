//! Benchmarks against the reference tools and the peers.
#![forbid(unsafe_code)]
fn main() {}
