//! Talks to the management console of a User-Mode Linux guest.
#![forbid(unsafe_code)]

fn main() {}
