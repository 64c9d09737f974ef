//! Descriptors that whoever started the switch left open for it.

use std::{
    collections::BTreeSet,
    env, io,
    os::fd::{AsRawFd as _, OwnedFd, RawFd},
    process,
};

use nix::sys::socket::{SockType, UnixAddr, getsockname, getsockopt, sockopt};
use uml_core::sys::background::inherited;

use crate::{
    callers::Dialect,
    cli::Cli,
    link::Kind,
    server::Door,
    setup::{SetupError, set_nonblocking},
};

/// What was left for the switch.
#[derive(Debug)]
pub(crate) struct Inherited {
    /// The ports of `--fd`: how each carries frames, its name, its socket.
    pub(crate) links: Vec<(Kind, String, OwnedFd)>,
    /// The sockets that a service manager listens at.
    pub(crate) doors: Vec<Door>,
}

impl Inherited {
    /// Takes over what the command line and the environment tell of. To be called once, before
    /// anything is opened: that might get the number of a descriptor that isn't there.
    ///
    /// # Errors
    /// A descriptor that isn't there, is told of twice, or is of another kind than it has to be.
    pub(crate) fn take(cli: &Cli) -> Result<Self, SetupError> {
        let mut taken = BTreeSet::new();
        let mut links = Vec::new();
        for &number in &cli.fd {
            links.push(link(number, &mut taken)?);
        }
        let doors = doors(&mut taken)?;
        Ok(Self { links, doors })
    }
}

fn claim(number: RawFd, taken: &mut BTreeSet<RawFd>) -> io::Result<OwnedFd> {
    if !taken.insert(number) {
        return Err(wrong("it is named twice"));
    }
    inherited(number)
}

fn wrong(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}

fn link(number: RawFd, taken: &mut BTreeSet<RawFd>) -> Result<(Kind, String, OwnedFd), SetupError> {
    let failed = |source: io::Error| SetupError::Descriptor { number, source };
    let socket = claim(number, taken).map_err(failed)?;
    let kind = match getsockopt(&socket, sockopt::SockType) {
        Ok(SockType::Datagram) => Kind::Datagram,
        Ok(SockType::SeqPacket) => Kind::Packet,
        Ok(_) => {
            let what = "it is a stream: a socket of datagrams or packets is needed";
            return Err(failed(wrong(what)));
        }
        Err(error) => return Err(failed(error.into())),
    };
    set_nonblocking(&socket).map_err(failed)?;
    Ok((kind, format!("descriptor {number}"), socket))
}

/// The sockets that a service manager has opened: descriptors 3 and up, `LISTEN_FDS` of them, if
/// `LISTEN_PID` is this process.
///
/// A stream socket is the control socket, or VDE's if its name in `LISTEN_FDNAMES` is `vde`; a
/// packet socket is one for `transport=bess`.
fn doors(taken: &mut BTreeSet<RawFd>) -> Result<Vec<Door>, SetupError> {
    let number = |name: &str| env::var(name).ok()?.parse::<u32>().ok();
    if number("LISTEN_PID") != Some(process::id()) {
        return Ok(Vec::new());
    }
    let count = number("LISTEN_FDS").unwrap_or_default().min(64);
    let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    let mut doors = Vec::new();
    for number in (3..).take(count as usize) {
        let failed = |source: io::Error| SetupError::Descriptor { number, source };
        let socket = claim(number, taken).map_err(failed)?;
        let kind = getsockopt(&socket, sockopt::SockType).map_err(|error| failed(error.into()))?;
        let dialect = match (kind, names.next()) {
            (SockType::Stream, Some("vde")) => Some(Dialect::Vde),
            (SockType::Stream, _) => Some(Dialect::Guest),
            (SockType::SeqPacket, _) => None,
            _ => {
                let what = "it isn't a socket that connections are taken from";
                return Err(failed(wrong(what)));
            }
        };
        set_nonblocking(&socket).map_err(failed)?;
        let path = getsockname::<UnixAddr>(socket.as_raw_fd()).ok();
        let path = path.as_ref().and_then(UnixAddr::path);
        doors.push(Door {
            name: path.map_or_else(
                || format!("descriptor {number}"),
                |path| path.display().to_string(),
            ),
            socket: socket.into(),
            dialect,
            _path: None,
        });
    }
    Ok(doors)
}
