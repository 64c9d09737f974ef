//! The management console's datagrams: requests, the pieces of a reply, notifications.
//!
//! All numbers are in the host's own byte order: both ends run on one machine. A guest listens on
//! a datagram socket in the file system; it answers to the address that the request came from.

use byteorder::{ByteOrder as _, NativeEndian};

/// The first number of requests and notifications, `MCONSOLE_MAGIC`.
pub const MAGIC: u32 = 0xcafe_babe;

/// The only version in use, `MCONSOLE_VERSION`.
pub const VERSION: u32 = 2;

/// Room for text in one datagram, its closing NUL included, in bytes: `MCONSOLE_MAX_DATA`.
pub const MAX_DATA: usize = 512;

/// The longest command in bytes; a longer one doesn't fit a request with its closing NUL.
pub const MAX_COMMAND: usize = MAX_DATA - 1;

/// The length of every request in bytes.
pub const REQUEST_LEN: usize = 12 + MAX_DATA;

/// The length of what stands before the text of a reply's piece, in bytes.
pub const PIECE_HEADER_LEN: usize = 12;

/// The length of what stands before the text of a notification, in bytes.
pub const NOTIFICATION_HEADER_LEN: usize = 16;

/// The same where the sender wrote the magic number as eight bytes and padded the rest to that.
pub const WIDE_NOTIFICATION_HEADER_LEN: usize = 24;

/// Why a command can't be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// It is longer than [`MAX_COMMAND`].
    #[error("the command is {found} bytes long: a guest takes {MAX_COMMAND} at most")]
    TooLong {
        /// Its length in bytes.
        found: usize,
    },
    /// It holds a NUL byte, at which a guest would stop reading.
    #[error("the command holds a NUL byte at offset {at}")]
    HoldsNul {
        /// Where, in bytes from its start.
        at: usize,
    },
}

/// Why a datagram is no request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// It is shorter than its header, or than its own length says.
    #[error("{found} bytes are too few for a request: {need} are needed")]
    Truncated {
        /// How many bytes there had to be.
        need: usize,
        /// How many there are.
        found: usize,
    },
    /// It doesn't begin with [`MAGIC`].
    #[error("magic number {found:#x} instead of {MAGIC:#x}")]
    BadMagic {
        /// What it begins with.
        found: u32,
    },
    /// It is of another version than [`VERSION`].
    #[error("version {found} instead of {VERSION}")]
    BadVersion {
        /// Its version.
        found: u32,
    },
    /// Its text can't be a command.
    #[error(transparent)]
    Command(#[from] CommandError),
}

/// A command on its way to a guest.
///
/// Shape, 524 bytes: magic (u32), version (u32), length of the command (u32, without the NUL), the
/// command, zeros to the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    command: Vec<u8>,
}

impl Request {
    /// A request of this command.
    ///
    /// # Errors
    /// A command that doesn't fit, or holds a NUL.
    pub fn new(command: &[u8]) -> Result<Self, CommandError> {
        if command.len() > MAX_COMMAND {
            return Err(CommandError::TooLong {
                found: command.len(),
            });
        }
        if let Some(at) = command.iter().position(|byte| *byte == 0) {
            return Err(CommandError::HoldsNul { at });
        }
        Ok(Self {
            command: command.to_vec(),
        })
    }

    /// The command, without a NUL.
    #[must_use]
    pub fn command(&self) -> &[u8] {
        &self.command
    }

    /// The datagram to send.
    #[must_use]
    pub fn encode(&self) -> [u8; REQUEST_LEN] {
        let mut bytes = [0; REQUEST_LEN];
        let (magic, rest) = bytes.split_at_mut(4);
        let (version, rest) = rest.split_at_mut(4);
        let (len, data) = rest.split_at_mut(4);
        NativeEndian::write_u32(magic, MAGIC);
        NativeEndian::write_u32(version, VERSION);
        // At most 511, by `new`.
        NativeEndian::write_u32(len, u32::try_from(self.command.len()).unwrap_or_default());
        for (to, from) in data.iter_mut().zip(&self.command) {
            *to = *from;
        }
        bytes
    }

    /// Reads a request as a guest does.
    ///
    /// # Errors
    /// Whatever makes it none of this version.
    pub fn decode(datagram: &[u8]) -> Result<Self, RequestError> {
        let truncated = |need| RequestError::Truncated {
            need,
            found: datagram.len(),
        };
        let (Some(magic), Some(version), Some(len)) = (
            number(datagram, 0),
            number(datagram, 4),
            number(datagram, 8),
        ) else {
            return Err(truncated(12));
        };
        if magic != MAGIC {
            return Err(RequestError::BadMagic { found: magic });
        }
        if version != VERSION {
            return Err(RequestError::BadVersion { found: version });
        }
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        if len > MAX_COMMAND {
            return Err(CommandError::TooLong { found: len }.into());
        }
        let command = datagram.get(12..12 + len).ok_or(truncated(12 + len))?;
        Ok(Self::new(command)?)
    }
}

/// One datagram of a reply.
///
/// Shape: error (u32, 0 = none, else mostly a negated error number of the kernel, set on the first
/// piece only), more (u32, 1 = another piece follows), length of the text with its NUL (u32), the
/// text.
///
/// The text ends at its first NUL, or with the datagram: the length is not relied on, which is how
/// the clients of twenty years have read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece<'a> {
    /// 0, or what went wrong, as it came: mostly a negated error number of the guest's kernel.
    pub err: u32,
    /// Whether another piece follows.
    pub more: bool,
    /// The text, without a NUL.
    pub text: &'a [u8],
}

impl<'a> Piece<'a> {
    /// Reads a piece; `None` when the datagram has no header: the plain text with which a guest
    /// answers to what it doesn't take for a request of its version.
    #[must_use]
    pub fn decode(datagram: &'a [u8]) -> Option<Self> {
        let err = number(datagram, 0)?;
        // The same four bytes of a plain text are letters.
        let more = match number(datagram, 4)? {
            0 => false,
            1 => true,
            _ => return None,
        };
        number(datagram, 8)?;
        Some(Self {
            err,
            more,
            text: until_nul(datagram.get(PIECE_HEADER_LEN..)?),
        })
    }

    /// The datagram to send. Text beyond [`MAX_COMMAND`] bytes is left out.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let text = self.text.get(..MAX_COMMAND).unwrap_or(self.text);
        let mut bytes = vec![0; PIECE_HEADER_LEN];
        NativeEndian::write_u32(&mut bytes[0..4], self.err);
        NativeEndian::write_u32(&mut bytes[4..8], u32::from(self.more));
        // At most 512.
        let len = u32::try_from(text.len() + 1).unwrap_or_default();
        NativeEndian::write_u32(&mut bytes[8..12], len);
        bytes.extend_from_slice(text);
        bytes.push(0);
        bytes
    }
}

/// What a notification tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The guest has booted so far that its console answers; the text is the socket's path.
    /// `MCONSOLE_SOCKET`, 0.
    Boot,
    /// The guest's kernel has panicked; the text is the panic's. `MCONSOLE_PANIC`, 1.
    Panic,
    /// A watchdog has heard nothing for too long. `MCONSOLE_HANG`, 2.
    Hang,
    /// Somebody in the guest has written the text to `/proc/mconsole`. `MCONSOLE_USER_NOTIFY`, 3.
    Message,
    /// A number that nothing is known of.
    Other(u32),
}

impl Event {
    /// The number on the wire.
    #[must_use]
    pub fn number(self) -> u32 {
        match self {
            Self::Boot => 0,
            Self::Panic => 1,
            Self::Hang => 2,
            Self::Message => 3,
            Self::Other(number) => number,
        }
    }
}

impl From<u32> for Event {
    fn from(number: u32) -> Self {
        match number {
            0 => Self::Boot,
            1 => Self::Panic,
            2 => Self::Hang,
            3 => Self::Message,
            other => Self::Other(other),
        }
    }
}

/// Why a datagram is no notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotificationError {
    /// It is shorter than its header.
    #[error("{found} bytes are too few for a notification")]
    Truncated {
        /// How many bytes there are.
        found: usize,
    },
    /// It doesn't begin with [`MAGIC`].
    #[error("magic number {found:#x} instead of {MAGIC:#x}")]
    BadMagic {
        /// What it begins with.
        found: u32,
    },
    /// It is of another version than [`VERSION`].
    #[error("version {found} instead of {VERSION}")]
    BadVersion {
        /// Its version.
        found: u32,
    },
}

/// What a guest, or the watchdog beside it, sends of its own accord.
///
/// Shape: magic (u32), version (u32), event (u32), length of the text (u32), the text. The old
/// watchdog on 64-bit hosts sends the magic number as 8 bytes and a header of 24 in all: magic
/// (u64), version (u32), event (u32), length (u32), then its text; both are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Notification<'a> {
    /// What has happened.
    pub event: Event,
    /// More of it, without a NUL.
    pub text: &'a [u8],
}

impl<'a> Notification<'a> {
    /// Reads a notification.
    ///
    /// # Errors
    /// Whatever makes it none of this version.
    pub fn decode(datagram: &'a [u8]) -> Result<Self, NotificationError> {
        let truncated = NotificationError::Truncated {
            found: datagram.len(),
        };
        let magic = number(datagram, 0).ok_or(truncated)?;
        if magic != MAGIC {
            return Err(NotificationError::BadMagic { found: magic });
        }
        let second = number(datagram, 4).ok_or(truncated)?;
        // The upper half of a magic number of eight bytes: zeros, or the sign.
        let wide = second != VERSION && number(datagram, 8) == Some(VERSION);
        let start = if wide { 8 } else { 4 };
        let version = number(datagram, start).ok_or(truncated)?;
        if version != VERSION {
            return Err(NotificationError::BadVersion { found: version });
        }
        let event = number(datagram, start + 4).ok_or(truncated)?;
        let len = number(datagram, start + 8).ok_or(truncated)?;
        let text = datagram.get(start + 12..).unwrap_or_default();
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        Ok(Self {
            event: Event::from(event),
            text: until_nul(text.get(..len).unwrap_or(text)),
        })
    }

    /// The datagram to send, without a closing NUL: 16 bytes and the text. Text beyond
    /// [`MAX_COMMAND`] bytes is left out.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let text = self.text.get(..MAX_COMMAND).unwrap_or(self.text);
        let mut bytes = vec![0; NOTIFICATION_HEADER_LEN];
        NativeEndian::write_u32(&mut bytes[0..4], MAGIC);
        NativeEndian::write_u32(&mut bytes[4..8], VERSION);
        NativeEndian::write_u32(&mut bytes[8..12], self.event.number());
        // At most 511.
        let len = u32::try_from(text.len()).unwrap_or_default();
        NativeEndian::write_u32(&mut bytes[12..16], len);
        bytes.extend_from_slice(text);
        bytes
    }
}

/// The u32 at an offset, where there is a whole one.
fn number(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4).map(NativeEndian::read_u32)
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

#[cfg(test)]
mod tests;
