//! Turns: who has sent something is read from, and its frames go on.

use std::os::fd::AsFd as _;

use super::{Server, tell::Watch};
use crate::{
    exchange::Drop,
    fabric::{MAX_BATCH, PortId},
    link::Received,
};

impl Server {
    pub(super) fn make_ready(&mut self, port: PortId) {
        if let Some(link) = self.links.get_mut(port) {
            if link.readable && !link.queued {
                link.queued = true;
                self.ready.push_back(port);
            }
        }
    }

    /// One turn for everybody who has sent something.
    pub(super) fn serve_all(&mut self) {
        for _ in 0..self.ready.len() {
            if let Some(port) = self.ready.pop_front() {
                if let Some(link) = self.links.get_mut(port) {
                    link.queued = false;
                }
                self.serve(port);
            }
        }
        if self.shared.as_ref().is_some_and(|shared| shared.readable) {
            self.serve_shared();
        }
        while let Some(port) = self.exchange.take_gone() {
            self.unplug(port);
        }
        // Last: who waited for one that is gone goes on.
        while let Some(port) = self.exchange.take_resumed() {
            self.make_ready(port);
        }
    }

    fn serve(&mut self, port: PortId) {
        if self.links.get(port).is_none_or(|link| !link.readable)
            || !self.exchange.may_send(port, self.now)
        {
            return;
        }
        let limit = self.exchange.turn(port);
        let received = self.links.receive(port, &mut self.arena, limit);
        let (Received::Some(count) | Received::Last(count) | Received::End(count)) = received;
        if let Some(link) = self.links.get_mut(port) {
            link.readable = matches!(received, Received::Some(_));
        }
        self.forward(port, 0, count);
        match received {
            Received::Some(_) => self.make_ready(port),
            Received::Last(_) => self.links.mute(port, false),
            Received::End(_) => self.unplug(port),
        }
    }

    /// Forwards the arena's frames from `first` to `end` as this port's.
    pub(super) fn forward(&mut self, port: PortId, first: usize, end: usize) {
        if first == end {
            return;
        }
        let Self {
            arena,
            exchange,
            links,
            log,
            shown,
            now,
            ..
        } = self;
        for index in first..end {
            if arena.is_cut(index) {
                exchange.refuse(Some(port), Drop::Giant);
            }
        }
        let frames = (first..end)
            .filter(|index| !arena.is_cut(*index))
            .map(|index| arena.frame(index));
        let mut watch = Watch {
            log,
            shown,
            now: *now,
        };
        exchange.forward(port, frames, *now, links, &mut watch);
    }

    fn serve_shared(&mut self) {
        let Some(shared) = &mut self.shared else {
            return;
        };
        let received = self
            .arena
            .receive_with_senders(shared.socket.as_fd(), MAX_BATCH);
        let count = received.unwrap_or(0);
        shared.readable = count == MAX_BATCH;
        let mut first = 0;
        while first < count {
            // Frames in a row from one guest go as one batch.
            let sender = self.arena.sender(first);
            let mut end = first + 1;
            while end < count && self.arena.sender(end) == sender {
                end += 1;
            }
            let known = self.shared.as_ref().zip(sender);
            match known.and_then(|(shared, sender)| shared.senders.get(&sender).copied()) {
                Some(port) => self.forward(port, first, end),
                None => {
                    for _ in first..end {
                        self.exchange.refuse(None, Drop::Stranger);
                        let text = "Unknown connection for packet, shouldn't happen.";
                        self.log.address(self.now, text);
                    }
                }
            }
            first = end;
        }
    }
}
