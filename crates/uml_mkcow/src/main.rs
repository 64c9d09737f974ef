//! Makes a copy-on-write disk over a backing file for User-Mode Linux.
#![forbid(unsafe_code)]

fn main() {}
