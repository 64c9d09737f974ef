//! The tool as its users run it, and its library on generated disks.
#![expect(clippy::unwrap_used, reason = "a test")]

mod command_line;
mod damaged;
mod faults;
mod fixtures;
mod in_place;
mod new_image;
mod oracle;
mod support;
mod targets;
