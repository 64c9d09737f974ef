//! The ports' sockets and devices.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
    rc::Rc,
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::epoll::{Epoll, EpollEvent, EpollFlags},
    unistd,
};
use uml_core::sys::batch::{Arena, Outbox};

use crate::{
    exchange::{Sent, Wire},
    fabric::{MAX_BATCH, PortId},
    token::{Source, Token},
};

/// How a port carries frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Datagrams on a connected socket.
    Datagram,
    /// Packets on a connection: an end can be told.
    Packet,
    /// A tap device.
    Tap,
    /// Datagrams, sent only: what comes in comes through the shared data socket.
    SendOnly,
}

/// One port.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "states that come and go apart"
)]
pub(crate) struct Link {
    /// How it carries frames.
    pub(crate) kind: Kind,
    /// The number that is shown.
    pub(crate) number: u32,
    /// For the log.
    pub(crate) name: String,
    /// The control connection, whose end unplugs the port.
    pub(crate) control: Option<OwnedFd>,
    /// Frames may be there to be read.
    pub(crate) readable: bool,
    /// It stands in the list of ports to be served.
    pub(crate) queued: bool,
    socket: OwnedFd,
    /// The system tells when there is room.
    armed: bool,
    /// The system doesn't tell when there are frames.
    muted: bool,
    token: Token,
}

impl Link {
    fn interest(&self) -> EpollFlags {
        let mut interest = match self.kind {
            Kind::SendOnly => EpollFlags::EPOLLET,
            _ if self.muted => EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLET,
            _ => EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLET,
        };
        interest.set(EpollFlags::EPOLLOUT, self.armed);
        interest
    }
}

/// What receiving brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Received {
    /// So many frames in the arena, and perhaps more to come.
    Some(usize),
    /// So many frames in the arena, and no more for now.
    Last(usize),
    /// So many frames in the arena, and never any more.
    End(usize),
}

/// All ports.
#[derive(Debug)]
pub(crate) struct Links {
    epoll: Rc<Epoll>,
    slots: Vec<Option<Link>>,
    generation: u32,
    outbox: Outbox,
}

impl Links {
    /// No ports.
    #[must_use]
    pub(crate) fn new(epoll: Rc<Epoll>) -> Self {
        Self {
            epoll,
            slots: Vec::new(),
            generation: 0,
            outbox: Outbox::new(MAX_BATCH),
        }
    }

    /// Adds a port and has its frames told.
    ///
    /// # Errors
    /// Where the system has no memory to watch it.
    pub(crate) fn add(
        &mut self,
        port: PortId,
        kind: Kind,
        number: u32,
        name: String,
        socket: OwnedFd,
    ) -> io::Result<()> {
        self.generation = self.generation.wrapping_add(1);
        let token = Token::new(Source::Port, port.slot(), self.generation);
        if self.slots.len() <= port.index() {
            self.slots.resize_with(port.index() + 1, || None);
        }
        let link = Link {
            kind,
            number,
            name,
            control: None,
            readable: false,
            queued: false,
            socket,
            armed: false,
            muted: false,
            token,
        };
        let event = EpollEvent::new(link.interest(), token.into());
        self.epoll.add(&link.socket, event)?;
        self.slots[port.index()] = Some(link);
        Ok(())
    }

    /// Watches the control connection of a port.
    ///
    /// # Errors
    /// Where the system has no memory to watch it.
    pub(crate) fn add_control(&mut self, port: PortId, control: OwnedFd) -> io::Result<()> {
        if let Some(link) = self.get_mut(port) {
            let token = Token::new(Source::Control, port.slot(), link.token.generation());
            link.control = Some(control);
            let interest = EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP;
            if let Some(control) = self.get(port).and_then(|link| link.control.as_ref()) {
                self.epoll
                    .add(control, EpollEvent::new(interest, token.into()))?;
            }
        }
        Ok(())
    }

    /// The port that a token stands for, unless it is gone.
    #[must_use]
    pub(crate) fn port(&self, token: Token) -> Option<PortId> {
        let port = PortId::from_slot(token.slot());
        let link = self.get(port)?;
        (link.token.generation() == token.generation()).then_some(port)
    }

    /// A port.
    #[must_use]
    pub(crate) fn get(&self, port: PortId) -> Option<&Link> {
        self.slots.get(port.index())?.as_ref()
    }

    /// A port, to be changed.
    pub(crate) fn get_mut(&mut self, port: PortId) -> Option<&mut Link> {
        self.slots.get_mut(port.index())?.as_mut()
    }

    /// Takes a port away; its descriptors close when the link is dropped.
    pub(crate) fn remove(&mut self, port: PortId) -> Option<Link> {
        self.slots.get_mut(port.index())?.take()
    }

    /// All ports.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (PortId, &Link)> {
        (0..)
            .map(PortId::from_slot)
            .zip(&self.slots)
            .filter_map(|(port, link)| Some((port, link.as_ref()?)))
    }

    /// Stops asking for room at a port that nothing waits for.
    pub(crate) fn disarm(&mut self, port: PortId) {
        self.watch_room(port, false);
    }

    fn watch_room(&mut self, port: PortId, on: bool) {
        let Some(link) = self.slots.get_mut(port.index()).and_then(Option::as_mut) else {
            return;
        };
        if link.armed != on {
            link.armed = on;
            if !change(&self.epoll, link) {
                link.armed = !on;
            }
        }
    }

    /// Sets whether more frames of a port are told. When they are again, those that came meanwhile
    /// are told too.
    pub(crate) fn mute(&mut self, port: PortId, on: bool) {
        let Some(link) = self.slots.get_mut(port.index()).and_then(Option::as_mut) else {
            return;
        };
        if link.muted != on {
            link.muted = on;
            if !change(&self.epoll, link) {
                link.muted = !on;
            }
        }
    }

    /// Receives what is there at a port, at most `limit` frames.
    pub(crate) fn receive(&mut self, port: PortId, arena: &mut Arena, limit: usize) -> Received {
        let Some(link) = self.get_mut(port) else {
            return Received::Last(0);
        };
        let received = match link.kind {
            Kind::Datagram | Kind::Packet => arena.receive(link.socket.as_fd(), limit),
            Kind::Tap => read_frames(&link.socket, arena, limit),
            Kind::SendOnly => Ok(0),
        };
        match received {
            Ok(count) if count == limit && link.kind == Kind::Packet => {
                // Behind the end of a connection there are empty packets without end.
                let frames = (0..count).rposition(|index| !arena.frame(index).is_empty());
                let frames = frames.map_or(0, |last| last + 1);
                if frames < count && has_ended(&link.socket) {
                    Received::End(frames)
                } else {
                    Received::Some(count)
                }
            }
            Ok(count) if count < limit => Received::Last(count),
            Ok(count) => Received::Some(count),
            Err(error) => match error.raw_os_error().map(Errno::from_raw) {
                Some(Errno::EAGAIN) => Received::Last(0),
                Some(Errno::EINTR | Errno::ENOBUFS | Errno::ENOMEM) => Received::Some(0),
                // A tap that is down is still there.
                Some(Errno::EIO) if link.kind == Kind::Tap => Received::Last(0),
                _ => Received::End(0),
            },
        }
    }
}

impl Wire for Links {
    fn send(&mut self, port: PortId, frames: &[&[u8]]) -> Sent {
        let Some(link) = self.slots.get(port.index()).and_then(Option::as_ref) else {
            return Sent::Gone;
        };
        let result = if link.kind == Kind::Tap {
            write_frames(&link.socket, frames)
        } else {
            self.outbox.send(link.socket.as_fd(), frames)
        };
        let kind = link.kind;
        match result {
            Ok(count) if count == frames.len() => Sent::All,
            // No room, most likely. If not, the next try says so.
            Ok(count) => {
                self.watch_room(port, true);
                Sent::Full(count)
            }
            Err(error) => match error.raw_os_error().map(Errno::from_raw) {
                Some(Errno::EAGAIN | Errno::EINTR | Errno::ENOBUFS | Errno::ENOMEM) => {
                    self.watch_room(port, true);
                    Sent::Full(0)
                }
                Some(Errno::EMSGSIZE | Errno::EINVAL) => Sent::Refused(0),
                Some(Errno::EIO) if kind == Kind::Tap => Sent::Refused(0),
                _ => Sent::Gone,
            },
        }
    }
}

/// Linux's `POLLRDHUP`: the other end sends no more.
const RDHUP: PollFlags = PollFlags::from_bits_retain(0x2000);

/// Whether the other end of a connection sends no more.
fn has_ended(socket: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(socket.as_fd(), RDHUP)];
    matches!(poll(&mut fds, PollTimeout::ZERO), Ok(1..))
}

/// Has the system know what is wanted of a link.
fn change(epoll: &Epoll, link: &Link) -> bool {
    let mut event = EpollEvent::new(link.interest(), link.token.into());
    epoll.modify(&link.socket, &mut event).is_ok()
}

fn read_frames(device: &OwnedFd, arena: &mut Arena, limit: usize) -> io::Result<usize> {
    for index in 0..limit {
        if let Err(error) = arena.fill(index, |slot| Ok(unistd::read(device, slot)?)) {
            return if index == 0 { Err(error) } else { Ok(index) };
        }
    }
    Ok(limit)
}

fn write_frames(device: &OwnedFd, frames: &[&[u8]]) -> io::Result<usize> {
    for (index, frame) in frames.iter().enumerate() {
        if let Err(error) = unistd::write(device, frame) {
            return if index == 0 {
                Err(error.into())
            } else {
                Ok(index)
            };
        }
    }
    Ok(frames.len())
}
