//! One port: what waits for it, and what it waits for.

use std::collections::VecDeque;

use super::{Drop, Sent, Tally, Wire, store::FrameId};
use crate::fabric::{MAX_BATCH, PortId};

/// Why a port isn't read from.
#[derive(Debug, Clone, Copy)]
pub(super) enum Pause {
    /// It sent to this port, which had taken so many frames by then.
    On(PortId, u64),
    /// It sent to all ports.
    Flood,
}

/// One port's state.
#[derive(Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a state that any other goes with"
)]
pub(super) struct Lane {
    pub(super) queue: VecDeque<FrameId>,
    /// The length of all frames in the queue together, also of those that wait elsewhere as well.
    pub(super) bytes: usize,
    /// There was no room at the last try: nothing is sent before `writable`.
    pub(super) blocked: bool,
    /// It made no room while somebody waited for it.
    pub(super) deaf: bool,
    /// What it had taken when it became deaf.
    pub(super) deaf_at: u64,
    /// Its other end is gone.
    pub(super) gone: bool,
    /// It is counted as crowded.
    pub(super) crowded: bool,
    /// It is counted as one that who floods waits for.
    pub(super) awaited: bool,
    /// It was too slow when it was last waited for, and is crowded since.
    pub(super) slow: bool,
    /// What it had taken when a flooding sender began to wait.
    pub(super) mark: u64,
    pub(super) pause: Option<Pause>,
    /// The port that it sent to last, and to no other in the same turn.
    pub(super) last: Option<PortId>,
    /// How many frames may be read from it in one turn.
    pub(super) turn: Turn,
    pub(super) tally: Tally,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Turn(pub(super) usize);

impl Default for Turn {
    fn default() -> Self {
        Self(MAX_BATCH)
    }
}

impl Lane {
    /// Sends frames until there is no room; returns how many are dealt with, sent or dropped.
    pub(super) fn send(
        &mut self,
        port: PortId,
        frames: &[&[u8]],
        wire: &mut impl Wire,
        gone: &mut Vec<PortId>,
    ) -> usize {
        let mut done = 0;
        while done < frames.len() && !self.blocked {
            if self.gone {
                self.tally.drop(Drop::Refused, (frames.len() - done) as u64);
                return frames.len();
            }
            let went = match wire.send(port, &frames[done..]) {
                Sent::All => frames.len() - done,
                Sent::Full(went) => {
                    self.blocked = true;
                    went
                }
                Sent::Refused(went) => {
                    self.tally.drop(Drop::Refused, 1);
                    done += 1;
                    went
                }
                Sent::Gone => {
                    self.gone = true;
                    gone.push(port);
                    0
                }
            };
            self.tally.sent += went as u64;
            done += went;
        }
        done
    }
}
