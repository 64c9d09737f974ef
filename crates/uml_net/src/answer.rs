//! Answers, on descriptors that the caller chose.
//!
//! A descriptor may be anything: no write waits for longer than `PATIENCE`, and all are done with
//! the caller's rights.

use std::{
    io::{self, IoSlice},
    os::fd::{AsFd, AsRawFd as _, BorrowedFd},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{
        AddressFamily, ControlMessage, MsgFlags, SockType, SockaddrLike as _, SockaddrStorage,
        getsockname, getsockopt, sendmsg, sockopt,
    },
};
use uml_core::{console, wire::helper};

use crate::args::Reply;

/// How long an answer waits for its reader to make room.
const PATIENCE: Duration = Duration::from_secs(5);
/// `PIPE_BUF`: a pipe that has room has it for this many bytes.
const PIECE: usize = 4096;

/// What an answer tells.
#[derive(Debug, Clone, Copy)]
pub struct Answer<'a> {
    /// The tap's name and descriptor, where one was made.
    pub tap: Option<(&'a str, BorrowedFd<'a>)>,
    /// What the guest prints.
    pub log: &'a str,
    /// Whether all went well.
    pub worked: bool,
}

/// The descriptors that a call may name by their numbers.
#[derive(Debug)]
pub struct Descriptors<'a> {
    stdin: io::Stdin,
    stdout: io::Stdout,
    stderr: io::Stderr,
    named: Option<BorrowedFd<'a>>,
}

impl<'a> Descriptors<'a> {
    /// The standard ones, and the one beyond them that the call names.
    #[must_use]
    pub fn with(named: Option<BorrowedFd<'a>>) -> Self {
        Self {
            stdin: io::stdin(),
            stdout: io::stdout(),
            stderr: io::stderr(),
            named,
        }
    }

    /// The descriptor of this number; beyond 2 it is the one that the call names.
    ///
    /// # Errors
    /// `EBADF` where the call names none, or one that isn't open.
    pub fn get(&self, number: i32) -> io::Result<BorrowedFd<'_>> {
        match number {
            0 => Ok(self.stdin.as_fd()),
            1 => Ok(self.stdout.as_fd()),
            2 => Ok(self.stderr.as_fd()),
            _ => self.named.ok_or_else(|| Errno::EBADF.into()),
        }
    }
}

/// What a descriptor is, as far as answers go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A socket that keeps messages apart.
    Messages,
    /// Another socket, or a pipe.
    Bytes,
    /// Something that no guest reads from.
    Other,
}

/// Answers in the way that the call's version wants.
///
/// # Errors
/// What the system said, with the number of the descriptor. Nobody has the tap then.
pub fn send(
    reply: Reply,
    descriptors: &Descriptors<'_>,
    answer: Answer<'_>,
) -> Result<(), (i32, io::Error)> {
    let stdout = &descriptors.stdout;
    let of = |number| descriptors.get(number).map_err(|error| (number, error));
    let counted = || helper::counted(answer.log);
    match reply {
        Reply::Message(number) => message(of(number)?, answer).map_err(|error| (number, error)),
        Reply::MessageThenCount => message(stdout.as_fd(), answer)
            .map(|()| {
                // The guest has its tap by now: should this be lost, nothing is.
                let _ = write(stdout.as_fd(), &helper::counted_nothing(), &[]);
            })
            .map_err(|error| (1, error)),
        Reply::Counted => write(stdout.as_fd(), &counted(), &[]).map_err(|error| (1, error)),
        Reply::Byte(number) => {
            tell_unless(answer.worked, answer.log);
            write(of(number)?, &helper::ethertap_byte(answer.worked), &[])
                .map_err(|error| (number, error))
        }
        Reply::ByteThenCounted => {
            let bytes = helper::ethertap(answer.worked, answer.log);
            write(stdout.as_fd(), &bytes, &[]).map_err(|error| (1, error))
        }
        Reply::Errors => {
            tell_unless(answer.worked, answer.log);
            Ok(())
        }
        Reply::Unknown => {
            tell_unless(answer.worked, answer.log);
            match kind(stdout.as_fd()) {
                Kind::Messages => write(stdout.as_fd(), &helper::text(answer.log), &[]),
                Kind::Bytes => write(stdout.as_fd(), &counted(), &[]),
                Kind::Other => Ok(()),
            }
            .map_err(|error| (1, error))
        }
    }
}

/// Whether a descriptor can be sent through this one: it is a local socket.
#[must_use]
pub fn takes_descriptors(fd: BorrowedFd<'_>) -> bool {
    getsockname::<SockaddrStorage>(fd.as_raw_fd())
        .is_ok_and(|address| address.family() == Some(AddressFamily::Unix))
}

/// Writes to standard error, where that doesn't keep anybody waiting.
pub fn tell(text: &str) {
    let stderr = io::stderr();
    if room(stderr.as_fd(), Duration::ZERO).is_ok() {
        let mut end = text.len().min(PIECE - 1);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        console::note(text[..end].trim_end_matches('\n'));
    }
}

fn tell_unless(worked: bool, log: &str) {
    if !worked {
        tell(log);
    }
}

fn message(fd: BorrowedFd<'_>, answer: Answer<'_>) -> io::Result<()> {
    match answer.tap {
        Some((name, tap)) => write(fd, &helper::tap(name, answer.log), &[tap.as_raw_fd()]),
        None => write(fd, &helper::text(answer.log), &[]),
    }
}

/// Writes all bytes, the first with the descriptors, within [`PATIENCE`].
fn write(fd: BorrowedFd<'_>, bytes: &[u8], descriptors: &[i32]) -> io::Result<()> {
    let end = Instant::now() + PATIENCE;
    let mut rest = bytes;
    let mut descriptors = descriptors;
    while !rest.is_empty() {
        let control = [ControlMessage::ScmRights(descriptors)];
        let control = if descriptors.is_empty() {
            &[]
        } else {
            control.as_slice()
        };
        let sent = sendmsg::<()>(
            fd.as_raw_fd(),
            &[IoSlice::new(rest)],
            control,
            MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL,
            None,
        );
        let sent = match sent {
            Err(Errno::ENOTSOCK) if descriptors.is_empty() => {
                room(fd, end.saturating_duration_since(Instant::now()))?;
                nix::unistd::write(fd, rest.get(..PIECE).unwrap_or(rest))
            }
            other => other,
        };
        match sent {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(length) => {
                rest = rest.get(length..).unwrap_or_default();
                descriptors = &[];
            }
            Err(Errno::EAGAIN) => room(fd, end.saturating_duration_since(Instant::now()))?,
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Waits until a descriptor has room.
fn room(fd: BorrowedFd<'_>, limit: Duration) -> io::Result<()> {
    let mut fds = [PollFd::new(fd, PollFlags::POLLOUT)];
    let timeout = PollTimeout::try_from(limit).unwrap_or(PollTimeout::ZERO);
    match poll(&mut fds, timeout)? {
        0 => Err(Errno::ETIMEDOUT.into()),
        _ => Ok(()),
    }
}

fn kind(fd: BorrowedFd<'_>) -> Kind {
    match getsockopt(&fd, sockopt::SockType) {
        Ok(SockType::Datagram | SockType::SeqPacket) => Kind::Messages,
        Ok(_) => Kind::Bytes,
        Err(_) => match nix::sys::stat::fstat(fd) {
            Ok(stat) if stat.st_mode & libc::S_IFMT == libc::S_IFIFO => Kind::Bytes,
            _ => Kind::Other,
        },
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        io::Read as _,
        os::unix::net::{UnixDatagram, UnixStream},
    };

    use super::*;

    #[test]
    fn kinds_of_descriptors() {
        let (datagrams, _other) = UnixDatagram::pair().unwrap();
        let (stream, _other) = UnixStream::pair().unwrap();
        let (_reader, pipe) = nix::unistd::pipe().unwrap();
        let file = File::open("/dev/null").unwrap();
        assert_eq!(kind(datagrams.as_fd()), Kind::Messages);
        assert_eq!(kind(stream.as_fd()), Kind::Bytes);
        assert_eq!(kind(pipe.as_fd()), Kind::Bytes);
        assert_eq!(kind(file.as_fd()), Kind::Other);
        assert!(takes_descriptors(datagrams.as_fd()));
        assert!(!takes_descriptors(pipe.as_fd()));
        let internet = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(!takes_descriptors(internet.as_fd()));
    }

    #[test]
    fn pipes_and_streams_get_all_bytes() {
        let bytes = vec![7; 3 * PIECE + 1];
        let (reader, writer) = nix::unistd::pipe().unwrap();
        let mut reader = File::from(reader);
        write(writer.as_fd(), &bytes, &[]).unwrap();
        drop(writer);
        let mut read = Vec::new();
        reader.read_to_end(&mut read).unwrap();
        assert_eq!(read, bytes);
        let (mut reader, writer) = UnixStream::pair().unwrap();
        write(writer.as_fd(), &bytes, &[]).unwrap();
        drop(writer);
        read.clear();
        reader.read_to_end(&mut read).unwrap();
        assert_eq!(read, bytes);
    }

    #[test]
    fn nobody_there_is_an_error() {
        let (datagrams, other) = UnixDatagram::pair().unwrap();
        drop(other);
        assert!(write(datagrams.as_fd(), b"x", &[]).is_err());
        let (reader, pipe) = nix::unistd::pipe().unwrap();
        drop(reader);
        assert!(write(pipe.as_fd(), b"x", &[]).is_err());
        // A pipe carries no descriptors.
        let (_reader, pipe) = nix::unistd::pipe().unwrap();
        assert!(write(pipe.as_fd(), b"x", &[pipe.as_raw_fd()]).is_err());
    }
}
