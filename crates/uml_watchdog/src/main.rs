//! Watches over a User-Mode Linux guest.
#![forbid(unsafe_code)]

fn main() {}
