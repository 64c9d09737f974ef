//! A virtual Ethernet switch for User-Mode Linux guests.
#![forbid(unsafe_code)]

pub mod exchange;
pub mod fabric;
