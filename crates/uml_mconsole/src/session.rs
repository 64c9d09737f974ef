//! One guest: send a request, gather the pieces of the reply, give up after a silence.

use std::{
    io::{self, IoSlice},
    os::{
        fd::{AsFd, AsRawFd as _, RawFd},
        unix::net::UnixDatagram,
    },
    sync::Arc,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{
        AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, bind, connect,
        sendmsg, socket,
    },
};
use uml_core::{
    IoError,
    wire::mconsole::{CommandError, PIECE_HEADER_LEN, Piece, Request},
};

use crate::{
    guests::{Guest, is_socket},
    interrupt::Interrupt,
};

/// The most that a reply may take, headers included: no guest makes the client fill the memory.
const MAX_REPLY_BYTES: usize = 64 << 20;

/// How long a reply may take in all, in times of the silence that is waited for: no guest keeps the
/// client for ever with a little now and then.
const MAX_SILENCES: u32 = 12;

/// How often a silent guest is looked at: is it still there, is anybody still interested?
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Why a request could not be sent.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The command can't be sent at all.
    #[error("not sent")]
    Command(#[from] CommandError),
    /// The socket is there, and nobody listens on it.
    #[error("no guest named '{name}' is running (stale socket {socket})")]
    NotRunning {
        /// The guest.
        name: String,
        /// Its socket.
        socket: String,
    },
    /// There is something else under the socket's name.
    #[error("'{socket}' is no management console's socket")]
    NoConsole {
        /// What was taken for a socket.
        socket: String,
    },
    /// The guest doesn't take the request off its socket.
    #[error("guest '{name}' takes no requests: its queue has been full for {}", seconds(*after))]
    Busy {
        /// The guest.
        name: String,
        /// How long that was waited for.
        after: Duration,
    },
    /// The user didn't want to wait any longer.
    #[error("not sent: interrupted")]
    Interrupted,
    /// The descriptor that was to go with the request can't.
    #[error("passing a descriptor to guest '{name}'")]
    Descriptor {
        /// The guest.
        name: String,
        /// What the system said.
        source: io::Error,
    },
    /// The system refused something.
    #[error(transparent)]
    Io(#[from] IoError),
}

/// How a reply ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// With its last piece.
    Whole,
    /// It was one plain text without a header.
    Plain,
    /// Nothing more came for this long.
    Silence(Duration),
    /// The guest ended before its reply did.
    Gone,
    /// The user didn't want to wait any longer.
    Interrupted,
    /// It was longer than any reply may be, or took longer.
    TooLong,
}

/// What a guest has answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The first error number of its pieces that isn't 0; 0 = none.
    pub err: u32,
    /// The text of all pieces.
    pub text: Vec<u8>,
    /// How many pieces there were.
    pub pieces: usize,
    /// How it ended.
    pub end: End,
}

/// A guest to talk to.
///
/// Every request has a socket of its own: what a guest sends too late for one request can't be
/// taken for the answer to the next. The kernel chooses the socket's address, so that no two
/// clients have the same. The socket is connected to the guest's: only the guest can send to it,
/// and the short queue of a datagram socket (`net.unix.max_dgram_qlen`) doesn't limit how far the
/// guest may be ahead.
#[derive(Debug, Clone)]
pub struct Session {
    guest: Guest,
    timeout: Duration,
    interrupt: Option<Arc<Interrupt>>,
}

impl Session {
    /// A session with this guest that waits this long for each next word.
    #[must_use]
    pub fn new(guest: Guest, timeout: Duration) -> Self {
        Self {
            guest,
            timeout,
            interrupt: None,
        }
    }

    /// The same, which stops waiting when the user says so.
    #[must_use]
    pub fn interrupted_by(mut self, interrupt: Option<&Arc<Interrupt>>) -> Self {
        self.interrupt = interrupt.map(Arc::clone);
        self
    }

    /// The guest.
    #[must_use]
    pub fn guest(&self) -> &Guest {
        &self.guest
    }

    /// Checks that somebody listens on the guest's socket.
    ///
    /// # Errors
    /// Why a request could not be sent.
    pub fn check(&self) -> Result<(), SessionError> {
        open(&self.guest).map(drop)
    }

    /// Sends a command and gathers the reply.
    ///
    /// # Errors
    /// Whatever kept the request from being sent. A reply that is not whole is no error here: its
    /// [`End`] says so.
    pub fn request(&self, command: &[u8]) -> Result<Reply, SessionError> {
        self.exchange(command, None)
    }

    /// As [`Session::request`], with an open descriptor of this process that the guest receives.
    ///
    /// # Errors
    /// As [`Session::request`]; a number that is no open descriptor.
    pub fn request_with(&self, command: &[u8], descriptor: RawFd) -> Result<Reply, SessionError> {
        self.exchange(command, Some(descriptor))
    }

    fn exchange(&self, command: &[u8], attached: Option<RawFd>) -> Result<Reply, SessionError> {
        let request = Request::new(command)?;
        let socket = open(&self.guest)?;
        self.send(&socket, &request.encode(), attached)?;
        Ok(self.gather(&socket)?)
    }

    fn send(
        &self,
        socket: &UnixDatagram,
        datagram: &[u8],
        attached: Option<RawFd>,
    ) -> Result<(), SessionError> {
        let attached: Vec<RawFd> = attached.into_iter().collect();
        let rights = ControlMessage::ScmRights(&attached);
        let control = if attached.is_empty() {
            &[][..]
        } else {
            std::slice::from_ref(&rights)
        };
        let begin = Instant::now();
        loop {
            let sent = sendmsg::<()>(
                socket.as_raw_fd(),
                &[IoSlice::new(datagram)],
                control,
                MsgFlags::MSG_NOSIGNAL,
                None,
            );
            match sent {
                Ok(_) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => {
                    if self.is_interrupted() {
                        return Err(SessionError::Interrupted);
                    }
                    if begin.elapsed() >= self.timeout {
                        return Err(SessionError::Busy {
                            name: self.guest.name.clone(),
                            after: self.timeout,
                        });
                    }
                    self.wait(socket, PollFlags::POLLOUT, self.timeout)
                        .map_err(IoError::at("waiting for", &self.guest.socket))?;
                }
                Err(Errno::ECONNREFUSED | Errno::ECONNRESET | Errno::ENOTCONN) => {
                    return Err(not_running(&self.guest));
                }
                Err(errno @ (Errno::EBADF | Errno::ETOOMANYREFS)) if !attached.is_empty() => {
                    return Err(SessionError::Descriptor {
                        name: self.guest.name.clone(),
                        source: errno.into(),
                    });
                }
                Err(errno) => {
                    let error = io::Error::from(errno);
                    return Err(
                        IoError::at("sending a command to", &self.guest.socket)(error).into(),
                    );
                }
            }
        }
    }

    /// Does nothing but receive, so that it is never behind.
    fn gather(&self, socket: &UnixDatagram) -> Result<Reply, IoError> {
        let mut reply = Reply {
            err: 0,
            text: Vec::new(),
            pieces: 0,
            end: End::Whole,
        };
        let mut taken = 0;
        let begin = Instant::now();
        let mut heard = begin;
        let mut datagram = vec![0; 64 << 10];
        // The guest was not there any more at the last look; what it had sent is still received.
        let mut gone = false;
        loop {
            match socket.recv(&mut datagram) {
                Ok(length) => {
                    let datagram = datagram.get(..length).unwrap_or_default();
                    heard = Instant::now();
                    taken += PIECE_HEADER_LEN.max(length);
                    let end = take(datagram, &mut reply);
                    let is_too_long = taken > MAX_REPLY_BYTES
                        || heard.duration_since(begin) / MAX_SILENCES > self.timeout;
                    if end.is_some() || is_too_long {
                        reply.end = end.unwrap_or(End::TooLong);
                        return Ok(reply);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let silence = heard.elapsed();
                    let end = if self.is_interrupted() {
                        Some(End::Interrupted)
                    } else if gone {
                        Some(End::Gone)
                    } else if silence >= self.timeout {
                        Some(End::Silence(self.timeout))
                    } else {
                        None
                    };
                    if let Some(end) = end {
                        reply.end = end;
                        return Ok(reply);
                    }
                    let left = self.timeout.saturating_sub(silence);
                    let ready = self
                        .wait(socket, PollFlags::POLLIN, left)
                        .map_err(IoError::at("waiting for", &self.guest.socket))?;
                    gone = !ready && self.check().is_err();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    return Err(IoError::at("receiving from", &self.guest.socket)(error));
                }
            }
        }
    }

    /// Waits a little, and no longer than `most`, for the socket to be ready; says whether it is.
    /// A signal ends the wait too.
    fn wait(&self, socket: &UnixDatagram, events: PollFlags, most: Duration) -> io::Result<bool> {
        let mut fds = vec![PollFd::new(socket.as_fd(), events)];
        if let Some(interrupt) = &self.interrupt {
            fds.push(PollFd::new(interrupt.as_fd(), PollFlags::POLLIN));
        }
        // Rounded up, lest the last millisecond be waited for in a busy loop.
        let most = most.min(LOOK_EVERY) + Duration::from_millis(1);
        let timeout = PollTimeout::try_from(most).unwrap_or(PollTimeout::ZERO);
        match poll(&mut fds, timeout) {
            Ok(_) => Ok(fds.first().and_then(PollFd::any).unwrap_or_default()),
            Err(Errno::EINTR) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    fn is_interrupted(&self) -> bool {
        self.interrupt.as_ref().is_some_and(|user| user.take())
    }
}

/// Adds a datagram to a reply; says how the reply ended if it did.
fn take(datagram: &[u8], reply: &mut Reply) -> Option<End> {
    reply.pieces += 1;
    let Some(piece) = Piece::decode(datagram) else {
        let text = datagram.strip_suffix(b"\0").unwrap_or(datagram);
        reply.text.extend_from_slice(text);
        return Some(End::Plain);
    };
    if reply.err == 0 {
        reply.err = piece.err;
    }
    reply.text.extend_from_slice(piece.text);
    (!piece.more).then_some(End::Whole)
}

/// A non-blocking socket with an address of the kernel's choice, connected to the guest's.
fn open(guest: &Guest) -> Result<UnixDatagram, SessionError> {
    let io_error = |doing| {
        let path = &guest.socket;
        move |errno: Errno| SessionError::Io(IoError::at(doing, path)(errno.into()))
    };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let own = socket(AddressFamily::Unix, SockType::Datagram, flags, None)
        .map_err(io_error("making a socket for"))?;
    bind(own.as_raw_fd(), &UnixAddr::new_unnamed()).map_err(io_error("making an address for"))?;
    let address = UnixAddr::new(&guest.socket).map_err(io_error("connecting to"))?;
    match connect(own.as_raw_fd(), &address) {
        Ok(()) => Ok(UnixDatagram::from(own)),
        Err(Errno::ECONNREFUSED) if is_socket(&guest.socket) => Err(not_running(guest)),
        Err(Errno::ECONNREFUSED | Errno::EPROTOTYPE) => Err(SessionError::NoConsole {
            socket: guest.socket.display().to_string(),
        }),
        Err(errno) => Err(io_error("connecting to")(errno)),
    }
}

fn not_running(guest: &Guest) -> SessionError {
    SessionError::NotRunning {
        name: guest.name.clone(),
        socket: guest.socket.display().to_string(),
    }
}

/// A length of time for people: `5 s`, `0.2 s`.
pub(crate) fn seconds(duration: Duration) -> String {
    let tenths = duration.as_millis() / 100;
    if tenths % 10 == 0 {
        format!("{} s", tenths / 10)
    } else {
        format!("{}.{} s", tenths / 10, tenths % 10)
    }
}
