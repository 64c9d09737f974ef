//! Who waits for whom, and for how long.

use std::time::Duration;

use super::{
    BRISK, CROWDED, Exchange, FULLISH, QUEUE, STEP, TRIAL,
    lane::{Pause, Turn},
};
use crate::fabric::{MAX_BATCH, PortId};

impl Exchange {
    /// Whether a port may be read from. It begins to wait if the port that it sent to last is
    /// crowded by now, by others.
    pub fn may_send(&mut self, port: PortId, now: Duration) -> bool {
        let lane = &self.lanes[port.index()];
        // With a shorter turn it has waited, and may send so many first.
        let may_pause = lane.pause.is_none() && lane.turn.0 == MAX_BATCH;
        if let Some(to) = lane.last.filter(|_| may_pause) {
            let target = &self.lanes[to.index()];
            if target.crowded {
                self.pause(port, Pause::On(to, target.tally.sent), now);
            }
        }
        self.lanes[port.index()].pause.is_none()
    }

    /// Lets go on who has waited long enough.
    pub fn expire(&mut self, now: Duration) {
        while let Some(&(until, from)) = self.pauses.front() {
            if until > now {
                break;
            }
            self.pauses.pop_front();
            match self.lanes[from.index()].pause.take() {
                Some(Pause::On(port, sent)) => {
                    let lane = &self.lanes[port.index()];
                    let room = QUEUE.saturating_sub(lane.queue.len());
                    let stuck = lane.tally.sent == sent;
                    // Never more than there is room for, so that who reads slowly loses nothing.
                    let turn = if stuck {
                        STEP
                    } else {
                        room.clamp(1, MAX_BATCH - 1)
                    };
                    self.lanes[from.index()].turn = Turn(turn);
                    if stuck {
                        self.stuck.push(port);
                    }
                    if stuck && room <= STEP {
                        self.set_deaf(port);
                    }
                }
                Some(Pause::Flood) => {
                    let room = self.set_stuck_deaf(now);
                    let turn = &mut self.lanes[from.index()].turn.0;
                    *turn = room.clamp(1, STEP).min(*turn);
                }
                None => {}
            }
            self.resumed.push(from);
        }
    }

    /// Whether who floods has to wait.
    pub(super) fn flood_waits(&self) -> bool {
        self.awaited > 0 || self.most_are_crowded()
    }

    fn most_are_crowded(&self) -> bool {
        let others = self.fabric.ports().len().saturating_sub(1);
        let listening = others.saturating_sub(self.deaf);
        self.crowded > 0 && self.crowded * 2 > listening
    }

    pub(super) fn pause(&mut self, from: PortId, why: Pause, now: Duration) {
        if self.wait.is_zero() || self.lanes[from.index()].pause.is_some() {
            return;
        }
        if matches!(why, Pause::Flood) && !self.somebody_floods() && self.trial_is_over(now) {
            for lane in self.lanes.iter_mut().filter(|lane| lane.crowded) {
                lane.mark = lane.tally.sent;
            }
            self.marked = now;
        }
        self.lanes[from.index()].pause = Some(why);
        self.pauses.push_back((now + self.wait, from));
    }

    fn trial_is_over(&self, now: Duration) -> bool {
        now >= self.marked + self.wait * TRIAL
    }

    fn somebody_floods(&self) -> bool {
        self.pauses
            .iter()
            .any(|(_, from)| matches!(self.lanes[from.index()].pause, Some(Pause::Flood)))
    }

    pub(super) fn resume_senders_to(&mut self, port: PortId) {
        let flood_waits = self.flood_waits();
        let Self {
            pauses,
            lanes,
            resumed,
            ..
        } = self;
        pauses.retain(|(_, from)| {
            let lane = &mut lanes[from.index()];
            let stays = match lane.pause {
                Some(Pause::On(on, _)) => on != port,
                Some(Pause::Flood) => flood_waits,
                None => false,
            };
            if !stays {
                lane.pause = None;
                resumed.push(*from);
            }
            stays
        });
    }

    fn set_deaf(&mut self, port: PortId) {
        let lane = &mut self.lanes[port.index()];
        if lane.crowded {
            lane.deaf = true;
            lane.deaf_at = lane.tally.sent;
            self.deaf += 1;
            self.recount(port);
        }
    }

    /// Once in [`TRIAL`] waits: counts crowded ports as deaf that took nothing and have no room for
    /// another step, and others as slow that took little. Returns how much room there is at each of
    /// those that are still waited for.
    fn set_stuck_deaf(&mut self, now: Duration) -> usize {
        let most = self.most_are_crowded();
        let due = self.trial_is_over(now);
        if due {
            self.marked = now;
        }
        let mut least = QUEUE;
        for place in 0..self.fabric.ports().len() {
            let port = self.fabric.ports()[place];
            let lane = &mut self.lanes[port.index()];
            if !lane.crowded {
                continue;
            }
            let room = QUEUE.saturating_sub(lane.queue.len());
            let took = lane.tally.sent - lane.mark;
            let stuck = due && took == 0;
            if due {
                lane.mark = lane.tally.sent;
                lane.slow |= lane.awaited && took < BRISK;
            }
            let slow = lane.slow;
            if stuck {
                self.stuck.push(port);
            }
            if stuck && room <= STEP {
                self.set_deaf(port);
                continue;
            }
            if most || !slow {
                least = least.min(room);
            }
            self.recount(port);
        }
        least
    }

    /// Keeps the counts of crowded ports in step with a queue that has changed.
    pub(super) fn recount(&mut self, port: PortId) {
        let lane = &mut self.lanes[port.index()];
        let crowded = lane.queue.len() >= CROWDED && !lane.deaf;
        lane.slow &= crowded;
        let fullish = lane.awaited || lane.queue.len() >= FULLISH;
        let awaited = crowded && fullish && !lane.slow;
        self.crowded -= usize::from(lane.crowded);
        self.awaited -= usize::from(lane.awaited);
        lane.crowded = crowded;
        lane.awaited = awaited;
        self.crowded += usize::from(crowded);
        self.awaited += usize::from(awaited);
    }
}
