//! Connections that haven't sent their request yet.

use std::{
    collections::VecDeque,
    io::{self, Read as _},
    os::unix::net::UnixStream,
    time::Duration,
};

use uml_core::wire::switch::{Oldest, Progress, Request, RequestError};

pub use crate::peer::Peer;

/// How long a caller may take for its request.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// How many callers there are at most: the one that has been silent longest goes first.
pub(crate) const MAX_CALLERS: usize = 1024;

/// A request of version 3 with as much text as is kept.
const MAX_BYTES: usize = 512;

/// How a caller speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// As guests do.
    Guest,
    /// As VDE's clients do.
    Vde,
}

/// A connection without a request.
#[derive(Debug)]
pub struct Caller {
    /// The connection.
    pub(crate) stream: UnixStream,
    /// How it speaks.
    pub(crate) dialect: Dialect,
    /// Who it is.
    pub(crate) peer: Peer,
    generation: u32,
    bytes: Vec<u8>,
}

/// What a caller has said.
#[derive(Debug)]
pub enum Said {
    /// Not all of it yet.
    Partial,
    /// Its request, and the text behind it.
    Request(Request, Vec<u8>),
    /// Nothing that makes sense.
    Rubbish(RequestError),
    /// It went away.
    End,
    /// The connection broke.
    Broken(io::Error),
}

impl Caller {
    /// Reads what it says.
    pub fn listen(&mut self, oldest: Oldest) -> Said {
        let mut piece = [0; MAX_BYTES];
        let room = MAX_BYTES - self.bytes.len();
        match self.stream.read(&mut piece[..room]) {
            Ok(0) => return Said::End,
            Ok(count) => self.bytes.extend_from_slice(&piece[..count]),
            Err(error) => {
                return match error.kind() {
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Said::Partial,
                    _ => Said::Broken(error),
                };
            }
        }
        match Request::decode(&self.bytes, oldest) {
            Ok(Progress::Partial) => Said::Partial,
            Ok(Progress::Complete(request, used)) => {
                Said::Request(request, self.bytes.split_off(used))
            }
            Err(error) => Said::Rubbish(error),
        }
    }
}

/// All callers.
#[derive(Debug, Default)]
pub struct Callers {
    slots: Vec<Option<Caller>>,
    free: Vec<u32>,
    generation: u32,
    count: usize,
    /// Who has to have sent a request by when, soonest first; some are gone.
    deadlines: VecDeque<(Duration, u32, u32)>,
}

impl Callers {
    /// Adds a caller; returns its slot and generation.
    pub fn add(
        &mut self,
        stream: UnixStream,
        dialect: Dialect,
        peer: Peer,
        now: Duration,
    ) -> (u32, u32) {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
        });
        self.generation = (self.generation + 1) & 0xff_ffff;
        self.slots[slot as usize] = Some(Caller {
            stream,
            dialect,
            peer,
            generation: self.generation,
            bytes: Vec::new(),
        });
        self.count += 1;
        // Those of callers that are gone go when their time comes, or when there are too many.
        if self.deadlines.len() > 2 * MAX_CALLERS + 2 * self.count {
            let slots = &self.slots;
            self.deadlines.retain(|(_, slot, generation)| {
                let caller = slots.get(*slot as usize).and_then(Option::as_ref);
                caller.is_some_and(|caller| caller.generation == *generation)
            });
        }
        self.deadlines
            .push_back((now + PATIENCE, slot, self.generation));
        (slot, self.generation)
    }

    /// The caller of that slot and generation, if it is still there.
    pub fn get_mut(&mut self, slot: u32, generation: u32) -> Option<&mut Caller> {
        let caller = self.slots.get_mut(slot as usize)?.as_mut()?;
        (caller.generation == generation).then_some(caller)
    }

    /// Takes a caller out.
    pub(crate) fn remove(&mut self, slot: u32, generation: u32) -> Option<Caller> {
        self.get_mut(slot, generation)?;
        self.count -= 1;
        self.free.push(slot);
        let caller = self.slots[slot as usize].take();
        if self.count == 0 {
            self.deadlines.clear();
        }
        caller
    }

    /// How many there are.
    #[must_use]
    pub(crate) const fn len(&self) -> usize {
        self.count
    }

    /// When somebody's patience is at an end next.
    #[must_use]
    pub(crate) fn deadline(&self) -> Option<Duration> {
        self.deadlines.front().map(|(until, ..)| *until)
    }

    /// Takes out a caller whose time is over, or the oldest one where there are too many.
    pub(crate) fn take_late(&mut self, now: Duration) -> Option<Caller> {
        loop {
            let &(until, slot, generation) = self.deadlines.front()?;
            let gone = self.get_mut(slot, generation).is_none();
            if !gone && until > now && self.count <= MAX_CALLERS {
                return None;
            }
            self.deadlines.pop_front();
            if !gone {
                return self.remove(slot, generation);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use uml_core::wire::{
        sockaddr::Sockaddr,
        switch::{NEW_PORT, V3_LEN, Version},
    };

    use super::*;

    const PEER: Peer = Peer {
        pid: 1,
        uid: 2,
        gid: 3,
    };

    fn caller(callers: &mut Callers, now: Duration) -> (UnixStream, u32, u32) {
        let (here, there) = UnixStream::pair().unwrap();
        there.set_nonblocking(true).unwrap();
        let (slot, generation) = callers.add(there, Dialect::Guest, PEER, now);
        (here, slot, generation)
    }

    #[test]
    fn requests_may_come_byte_by_byte_with_text_behind() {
        let mut callers = Callers::default();
        let (mut here, slot, generation) = caller(&mut callers, Duration::ZERO);
        let request = Request {
            version: Version::V3,
            kind: NEW_PORT,
            mac: None,
            address: Sockaddr::from_abstract(b"x").unwrap(),
        };
        let caller = callers.get_mut(slot, generation).unwrap();
        assert!(matches!(caller.listen(Oldest::V1), Said::Partial));
        for byte in &request.encode()[..V3_LEN - 1] {
            here.write_all(&[*byte]).unwrap();
            assert!(matches!(caller.listen(Oldest::V1), Said::Partial));
        }
        here.write_all(b"\0some text").unwrap();
        match caller.listen(Oldest::V1) {
            Said::Request(said, text) => {
                assert_eq!(said, request);
                assert_eq!(text, b"some text");
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn who_is_late_or_too_many_goes() {
        let mut callers = Callers::default();
        let (_here, slot, generation) = caller(&mut callers, Duration::ZERO);
        let (_other, ..) = caller(&mut callers, PATIENCE);
        assert!(callers.take_late(PATIENCE / 2).is_none());
        assert!(callers.take_late(PATIENCE).is_some());
        assert!(callers.get_mut(slot, generation).is_none());
        assert!(callers.take_late(PATIENCE).is_none());
        assert_eq!(callers.len(), 1);
        assert_eq!(callers.deadline(), Some(PATIENCE * 2));
    }

    #[test]
    fn callers_that_are_gone_leave_nothing_behind() {
        let mut callers = Callers::default();
        let (_here, slot, generation) = caller(&mut callers, Duration::ZERO);
        for _ in 0..10 * MAX_CALLERS {
            let (_here, slot, generation) = caller(&mut callers, Duration::ZERO);
            assert!(callers.remove(slot, generation).is_some());
            assert!(callers.deadlines.len() < 3 * MAX_CALLERS);
        }
        assert!(callers.get_mut(slot, generation).is_some());
        assert!(callers.take_late(PATIENCE).is_some());
    }

    #[test]
    fn slots_are_used_again_under_another_generation() {
        let mut callers = Callers::default();
        let (_here, slot, generation) = caller(&mut callers, Duration::ZERO);
        assert!(callers.remove(slot, generation).is_some());
        assert!(callers.remove(slot, generation).is_none());
        let (_here, again, other) = caller(&mut callers, Duration::ZERO);
        assert_eq!(again, slot);
        assert_ne!(other, generation);
        assert!(callers.get_mut(slot, generation).is_none());
    }
}
