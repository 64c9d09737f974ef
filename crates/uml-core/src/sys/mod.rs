//! The operations of the kernel that no safe wrapper exists for: the only `unsafe` code.
//!
//! One operation a block. Each SAFETY note says who keeps the descriptor open, which memory the
//! kernel reads or writes and why that pointer is valid and unique, and what happens on failure.

pub mod background;
pub mod batch;
pub mod controlling_tty;
#[cfg(feature = "cow")]
pub mod file_range;
#[cfg(feature = "hostnet")]
pub mod process;
pub mod signals;
#[cfg(feature = "hostnet")]
pub mod tty;
#[cfg(feature = "hostnet")]
pub(crate) mod tun;

/// The system's error where a call answered with less than 0.
fn check(answer: impl Into<i64>) -> std::io::Result<()> {
    if answer.into() < 0 {
        Err(std::io::Error::last_os_error())
    } else {
        Ok(())
    }
}
