//! How many datagrams the kernel queues towards a socket that isn't connected back.
//!
//! It is a setting of the network namespace, 10 by default, and each socket keeps the one that it
//! was made under. systemd raises it to 512 when it starts, in the host's own namespace.

use std::{fs, thread};

use nix::sched::{CloneFlags, unshare};
use uml_core::error::IoError;

use crate::error::Error;

const SETTING: &str = "/proc/sys/net/unix/max_dgram_qlen";

/// Runs `measure` in a network namespace with queues of that many frames.
///
/// # Errors
/// Root is needed for the namespace.
pub(super) fn with<T: Send>(frames: u32, measure: impl FnOnce() -> T + Send) -> Result<T, Error> {
    let run = || {
        unshare(CloneFlags::CLONE_NEWNET)
            .map_err(Error::system("making a network namespace (as root)"))?;
        fs::write(SETTING, frames.to_string()).map_err(IoError::at("writing", SETTING))?;
        Ok(measure())
    };
    thread::scope(|scope| scope.spawn(run).join())
        .map_err(|_| Error::Unsupported("the measurement failed".into()))?
}
