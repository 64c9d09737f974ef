//! Where guests come in, and who may.

use std::os::unix::net::UnixListener;

use crate::{callers::Dialect, listen::OwnPath, peer::Allowed};

/// What the switch listens at.
#[derive(Debug)]
pub(crate) struct Door {
    /// The listening socket, of a kind that is accepted from.
    pub(crate) socket: UnixListener,
    /// How those speak who come in; without it they send frames from the start.
    pub(crate) dialect: Option<Dialect>,
    /// For the log.
    pub(crate) name: String,
    /// Removes it, where this process made it.
    pub(crate) _path: Option<OwnPath>,
}

/// Who may plug in, and how many.
#[derive(Debug, Default)]
pub(crate) struct Limits {
    /// Who.
    pub(crate) allowed: Allowed,
    /// How many guests.
    pub(crate) ports: Option<usize>,
}
