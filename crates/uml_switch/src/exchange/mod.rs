//! From one port to others: queues, and senders that are slowed down instead of losing frames.
//!
//! Like the [fabric](crate::fabric) it knows no file descriptor and no clock. What sends is a
//! [`Wire`]; time is passed in.
//!
//! The rules:
//! - A frame that its port has no room for waits in that port's queue, [`QUEUE`] frames at most.
//! - Who sends to one port that has [`CROWDED`] frames waiting is not read from until there is room
//!   again, for a few milliseconds at most; then it may send [`STEP`] more frames, and waits again.
//!   A port that took no frame meanwhile, and whose queue is full by then, counts as deaf: nobody
//!   waits for it until it takes frames again, and what its queue can't hold is lost.
//! - Who floods waits in the same way while most ports that aren't deaf are crowded, or while one
//!   has [`FULLISH`] frames waiting and takes its frames fast enough to be worth the wait.
//! - All queues together hold a bounded number of bytes; when they are full, the port that holds
//!   most loses its newest frames.

mod lane;
mod outside;
mod parcel;
mod sharing;
mod store;
mod tally;
mod waits;

use std::{collections::VecDeque, time::Duration};

use crate::fabric::{Fabric, MAX_BATCH, Plan, PortId, Verdict};
use lane::{Lane, Pause, Turn};
pub use outside::{Sent, Watcher, Wire};
use parcel::Parcel;
use store::Store;
pub use tally::{Drop, Tally};

/// How many frames wait for one port at most.
pub const QUEUE: usize = 256;

/// How many frames wait at most for a port that isn't deaf, where they come from senders that will
/// wait: each may have sent one batch before it is known whom it sends to.
pub const CROWD: usize = 4096;

/// With how many waiting frames a port's senders have to wait.
pub const CROWDED: usize = 32;

/// With how many waiting frames a port is waited for by those who flood, even if it is the only one.
pub const FULLISH: usize = QUEUE / 2;

/// How many frames such a port takes at least in `TRIAL` waits: who reads more slowly holds up
/// nobody's broadcasts, and loses what its queue can't hold.
pub const BRISK: u64 = 16;

/// How many waits pass before who floods judges whether ports that it waits for are slow or deaf:
/// one that reads from hundreds of ports in turn doesn't come by in each.
pub const TRIAL: u32 = 4;

/// How many frames a sender may send that has waited in vain, before it waits again.
pub const STEP: usize = 16;

/// How many copies one turn of a flooding sender may cost, so that others get theirs soon.
const COPIES_A_TURN: usize = 4096;

/// Fabric, queues and counts.
#[derive(Debug)]
pub struct Exchange {
    fabric: Fabric,
    wait: Duration,
    lanes: Vec<Lane>,
    store: Store,
    plan: Plan,
    /// Ports that aren't read from, with the time at which that ends, soonest first.
    pauses: VecDeque<(Duration, PortId)>,
    /// How many ports are crowded, how many of them who floods waits for, and how many are deaf.
    crowded: usize,
    awaited: usize,
    deaf: usize,
    /// When every lane's `mark` was last looked at.
    marked: Duration,
    resumed: Vec<PortId>,
    stuck: Vec<PortId>,
    gone: Vec<PortId>,
    /// What became of frames that belong to no port, or to one that is gone.
    other_tally: Tally,
}

impl Exchange {
    /// An exchange over this fabric without ports; a sender waits at most `wait` for one port.
    #[must_use]
    pub fn new(fabric: Fabric, wait: Duration) -> Self {
        Self {
            fabric,
            wait,
            lanes: Vec::new(),
            store: Store::default(),
            plan: Plan::default(),
            pauses: VecDeque::new(),
            crowded: 0,
            awaited: 0,
            deaf: 0,
            marked: Duration::ZERO,
            resumed: Vec::new(),
            stuck: Vec::new(),
            gone: Vec::new(),
            other_tally: Tally::default(),
        }
    }

    /// Has at most so many bytes wait in all queues together, where that is less than usual.
    pub fn limit_memory(&mut self, bytes: usize) {
        self.store.limit(bytes);
    }

    /// The fabric.
    #[must_use]
    pub const fn fabric(&self) -> &Fabric {
        &self.fabric
    }

    /// Plugs a port in.
    pub fn add_port(&mut self) -> PortId {
        let port = self.fabric.add_port();
        if self.lanes.len() <= port.index() {
            self.lanes.resize_with(port.index() + 1, Lane::default);
        }
        port
    }

    /// Unplugs a port: what waits for it is lost, who waits for it goes on.
    pub fn remove_port(&mut self, port: PortId) {
        let mut lane = std::mem::take(&mut self.lanes[port.index()]);
        for id in lane.queue.drain(..) {
            self.store.release(id);
            lane.tally.drop(Drop::Unplugged, 1);
        }
        self.crowded -= usize::from(lane.crowded);
        self.awaited -= usize::from(lane.awaited);
        self.deaf -= usize::from(lane.deaf);
        self.other_tally.add(&lane.tally);
        self.fabric.remove_port(port);
        self.pauses.retain(|(_, paused)| *paused != port);
        self.resumed.retain(|resumed| *resumed != port);
        self.gone.retain(|gone| *gone != port);
        self.stuck.retain(|stuck| *stuck != port);
        for lane in &mut self.lanes {
            if lane.last == Some(port) {
                lane.last = None;
            }
        }
        self.resume_senders_to(port);
    }

    /// How many frames may be read from a port in one turn: [`MAX_BATCH`] at most.
    #[must_use]
    pub fn turn(&self, port: PortId) -> usize {
        self.lanes[port.index()].turn.0
    }

    /// A port that may be read from again.
    pub fn take_resumed(&mut self) -> Option<PortId> {
        self.resumed.pop()
    }

    /// A port that took nothing while somebody waited for it: to be tried again.
    pub fn take_stuck(&mut self) -> Option<PortId> {
        self.stuck.pop()
    }

    /// A port whose other end turned out to be gone: to be unplugged.
    pub fn take_gone(&mut self) -> Option<PortId> {
        self.gone.pop()
    }

    /// Whether [`Exchange::writable`] is wanted for a port.
    #[must_use]
    pub fn is_blocked(&self, port: PortId) -> bool {
        self.lanes[port.index()].blocked
    }

    /// What became of frames: of those that came in at this port, `received` and `copies`, and
    /// drops before a port was found for them; of those that were for it, the rest.
    #[must_use]
    pub fn tally(&self, port: PortId) -> &Tally {
        &self.lanes[port.index()].tally
    }

    /// The sum over all ports there ever were.
    #[must_use]
    pub fn total(&self) -> Tally {
        let mut total = self.other_tally;
        for lane in &self.lanes {
            total.add(&lane.tally);
        }
        total
    }

    /// How many frames wait in all queues.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.lanes.iter().map(|lane| lane.queue.len() as u64).sum()
    }

    /// How many ports are deaf.
    #[must_use]
    pub const fn deaf(&self) -> usize {
        self.deaf
    }

    /// Counts a frame that came in, at this port if it is known, and never got as far as the
    /// fabric.
    pub fn refuse(&mut self, port: Option<PortId>, reason: Drop) {
        let tally = match port {
            Some(port) => &mut self.lanes[port.index()].tally,
            None => &mut self.other_tally,
        };
        tally.received += 1;
        tally.drop(reason, 1);
    }

    /// When [`Exchange::expire`] or [`Exchange::sweep`] has something to do next.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        let pause = self.pauses.front().map(|(until, _)| *until);
        pause
            .into_iter()
            .chain(self.fabric.table().next_sweep())
            .min()
    }

    /// Forwards what came in at a port, at most [`MAX_BATCH`] frames.
    pub fn forward<'a>(
        &mut self,
        from: PortId,
        frames: impl IntoIterator<Item = &'a [u8]>,
        now: Duration,
        wire: &mut impl Wire,
        watcher: &mut impl Watcher,
    ) {
        let mut batch: [&[u8]; MAX_BATCH] = [&[]; MAX_BATCH];
        let mut count = 0;
        let others = self.fabric.ports().len().saturating_sub(1) as u64;
        let tally = &mut self.lanes[from.index()].tally;
        for (place, frame) in batch.iter_mut().zip(frames) {
            tally.received += 1;
            let verdict = self.fabric.route(from, frame, now, |mac, news| {
                watcher.learned(from, mac, news);
            });
            match verdict {
                Verdict::Port(port) => self.plan.to_port(count, port),
                Verdict::Flood if others == 0 => tally.drop(Drop::Alone, 1),
                Verdict::Flood => {
                    watcher.flooded(from, frame);
                    tally.copies += others - 1;
                    self.plan.to_all(count);
                }
                Verdict::Back => tally.drop(Drop::Back, 1),
                Verdict::Runt => tally.drop(Drop::Runt, 1),
            }
            *place = frame;
            count += 1;
        }
        self.deliver(from, &batch[..count], now, wire);
    }

    fn deliver(&mut self, from: PortId, batch: &[&[u8]], now: Duration, wire: &mut impl Wire) {
        let mut plan = std::mem::take(&mut self.plan);
        let mut parcel = Parcel::new(batch);
        let ports = self.fabric.ports().len();
        if plan.flood() == 0 {
            let lane = &mut self.lanes[from.index()];
            lane.turn = Turn::default();
            lane.last = match *plan.touched() {
                [port] => Some(port),
                _ => None,
            };
            let most = if self.wait.is_zero() { QUEUE } else { CROWD };
            for &port in plan.touched() {
                self.deliver_to(port, plan.mask(port), &mut parcel, wire, most);
            }
        } else {
            let lane = &mut self.lanes[from.index()];
            lane.turn = Turn((COPIES_A_TURN / ports).clamp(1, MAX_BATCH));
            lane.last = None;
            for place in 0..ports {
                let port = self.fabric.ports()[place];
                if port != from {
                    self.deliver_to(port, plan.mask(port), &mut parcel, wire, QUEUE);
                }
            }
            if self.flood_waits() {
                self.pause(from, Pause::Flood, now);
            }
        }
        for &port in plan.touched() {
            let lane = &self.lanes[port.index()];
            if lane.crowded {
                self.pause(from, Pause::On(port, lane.tally.sent), now);
            }
        }
        plan.clear();
        self.plan = plan;
        parcel.release(&mut self.store);
    }

    /// Sends a port its frames of a batch, or has them wait: `most` at most, less for a deaf one.
    fn deliver_to(
        &mut self,
        port: PortId,
        mask: u64,
        parcel: &mut Parcel<'_>,
        wire: &mut impl Wire,
        most: usize,
    ) {
        parcel.pick(mask);
        let lane = &mut self.lanes[port.index()];
        let mut done = 0;
        if lane.queue.is_empty() {
            done = lane.send(port, parcel.picked(), wire, &mut self.gone);
        }
        if done < parcel.picked().len() {
            let limit = if lane.deaf { QUEUE } else { most };
            for place in parcel.places(done) {
                let crammed = self.lanes[port.index()].queue.len() >= limit;
                let kept = if crammed {
                    None
                } else {
                    self.keep_for(port, place, parcel)
                };
                let lane = &mut self.lanes[port.index()];
                if let Some(id) = kept {
                    lane.queue.push_back(id);
                    lane.bytes += parcel.length(place);
                } else {
                    lane.tally.drop(Drop::Full, 1);
                }
            }
            self.recount(port);
        }
    }

    /// A port that had no room has some: sends what waits for it.
    pub fn writable(&mut self, port: PortId, wire: &mut impl Wire) {
        let lane = &mut self.lanes[port.index()];
        lane.blocked = false;
        while !lane.blocked && !lane.queue.is_empty() {
            let mut frames: [&[u8]; MAX_BATCH] = [&[]; MAX_BATCH];
            let mut count = 0;
            for (frame, id) in frames.iter_mut().zip(&lane.queue) {
                *frame = self.store.frame(*id);
                count += 1;
            }
            let done = lane.send(port, &frames[..count], wire, &mut self.gone);
            for id in lane.queue.drain(..done) {
                lane.bytes -= self.store.frame(id).len();
                self.store.release(id);
            }
        }
        // The queue of one that hears again may never empty while somebody goes on flooding it.
        let took = lane.tally.sent - lane.deaf_at;
        if lane.deaf && (lane.queue.len() < CROWDED || took >= CROWDED as u64) {
            lane.deaf = false;
            self.deaf -= 1;
        }
        let was_crowded = lane.crowded;
        self.recount(port);
        if was_crowded && !self.lanes[port.index()].crowded {
            self.resume_senders_to(port);
        }
    }

    /// Forgets addresses that are too old, when it is time to.
    pub fn sweep(&mut self, now: Duration) {
        if self
            .fabric
            .table()
            .next_sweep()
            .is_some_and(|due| due <= now)
        {
            self.fabric.sweep(now);
        }
    }
}

#[cfg(test)]
mod tests;
