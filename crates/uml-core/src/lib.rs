//! What the User-Mode Linux utilities share.
//!
//! Formats, protocols and addresses are pure: they know no file descriptor and no clock. What
//! talks to the kernel is thin, and the only `unsafe` code of the workspace is in [`sys`].

pub mod cli;
pub mod console;
pub mod error;
pub mod frame;
pub mod sys;
pub mod wire;

#[cfg(feature = "cow")]
pub mod cow;
#[cfg(feature = "hostnet")]
pub mod hostnet;
#[cfg(feature = "hostnet")]
pub mod lock;
#[cfg(feature = "cow")]
pub mod sparse;
#[cfg(feature = "cow")]
pub mod staged;
#[cfg(feature = "hostnet")]
pub mod tuntap;

pub use error::IoError;
