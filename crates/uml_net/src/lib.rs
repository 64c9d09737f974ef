//! Sets up the host side of a User-Mode Linux guest's network.
#![forbid(unsafe_code)]

pub mod args;
pub mod privilege;
pub mod start;
