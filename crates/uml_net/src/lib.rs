//! Sets up the host side of a User-Mode Linux guest's network.
//!
//! The program has privilege and its callers are strangers: arguments, environment, descriptors,
//! limits and signals are of their choosing. The stages in `main` are the order in which each of
//! these loses its effect.
#![forbid(unsafe_code)]

pub mod answer;
pub mod args;
pub mod cli;
mod forwarding;
mod guest;
pub mod log;
pub mod policy;
pub mod privilege;
pub mod problem;
pub mod rules;
pub mod session;
mod slip;
pub mod start;
pub mod state;
pub mod syslog;
mod tap;
pub mod work;
