//! Guests' ends of the switch's protocol, written from its description.

use std::{
    io::{self, Read as _, Write as _},
    os::{
        fd::AsRawFd as _,
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixDatagram, UnixStream},
    },
    path::Path,
    process,
    sync::atomic::{AtomicU32, Ordering},
};

use nix::sys::socket::{MsgFlags, recv};

use crate::PATIENCE;

/// The first word of a request of version 1 and later.
pub const MAGIC: u32 = 0xfeed_face;

/// The address of all stations.
pub const BROADCAST: [u8; 6] = [0xff; 6];

/// The length of an address in requests and replies: `sockaddr_un`, all of it.
pub const ADDRESS_LEN: usize = 110;

/// The versions of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// No magic number, 120 bytes, no reply.
    V0,
    /// Magic number, type, Ethernet address: 124 bytes.
    V1,
    /// Magic number, version, type: 122 bytes and two of padding.
    V3,
}

/// A request for that kind of port (0 = a new one) of the guest whose data socket has this address.
#[must_use]
pub fn request(version: Version, kind: u32, address: &[u8; ADDRESS_LEN]) -> Vec<u8> {
    let mut bytes = Vec::new();
    if version != Version::V0 {
        bytes.extend(MAGIC.to_ne_bytes());
    }
    if version == Version::V3 {
        bytes.extend(3_u32.to_ne_bytes());
    }
    bytes.extend(kind.to_ne_bytes());
    if version != Version::V3 {
        bytes.extend(station(0));
    }
    bytes.extend(address);
    if version == Version::V3 {
        bytes.extend([0, 0]);
    }
    bytes
}

/// 110 bytes that name the socket at this path.
#[must_use]
pub fn path_address(path: &Path) -> [u8; ADDRESS_LEN] {
    let mut bytes = [0; ADDRESS_LEN];
    bytes[..2].copy_from_slice(&1_u16.to_ne_bytes());
    let path = path.as_os_str().as_encoded_bytes();
    bytes[2..2 + path.len()].copy_from_slice(path);
    bytes
}

/// 110 bytes that name an abstract socket as guests name theirs: NUL, the process id, a number, and
/// rubbish in all the rest, which is part of the name. No two calls give the same.
#[must_use]
pub fn fresh_address() -> [u8; ADDRESS_LEN] {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let mut bytes = [0xee; ADDRESS_LEN];
    bytes[..2].copy_from_slice(&1_u16.to_ne_bytes());
    bytes[2] = 0;
    bytes[3..7].copy_from_slice(&process::id().to_ne_bytes());
    bytes[7..11].copy_from_slice(&NEXT.fetch_add(1, Ordering::Relaxed).to_ne_bytes());
    bytes
}

/// The socket that 110 bytes name.
#[must_use]
pub fn socket_address(bytes: &[u8; ADDRESS_LEN]) -> SocketAddr {
    let name = &bytes[2..];
    if name[0] == 0 {
        return SocketAddr::from_abstract_name(&name[1..]).expect("an abstract name");
    }
    let end = name
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(name.len());
    let path = String::from_utf8(name[..end].to_vec()).expect("a path");
    SocketAddr::from_pathname(path).expect("a path")
}

/// A guest's end: its connection and its data socket. It is unplugged when dropped.
#[derive(Debug)]
pub struct Plug {
    /// The connection to the control socket.
    pub control: UnixStream,
    /// The guest's data socket.
    pub data: UnixDatagram,
    /// The switch's data socket.
    pub switch: SocketAddr,
    /// The switch's reply, unless the request was of version 0.
    pub reply: Option<[u8; ADDRESS_LEN]>,
}

impl Plug {
    /// Plugs a guest in by a request of that version (not 0) with an abstract data socket.
    ///
    /// Panics when the reply isn't 110 bytes that name a socket.
    #[track_caller]
    #[must_use]
    pub fn new(control: &Path, version: Version) -> Self {
        let address = fresh_address();
        let data = bind(&address);
        Self::ask(control, data, &request(version, 0, &address))
    }

    /// Plugs in by this request a guest that has bound this data socket.
    #[track_caller]
    #[must_use]
    pub fn ask(control: &Path, data: UnixDatagram, request: &[u8]) -> Self {
        let mut stream = connect(control);
        stream.write_all(request).expect("sending a request");
        let mut reply = [0; ADDRESS_LEN];
        stream.read_exact(&mut reply).expect("the switch's reply");
        Self {
            control: stream,
            data,
            switch: socket_address(&reply),
            reply: Some(reply),
        }
    }

    /// Sends a version 0 request. There is no reply: the switch's data socket is known beforehand,
    /// and nothing tells when the guest is plugged in.
    #[track_caller]
    #[must_use]
    pub fn v0(control: &Path, data_socket: &Path) -> Self {
        let address = fresh_address();
        let data = bind(&address);
        let mut stream = connect(control);
        stream
            .write_all(&request(Version::V0, 0, &address))
            .expect("sending a request");
        Self {
            control: stream,
            data,
            switch: SocketAddr::from_pathname(data_socket).expect("a path"),
            reply: None,
        }
    }

    /// Sends a frame to the switch.
    #[track_caller]
    pub fn send(&self, frame: &[u8]) {
        let sent = uninterrupted(|| self.data.send_to_addr(frame, &self.switch));
        sent.expect("sending a frame");
    }

    /// The next frame from the switch. Panics when none comes in time.
    #[track_caller]
    #[must_use]
    pub fn recv(&self) -> Vec<u8> {
        let mut frame = vec![0; 1 << 17];
        let length = uninterrupted(|| self.data.recv(&mut frame)).expect("a frame");
        frame.truncate(length);
        frame
    }

    /// Whether a frame waits.
    #[must_use]
    pub fn has_frame(&self) -> bool {
        self.data.set_nonblocking(true).expect("a data socket");
        let peeked = recv(self.data.as_raw_fd(), &mut [0], MsgFlags::MSG_PEEK);
        self.data.set_nonblocking(false).expect("a data socket");
        peeked.is_ok()
    }
}

/// Does it again where a stop of the whole process broke it off: with a time limit the kernel doesn't
/// go on by itself. Returns what it returned otherwise.
///
/// # Errors
/// Those of the attempt.
pub fn uninterrupted<T>(mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match attempt() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

/// A data socket with this address, whose receiving has a time limit.
#[track_caller]
#[must_use]
pub fn bind(address: &[u8; ADDRESS_LEN]) -> UnixDatagram {
    let data = UnixDatagram::bind_addr(&socket_address(address)).expect("a guest's data socket");
    data.set_read_timeout(Some(PATIENCE)).expect("a time limit");
    data.set_write_timeout(Some(PATIENCE))
        .expect("a time limit");
    data
}

/// A connection to a control socket, with time limits.
#[track_caller]
#[must_use]
pub fn connect(control: &Path) -> UnixStream {
    let stream = UnixStream::connect(control).expect("connecting to the switch");
    stream
        .set_read_timeout(Some(PATIENCE))
        .expect("a time limit");
    stream
        .set_write_timeout(Some(PATIENCE))
        .expect("a time limit");
    stream
}

/// Waits for the switch to close a connection; panics when it doesn't, or sends anything first.
#[track_caller]
pub fn wait_for_close(stream: &mut UnixStream) {
    let mut bytes = [0; 256];
    match uninterrupted(|| stream.read(&mut bytes)) {
        Ok(0) => {}
        Ok(length) => panic!("{length} bytes instead of the end"),
        Err(error) => assert_eq!(
            error.kind(),
            io::ErrorKind::ConnectionReset,
            "the end of a connection"
        ),
    }
}

/// The address of a station: 02:00:00:00:00:N.
#[must_use]
pub fn station(number: u8) -> [u8; 6] {
    [2, 0, 0, 0, 0, number]
}

/// A frame of the ethertype for experiments.
#[must_use]
pub fn frame(destination: [u8; 6], source: [u8; 6], payload: &[u8]) -> Vec<u8> {
    [&destination[..], &source, &[0x88, 0xb5], payload].concat()
}
