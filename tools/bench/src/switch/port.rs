//! A plugged-in port: the client's side of the daemon, VDE and BESS protocols.

use std::{
    fs,
    io::{Read as _, Write as _},
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::{ffi::OsStrExt as _, net::UnixStream},
    },
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::{
        socket::{
            AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, bind, connect, recv, send,
            sendto, setsockopt, socket, sockopt::ReceiveTimeout, sockopt::SendTimeout,
        },
        time::{TimeVal, TimeValLike as _},
    },
};
use uml_core::error::IoError;

use crate::{error::Error, switch::frame::Mac};

const MAGIC: u32 = 0xfeed_face;
/// The bytes of a `sockaddr_un`: family and 108 bytes of path.
const ADDRESS: usize = 110;
/// The longest abstract name, without its leading NUL.
const NAME: usize = 107;

/// Where and how a switch is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// The control socket of `eth0=daemon`, version 3.
    Daemon(PathBuf),
    /// The directory of a VDE switch.
    Vde(PathBuf),
    /// The SEQPACKET socket of `vec0:transport=bess`.
    Bess(PathBuf),
}

/// A port as a guest has one. Dropping it unplugs it.
#[derive(Debug)]
pub struct Port {
    /// The socket that frames go through.
    pub socket: OwnedFd,
    /// Where frames are sent to, unless the socket is connected.
    ///
    /// A guest's daemon transport doesn't connect its socket: the kernel then bounds its queue by
    /// `max_dgram_qlen`, which a connected pair escapes.
    pub to: Option<UnixAddr>,
    /// The address that the port's frames carry.
    pub mac: Mac,
    _control: Option<UnixStream>,
}

/// Numbers the ports of this process.
static NEXT: AtomicU32 = AtomicU32::new(0);

impl Port {
    /// Plugs a new port in.
    ///
    /// # Errors
    /// The switch isn't there, or refuses.
    pub fn plug(endpoint: &Endpoint) -> Result<Self, Error> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let mac = Mac::numbered(number);
        let port = match endpoint {
            Endpoint::Daemon(path) => Self::daemon(path, number, mac)?,
            Endpoint::Vde(dir) => Self::vde(dir, number, mac)?,
            Endpoint::Bess(path) => Self::bess(path, mac)?,
        };
        setsockopt(&port.socket, SendTimeout, &TimeVal::seconds(5))
            .map_err(Error::system("bounding sends"))?;
        port.receive_within(Duration::from_secs(5))?;
        Ok(port)
    }

    /// A connected socket without a switch's protocol.
    #[must_use]
    pub fn bare(socket: OwnedFd) -> Self {
        Self {
            socket,
            to: None,
            mac: Mac::numbered(NEXT.fetch_add(1, Ordering::Relaxed)),
            _control: None,
        }
    }

    fn daemon(path: &Path, number: u32, mac: Mac) -> Result<Self, Error> {
        let mut name = [b'.'; NAME];
        let text = format!("uml-bench/{}/{number}", std::process::id());
        for (to, from) in name.iter_mut().zip(text.bytes()) {
            *to = from;
        }
        let own = UnixAddr::new_abstract(&name).map_err(Error::system("naming a socket"))?;
        let socket = new_socket(SockType::Datagram)?;
        bind(socket.as_raw_fd(), &own).map_err(Error::system("binding a data socket"))?;
        let mut request = request(0);
        request.push(0);
        request.extend(name);
        request.resize(124, 0);
        let (control, reply) = ask(path, &request)?;
        Ok(Self {
            socket,
            to: Some(address(&reply, path)?),
            mac,
            _control: Some(control),
        })
    }

    fn vde(dir: &Path, number: u32, mac: Mac) -> Result<Self, Error> {
        let own = dir.join(format!(".{}-{number:05}", std::process::id()));
        let socket = new_socket(SockType::Datagram)?;
        let own_address = unix_address(&own)?;
        bind(socket.as_raw_fd(), &own_address).map_err(Error::system("binding a data socket"))?;
        let mut request = request(0);
        request.extend(own.as_os_str().as_bytes());
        request.resize(12 + ADDRESS, 0);
        request.extend(b"benchmark");
        let asked = ask(&dir.join("ctl"), &request);
        let connected = asked.and_then(|(control, reply)| {
            let to = address(&reply, dir)?;
            connect(socket.as_raw_fd(), &to).map_err(Error::system("connecting to the port"))?;
            Ok(control)
        });
        fs::remove_file(&own).map_err(IoError::at("removing", &own))?;
        Ok(Self {
            socket,
            to: None,
            mac,
            _control: Some(connected?),
        })
    }

    fn bess(path: &Path, mac: Mac) -> Result<Self, Error> {
        let socket = new_socket(SockType::SeqPacket)?;
        connect(socket.as_raw_fd(), &unix_address(path)?)
            .map_err(|errno| IoError::at("connecting to", path)(errno.into()))?;
        Ok(Self {
            socket,
            to: None,
            mac,
            _control: None,
        })
    }

    /// Bounds how long a receive waits; 0 waits for ever.
    ///
    /// # Errors
    /// The system refuses.
    pub fn receive_within(&self, limit: Duration) -> Result<(), Error> {
        let micros = i64::try_from(limit.as_micros()).unwrap_or(i64::MAX);
        setsockopt(&self.socket, ReceiveTimeout, &TimeVal::microseconds(micros))
            .map_err(Error::system("bounding receives"))
    }

    /// Sends one frame, and waits for room.
    ///
    /// # Errors
    /// What the system says.
    pub fn send(&self, frame: &[u8]) -> Result<(), Errno> {
        let fd = self.socket.as_raw_fd();
        match &self.to {
            Some(to) => sendto(fd, frame, to, MsgFlags::empty()),
            None => send(fd, frame, MsgFlags::empty()),
        }
        .map(drop)
    }

    /// Receives one frame; returns its length, or nothing when the time is up.
    ///
    /// # Errors
    /// What the system says.
    pub fn receive(&self, frame: &mut [u8]) -> Result<Option<usize>, Errno> {
        self.receive_with(frame, MsgFlags::empty())
    }

    /// Receives one frame that is there already.
    ///
    /// # Errors
    /// What the system says.
    pub fn receive_ready(&self, frame: &mut [u8]) -> Result<Option<usize>, Errno> {
        self.receive_with(frame, MsgFlags::MSG_DONTWAIT)
    }

    fn receive_with(&self, frame: &mut [u8], flags: MsgFlags) -> Result<Option<usize>, Errno> {
        match recv(self.socket.as_raw_fd(), frame, flags) {
            Ok(length) => Ok(Some(length)),
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// Throws away what has been received so far.
    pub fn drain(&self) {
        let mut frame = [0; 2048];
        while let Ok(Some(_)) = self.receive_ready(&mut frame) {}
    }
}

/// The first words of a version 3 request for a new port, and the family of the address.
fn request(kind: u32) -> Vec<u8> {
    let mut request = Vec::with_capacity(128);
    for word in [MAGIC, 3, kind] {
        request.extend(word.to_ne_bytes());
    }
    request.extend(1_u16.to_ne_bytes());
    request
}

fn ask(path: &Path, request: &[u8]) -> Result<(UnixStream, [u8; ADDRESS]), Error> {
    let mut control = UnixStream::connect(path).map_err(IoError::at("connecting to", path))?;
    control
        .set_read_timeout(Some(Duration::from_secs(10)))
        .map_err(IoError::at("bounding the answer of", path))?;
    control
        .write_all(request)
        .map_err(IoError::at("asking", path))?;
    let mut reply = [0; ADDRESS];
    control
        .read_exact(&mut reply)
        .map_err(IoError::at("reading the answer of", path))?;
    Ok((control, reply))
}

/// The address that a switch answered with.
fn address(reply: &[u8; ADDRESS], peer: &Path) -> Result<UnixAddr, Error> {
    let address = match reply {
        [_, _, 0, name @ ..] => UnixAddr::new_abstract(name),
        [_, _, path @ ..] => {
            let length = path.iter().position(|byte| *byte == 0);
            let path = path.get(..length.unwrap_or(path.len())).unwrap_or_default();
            UnixAddr::new(path)
        }
    };
    Ok(address.map_err(|errno| IoError::at("reading the answer of", peer)(errno.into()))?)
}

fn unix_address(path: &Path) -> Result<UnixAddr, Error> {
    Ok(UnixAddr::new(path).map_err(|errno| IoError::at("naming", path)(errno.into()))?)
}

fn new_socket(kind: SockType) -> Result<OwnedFd, Error> {
    socket(AddressFamily::Unix, kind, SockFlag::SOCK_CLOEXEC, None)
        .map_err(Error::system("making a socket"))
}
