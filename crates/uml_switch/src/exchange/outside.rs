//! What an exchange asks of the world outside.

use uml_core::frame::MacAddr;

use crate::fabric::{Learned, PortId};

/// How the last of some frames that were sent fared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// All went out.
    All,
    /// So many went out, then there was no room. [`super::Exchange::writable`] is to be called when there
    /// is some.
    Full(usize),
    /// So many went out; the next one was refused, the ones behind it may pass.
    Refused(usize),
    /// The port's other end is gone.
    Gone,
}

/// What sends frames out at a port.
pub trait Wire {
    /// Sends frames in order, none of which is empty, without waiting.
    fn send(&mut self, port: PortId, frames: &[&[u8]]) -> Sent;
}

/// What the switch tells about addresses while it forwards.
pub trait Watcher {
    /// An address was seen on a port for the first time, or moved.
    fn learned(&mut self, port: PortId, mac: MacAddr, news: Learned);

    /// A frame goes to all ports: its destination is a group, or isn't known.
    fn flooded(&mut self, port: PortId, frame: &[u8]);
}
