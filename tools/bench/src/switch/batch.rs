//! Many frames a system call.

use std::{
    io::{IoSlice, IoSliceMut},
    os::fd::AsRawFd as _,
};

use nix::{
    errno::Errno,
    sys::socket::{ControlMessage, MsgFlags, MultiHeaders, UnixAddr, recvmmsg, sendmmsg},
};

use crate::switch::{frame, port::Port};

/// Frames a call.
pub const BATCH: usize = 32;
/// Room for a frame, in bytes.
const ROOM: usize = 2048;

/// Sends batches of numbered frames.
pub struct Sender {
    frames: Vec<Vec<u8>>,
    headers: MultiHeaders<UnixAddr>,
}

impl std::fmt::Debug for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sender").finish_non_exhaustive()
    }
}

impl Sender {
    /// Sends copies of `frame`.
    #[must_use]
    pub fn new(frame: &[u8]) -> Self {
        Self {
            frames: vec![frame.to_vec(); BATCH],
            headers: MultiHeaders::preallocate(BATCH, None),
        }
    }

    /// Sends up to `count` (at most [`BATCH`]) frames, numbered from `first` on, and waits for room.
    ///
    /// Returns how many were sent.
    ///
    /// # Errors
    /// What the system says.
    pub fn send(&mut self, port: &Port, first: u64, count: usize) -> Result<u64, Errno> {
        let count = count.min(BATCH);
        for (number, bytes) in (first..).zip(self.frames.iter_mut().take(count)) {
            frame::renumber(bytes, number);
        }
        let slices: Vec<[IoSlice; 1]> = self
            .frames
            .iter()
            .take(count)
            .map(|bytes| [IoSlice::new(bytes)])
            .collect();
        let addresses = vec![port.to; count];
        let none: [ControlMessage; 0] = [];
        let sent = sendmmsg(
            port.socket.as_raw_fd(),
            &mut self.headers,
            &slices,
            &addresses,
            none,
            MsgFlags::empty(),
        )?;
        Ok(u64::try_from(sent.count()).unwrap_or(0))
    }
}

/// Receives batches.
pub struct Receiver {
    rooms: Vec<[u8; ROOM]>,
    headers: MultiHeaders<()>,
}

impl std::fmt::Debug for Receiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receiver").finish_non_exhaustive()
    }
}

impl Default for Receiver {
    fn default() -> Self {
        Self {
            rooms: vec![[0; ROOM]; BATCH],
            headers: MultiHeaders::preallocate(BATCH, None),
        }
    }
}

impl Receiver {
    /// Receives what is there, waiting for the first frame as long as the port's time limit says
    /// (or not at all), and returns how many frames of the load were for this port, and the last
    /// one's number.
    ///
    /// # Errors
    /// What the system says.
    pub fn receive(&mut self, port: &Port, wait: bool) -> Result<(u64, Option<u64>), Errno> {
        let mut slices: Vec<[IoSliceMut; 1]> = self
            .rooms
            .iter_mut()
            .map(|room| [IoSliceMut::new(room)])
            .collect();
        let flags = if wait {
            MsgFlags::MSG_WAITFORONE
        } else {
            MsgFlags::MSG_DONTWAIT
        };
        let fd = port.socket.as_raw_fd();
        let count = match recvmmsg(fd, &mut self.headers, slices.iter_mut(), flags, None) {
            Ok(received) => received.count(),
            Err(Errno::EAGAIN | Errno::EINTR) => 0,
            Err(errno) => return Err(errno),
        };
        let numbers = self.rooms.iter().take(count);
        let numbers = numbers.filter_map(|room| frame::number(room, port.mac));
        Ok(numbers.fold((0, None), |(count, _), number| (count + 1, Some(number))))
    }
}
