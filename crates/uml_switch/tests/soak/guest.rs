//! One guest: it plugs in by one of the protocols, talks, listens and goes.

use std::{
    collections::HashMap,
    fs,
    io::Write as _,
    net::Shutdown,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::net::UnixStream,
    },
    path::{Path, PathBuf},
    process,
};

use nix::{
    errno::Errno,
    sys::socket::{
        AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, recv, send, socket,
    },
};
use rand::{Rng as _, rngs::SmallRng};
use testkit::switch::{self, ADDRESS_LEN, Plug, Version, path_address, request};

use crate::{
    book::Book,
    letter::{Letter, SHORTEST, Station, noise},
};

/// How a guest talks to the switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    V1,
    V3,
    Vde,
    Bess,
}

impl Kind {
    pub(crate) fn of(slot: u8) -> Self {
        [Self::V3, Self::V1, Self::Vde, Self::Bess][usize::from(slot % 4)]
    }

    /// How many descriptors the switch has for such a guest.
    pub(crate) fn descriptors(self) -> usize {
        if self == Self::Bess { 1 } else { 2 }
    }
}

/// What is left of a guest that is gone.
#[derive(Debug)]
pub(crate) struct Life {
    /// What the switch calls its port.
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) sent: u64,
    pub(crate) received: u64,
}

#[derive(Debug)]
enum Link {
    Datagrams(Box<Plug>),
    Packets(OwnedFd),
}

/// A guest that is plugged in.
#[derive(Debug)]
pub(crate) struct Guest {
    pub(crate) station: Station,
    pub(crate) life: Life,
    link: Link,
    number: u32,
    /// The number of the last frame of each that it heard of.
    heard: HashMap<Station, u32>,
}

/// Where a guest's data socket is, and what the switch calls it.
fn data_socket(dir: &Path, kind: Kind, station: Station) -> ([u8; ADDRESS_LEN], String) {
    let Station { slot, life } = station;
    let path = match kind {
        Kind::V3 => dir.join(format!("data.{slot}.{life}")),
        Kind::Vde => dir.join(format!("vde/.{slot}-{life}")),
        Kind::V1 | Kind::Bess => {
            let name = format!("soak.{}.{slot}.{life}", process::id());
            let mut address = [0; ADDRESS_LEN];
            address[..2].copy_from_slice(&1_u16.to_ne_bytes());
            address[3..3 + name.len()].copy_from_slice(name.as_bytes());
            return (address, format!("@{name}"));
        }
    };
    (path_address(&path), path.display().to_string())
}

/// A request as a guest of that kind sends it.
fn ask(kind: Kind, address: &[u8; ADDRESS_LEN]) -> Vec<u8> {
    let version = if kind == Kind::V1 {
        Version::V1
    } else {
        Version::V3
    };
    let mut bytes = request(version, 0, address);
    if kind == Kind::Vde {
        bytes.truncate(122);
        bytes.extend(b"soak\0");
    }
    bytes
}

/// Where guests of that kind connect to.
pub(crate) fn door(dir: &Path, kind: Kind, slot: u8) -> PathBuf {
    match kind {
        Kind::V1 | Kind::V3 => dir.join("ctl"),
        Kind::Vde => dir.join("vde/ctl"),
        Kind::Bess => dir.join(format!("bess.{slot}")),
    }
}

/// A connection that comes to nothing.
pub(crate) fn fail(dir: &Path, kind: Kind, station: Station, dice: &mut SmallRng) -> Option<Life> {
    if kind == Kind::Bess {
        drop(packets(&door(dir, kind, station.slot)));
        return Some(Life {
            name: door(dir, kind, station.slot).display().to_string(),
            kind,
            sent: 0,
            received: 0,
        });
    }
    let mut stream = switch::connect(&door(dir, kind, station.slot));
    let (address, name) = data_socket(dir, kind, station);
    let mut bytes = ask(kind, &address);
    match dice.random_range(0..4) {
        0 => return None,
        1 => bytes.truncate(dice.random_range(1..122)),
        2 => dice.fill(&mut bytes[..12]),
        _ => {
            // A whole request, whose reply it doesn't wait for.
            let data = switch::bind(&address);
            stream.write_all(&bytes).unwrap();
            if dice.random() {
                drop(stream);
                drop(data);
            } else {
                drop(data);
                drop(stream);
            }
            remove(&address);
            return Some(Life {
                name,
                kind,
                sent: 0,
                received: 0,
            });
        }
    }
    // It may be refused while it still talks.
    let _ = stream.write_all(&bytes);
    None
}

fn packets(path: &Path) -> OwnedFd {
    let end = socket(
        AddressFamily::Unix,
        SockType::SeqPacket,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
    .unwrap();
    connect(end.as_raw_fd(), &UnixAddr::new(path).unwrap()).unwrap();
    end
}

/// Removes the file of a data socket that has one.
fn remove(address: &[u8; ADDRESS_LEN]) {
    if let Some(path) = switch::socket_address(address).as_pathname() {
        fs::remove_file(path).unwrap();
    }
}

impl Guest {
    pub(crate) fn plug(dir: &Path, kind: Kind, station: Station) -> Self {
        let door = door(dir, kind, station.slot);
        let (link, name) = if kind == Kind::Bess {
            (Link::Packets(packets(&door)), door.display().to_string())
        } else {
            let (address, name) = data_socket(dir, kind, station);
            let data = switch::bind(&address);
            let plug = Plug::ask(&door, data, &ask(kind, &address));
            if kind == Kind::Vde {
                plug.data.connect_addr(&plug.switch).unwrap();
            }
            remove(&address);
            (Link::Datagrams(Box::new(plug)), name)
        };
        Self {
            station,
            life: Life {
                name,
                kind,
                sent: 0,
                received: 0,
            },
            link,
            number: 0,
            heard: HashMap::new(),
        }
    }

    /// Sends a frame if there is room for it.
    pub(crate) fn send(&mut self, frame: &[u8]) -> bool {
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        let sent = match &self.link {
            Link::Packets(end) => send(end.as_raw_fd(), frame, flags),
            Link::Datagrams(plug) => {
                plug.data.set_nonblocking(true).unwrap();
                let sent = if self.life.kind == Kind::Vde {
                    plug.data.send(frame)
                } else {
                    plug.data.send_to_addr(frame, &plug.switch)
                };
                sent.map_err(|error| Errno::from_raw(error.raw_os_error().unwrap()))
            }
        };
        match sent {
            Ok(length) => assert_eq!(length, frame.len()),
            Err(Errno::EAGAIN) => return false,
            Err(error) => panic!("{:?} sends: {error}", self.station),
        }
        self.life.sent += 1;
        true
    }

    /// Sends a letter if there is room for it.
    pub(crate) fn write(&mut self, to: Option<Station>, settled: bool, length: usize) -> bool {
        self.number += 1;
        let letter = Letter {
            to,
            from: self.station,
            settled,
            number: self.number,
        };
        self.send(&letter.write(length.max(SHORTEST)))
    }

    /// Sends some frames of all sorts.
    pub(crate) fn talk(&mut self, book: &Book, slots: u8, dice: &mut SmallRng) {
        let length = match dice.random_range(0..100) {
            0..50 => dice.random_range(SHORTEST..100),
            50..95 => dice.random_range(SHORTEST..1514),
            95..99 => dice.random_range(1515..9100),
            _ => dice.random_range(9100..=65_535),
        };
        match dice.random_range(0..100) {
            0..2 => {
                self.write(None, false, length);
            }
            2..4 => {
                let mut to: [u8; 6] = dice.random();
                to[0] = [3, 4, 0xff][dice.random_range(0..3)];
                self.send(&noise(to, dice.random(), length));
            }
            4..8 => {
                let whole = noise([0xff; 6], dice.random(), 14);
                // Bess has no empty frames: they would be the end.
                let shortest = usize::from(self.life.kind == Kind::Bess);
                self.send(&whole[..dice.random_range(shortest..14)]);
            }
            8 => {
                self.send(&noise([0xff; 6], dice.random(), 65_536));
            }
            _ => {
                let slot = dice.random_range(0..slots);
                let Some(to) = book.at(slot) else {
                    // Nobody is there: all get it.
                    let life = dice.random_range(0..100);
                    self.write(Some(Station { slot, life }), false, length);
                    return;
                };
                for _ in 0..dice.random_range(1..20) {
                    if !self.write(Some(to), book.is_settled(to), length) {
                        break;
                    }
                }
            }
        }
    }

    /// Takes the frames that have come, at most so many, and checks each; how many there were.
    pub(crate) fn listen(&mut self, book: &Book, most: usize) -> usize {
        let mut frame = vec![0; 1 << 17];
        for count in 0..most {
            let end = match &self.link {
                Link::Packets(end) => end.as_raw_fd(),
                Link::Datagrams(plug) => plug.data.as_raw_fd(),
            };
            let length = match recv(end, &mut frame, MsgFlags::MSG_DONTWAIT) {
                Ok(length) => length,
                Err(Errno::EAGAIN) => return count,
                Err(error) => panic!("{:?} receives: {error}", self.station),
            };
            self.life.received += 1;
            if let Some(letter) = Letter::read(&frame[..length]) {
                self.check(&letter, book);
            }
        }
        most
    }

    fn check(&mut self, letter: &Letter, book: &Book) {
        let (me, from) = (self.station, letter.from);
        assert_ne!(from, me, "{me:?} has its own frame back: {letter:?}");
        if let Some(to) = letter.to.filter(|to| *to != me) {
            // All ports get it only where nobody knew the receiver's, or it is going.
            assert!(
                !(letter.settled && book.is_settled(to)),
                "{me:?} has a frame of {to:?}: {letter:?}"
            );
        }
        let last = self.heard.insert(from, letter.number);
        assert!(
            last.is_none_or(|last| last < letter.number),
            "{me:?} heard {last:?} of {from:?} before: {letter:?}"
        );
        book.settle(from);
    }

    /// Goes, in one of several ways. What has to stay a little longer is returned.
    pub(crate) fn die(self, book: &Book, dice: &mut SmallRng) -> (Life, Option<UnixStream>) {
        book.leave(self.station);
        let mut stays = None;
        if let Link::Datagrams(plug) = self.link {
            let Plug { control, data, .. } = *plug;
            match dice.random_range(0..4) {
                0 => {
                    drop(data);
                    drop(control);
                }
                1 => {
                    drop(control);
                    drop(data);
                }
                2 => {
                    control.shutdown(Shutdown::Write).unwrap();
                    drop(data);
                    drop(control);
                }
                _ => {
                    drop(data);
                    stays = Some(control);
                }
            }
        }
        (self.life, stays)
    }
}
