//! Ports come and go.

use std::{
    io::{self, Write as _},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::net::UnixStream,
    },
};

use nix::{errno::Errno, unistd};
use uml_core::{
    error::{chain, system_text},
    wire::{
        sockaddr::Sockaddr,
        switch::{NEW_PORT, Request, RequestError, Version},
        vde::{self, Wish},
    },
};

use super::{DOOR_PAUSE, Server, watch};
use crate::{
    callers::{Caller, Dialect, Said},
    fabric::PortId,
    link::{Kind, Received},
    peer::{Peer, data_socket},
    token::{Source, Token},
};

/// How many connections are taken at once, so that ports get their turn.
const GUESTS_A_TURN: usize = 64;

/// How many frames of a guest that is gone are taken at most.
const LAST_FRAMES: usize = 1024;

impl Server {
    /// Plugs in something that is no guest: a device or an inherited socket.
    ///
    /// # Errors
    /// What the system said.
    pub(crate) fn plug_fixed(
        &mut self,
        kind: Kind,
        name: String,
        socket: OwnedFd,
    ) -> io::Result<()> {
        let port = self.plug(kind, name, socket, None)?;
        self.fixed.push(port);
        Ok(())
    }

    fn plug(
        &mut self,
        kind: Kind,
        name: String,
        socket: OwnedFd,
        wish: Option<u32>,
    ) -> io::Result<PortId> {
        let port = self.exchange.add_port();
        let number = self.free_number(wish.unwrap_or(port.slot() + 1));
        if let Err(error) = self.links.add(port, kind, number, name, socket) {
            self.exchange.remove_port(port);
            return Err(error);
        }
        self.numbers.insert(number, port);
        if self.shown.len() <= port.index() {
            self.shown.resize(port.index() + 1, 0);
        }
        self.shown[port.index()] = number;
        Ok(port)
    }

    /// This number, or the next one that is free.
    fn free_number(&self, wish: u32) -> u32 {
        let mut number = wish;
        for (taken, _) in self.numbers.range(wish..) {
            if *taken != number {
                break;
            }
            number += 1;
        }
        number
    }

    /// What a guest sent before it went counts, as much as a socket holds: it may go on sending.
    fn take_last_frames(&mut self, port: PortId) {
        let mut left = LAST_FRAMES;
        while left > 0 {
            let limit = self.exchange.turn(port);
            let received = self.links.receive(port, &mut self.arena, limit);
            let (Received::Some(count) | Received::Last(count) | Received::End(count)) = received;
            self.forward(port, 0, count);
            if !matches!(received, Received::Some(_)) {
                return;
            }
            left = left.saturating_sub(count.max(1));
        }
    }

    pub(super) fn unplug(&mut self, port: PortId) {
        self.take_last_frames(port);
        let Some(link) = self.links.remove(port) else {
            return;
        };
        self.log.say("Disconnect");
        self.log.detail(format_args!(
            "Port {} ({}): {}",
            link.number,
            link.name,
            self.exchange.tally(port)
        ));
        self.exchange.remove_port(port);
        self.fixed.retain(|fixed| *fixed != port);
        self.numbers.remove(&link.number);
        if let Some(shared) = &mut self.shared {
            shared.senders.retain(|_, of| *of != port);
        }
        drop(link);
        self.open_doors();
    }

    /// Reads from the connection of a port that is plugged in: there should be nothing but its end.
    pub(super) fn hear_control(&mut self, port: PortId) {
        let Some(control) = self.links.get(port).and_then(|link| link.control.as_ref()) else {
            return;
        };
        let mut bytes = [0; 4096];
        match unistd::read(control, &mut bytes) {
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Ok(1..) => self.log.address(self.now, "Bad request"),
            Ok(_) | Err(_) => self.unplug(port),
        }
    }

    /// Takes the connections that wait at a door.
    pub(super) fn let_in(&mut self, index: usize) {
        let Some(door) = self.doors.get(index) else {
            return;
        };
        let dialect = door.dialect;
        for _ in 0..GUESTS_A_TURN {
            let accepted = self.doors[index].socket.accept();
            match accepted.and_then(|(stream, _)| {
                stream.set_nonblocking(true)?;
                Ok(stream)
            }) {
                Ok(stream) => self.welcome(stream, dialect, index),
                Err(error) => match error.raw_os_error().map(Errno::from_raw) {
                    Some(Errno::EAGAIN) => return,
                    Some(Errno::EINTR | Errno::ECONNABORTED) => {}
                    _ => {
                        self.log
                            .problem(format_args!("accept: {}", system_text(&error)));
                        self.close_doors();
                        return;
                    }
                },
            }
        }
    }

    fn close_doors(&mut self) {
        if self.closed_until.is_none() {
            self.log.problem(
                "No new guests are let in until another one leaves: raise the limit of open files",
            );
        }
        self.leave_doors();
    }

    fn leave_doors(&mut self) {
        for door in &self.doors {
            // It fails for one that isn't watched.
            let _ = self.epoll.delete(&door.socket);
        }
        self.closed_until = Some(self.now + DOOR_PAUSE);
    }

    pub(super) fn open_doors(&mut self) {
        if self.closed_until.take().is_none() {
            return;
        }
        let all = (0..).zip(&self.doors).all(|(slot, door)| {
            let token = Token::new(Source::Listener, slot, 0);
            watch(&self.epoll, door.socket.as_fd(), token).is_ok()
        });
        if !all {
            self.leave_doors();
        }
    }

    fn welcome(&mut self, stream: UnixStream, dialect: Option<Dialect>, door: usize) {
        let peer = match Peer::of(&stream) {
            Ok(peer) => peer,
            Err(error) => {
                self.log
                    .problem(format_args!("a guest's identity: {}", system_text(&error)));
                return;
            }
        };
        if !self.limits.allowed.allows(&peer) {
            self.log
                .problem(format_args!("{peer} isn't allowed to plug in"));
            return;
        }
        let Some(dialect) = dialect else {
            if self.has_room() {
                let name = format!("{}, {peer}", self.doors[door].name);
                self.finish_plug(Kind::Packet, name, stream.into(), None, None);
            }
            return;
        };
        let (slot, generation) = self.callers.add(stream, dialect, peer, self.now);
        let token = Token::new(Source::Caller, slot, generation);
        let added = self
            .callers
            .get_mut(slot, generation)
            .map(|caller| watch(&self.epoll, caller.stream.as_fd(), token));
        if let Some(Err(error)) = added {
            self.log
                .problem(format_args!("watching a guest: {}", system_text(&error)));
            self.callers.remove(slot, generation);
        }
    }

    fn has_room(&mut self) -> bool {
        let guests = self.exchange.fabric().ports().len() - self.fixed.len();
        let room = self.limits.ports.is_none_or(|limit| guests < limit);
        if !room {
            self.log.problem(format_args!(
                "All {guests} ports are taken: a guest is refused"
            ));
        }
        room
    }

    pub(super) fn hear_caller(&mut self, slot: u32, generation: u32) {
        let oldest = self.oldest();
        let Some(caller) = self.callers.get_mut(slot, generation) else {
            return;
        };
        let said = caller.listen(oldest);
        if matches!(said, Said::Partial) {
            return;
        }
        let Some(caller) = self.callers.remove(slot, generation) else {
            return;
        };
        match said {
            Said::Partial => {}
            Said::Request(request, text) => self.answer(caller, request, &text),
            Said::Rubbish(error) => self.complain(error),
            Said::End => self.log.say("EOF from new port"),
            Said::Broken(error) => self
                .log
                .problem(format_args!("Reading request: {}", system_text(&error))),
        }
        self.open_doors();
    }

    fn complain(&mut self, error: RequestError) {
        match error {
            RequestError::Version2 => self.log.problem("Version 2 is not supported"),
            RequestError::BadVersion { found } => self.log.problem(format_args!(
                "Request for a version {found} port, which this uml_switch doesn't support"
            )),
            RequestError::Address { kind, .. } if kind != NEW_PORT => self.refuse_type(kind),
            RequestError::BadMagic { .. } | RequestError::Address { .. } => {
                self.log.say("Bad request");
                self.log.detail(chain(&error));
            }
        }
    }

    fn refuse_type(&mut self, kind: u32) {
        let shown = i32::from_ne_bytes(kind.to_ne_bytes());
        self.log.say(format_args!("Bad request type : {shown}"));
    }

    /// Gives a caller the port that it asks for.
    fn answer(&mut self, caller: Caller, request: Request, text: &[u8]) {
        let wish = match (caller.dialect, Wish::from_kind(request.kind)) {
            (Dialect::Vde, Wish::Any | Wish::Port0) => None,
            (Dialect::Vde, Wish::Port(number)) => Some(number),
            (Dialect::Guest, _) if request.kind == NEW_PORT => None,
            _ => {
                self.refuse_type(request.kind);
                return;
            }
        };
        if !self.has_room() {
            return;
        }
        let (socket, own) = match data_socket(&request, &caller.peer) {
            Ok(made) => made,
            Err(error) => {
                let text = chain(&error);
                self.log.problem(format_args!("a guest is refused: {text}"));
                return;
            }
        };
        let description = vde::description(text);
        let name = format!(
            "{}{}{description}, {}",
            request.address,
            if description.is_empty() { "" } else { ", " },
            caller.peer
        );
        let control = caller.stream;
        let shared = request.version == Version::V0;
        let sender = shared.then(|| request.address.canonical());
        let kind = if shared {
            Kind::SendOnly
        } else {
            Kind::Datagram
        };
        let port = self.finish_plug(kind, name, socket, wish, Some((control, own)));
        if let (Some(port), Some(shared), Some(sender)) = (port, &mut self.shared, sender) {
            shared.senders.insert(sender, port);
        }
    }

    /// Adds a guest's port, and tells the guest where its frames go.
    fn finish_plug(
        &mut self,
        kind: Kind,
        name: String,
        socket: OwnedFd,
        wish: Option<u32>,
        control: Option<(UnixStream, Option<Sockaddr>)>,
    ) -> Option<PortId> {
        let port = match self.plug(kind, name, socket, wish) {
            Ok(port) => port,
            Err(error) => {
                self.log
                    .problem(format_args!("a guest is refused: {}", system_text(&error)));
                return None;
            }
        };
        self.log.say("New connection");
        if let Some(link) = self.links.get(port) {
            self.log
                .detail(format_args!("Port {}: {}", link.number, link.name));
        }
        if let Some((mut control, own)) = control {
            let told = own.map_or(Ok(()), |own| control.write_all(&own.encode()));
            if let Err(error) = told {
                self.log.problem(format_args!(
                    "Sending data socket name: {}",
                    system_text(&error)
                ));
                self.unplug(port);
                return None;
            }
            let told = self.watch_control(port, control);
            if let Err(error) = told {
                self.log
                    .problem(format_args!("watching a guest: {}", system_text(&error)));
                self.unplug(port);
                return None;
            }
        }
        Some(port)
    }

    fn watch_control(&mut self, port: PortId, control: UnixStream) -> io::Result<()> {
        // It was watched as a caller's.
        self.epoll.delete(&control)?;
        self.links.add_control(port, control.into())
    }
}
