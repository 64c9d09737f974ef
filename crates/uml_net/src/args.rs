//! What a guest asks for, read from untrusted bytes.
//!
//! The guest's kernel starts `uml_net VERSION TRANSPORT ARGS…`; where the first word is no number,
//! that is version 0 and the first word is the transport. Each version has its own places for
//! descriptors and addresses, and its own way to be answered:
//!
//! | version | call | answer |
//! | --- | --- | --- |
//! | 4 | `tuntap up GATE` | [`Reply::Message`] on descriptor 1 |
//! | 3 | `tuntap up ANY GATE` | [`Reply::MessageThenCount`] on descriptor 1 |
//! | 2 | `tuntap up ANY FD GATE` | [`Reply::Message`] on descriptor FD |
//! | 4 | `add\|del DEV IP NETMASK`, `tuntap add\|del DEV IP NETMASK` | [`Reply::Counted`] |
//! | 3 | `tuntap add\|del DEV IP` | [`Reply::Counted`] |
//! | 2 | `tuntap add\|del ANY DEV IP` | [`Reply::Errors`] |
//! | 4 | `slip up GATE`, `slip down` (descriptor 0) | [`Reply::Counted`] |
//! | 3 | `slip up FD GATE`, `slip down FD` | [`Reply::Counted`] |
//! | 0–2 | `slip up FD GATE`, `slip down FD` | [`Reply::Errors`] |
//! | 3, 4 | `ethertap DEV DATA_FD [GATE]` | [`Reply::ByteThenCounted`] |
//! | 1, 2 | `ethertap DEV DATA_FD CONTROL_FD [GATE]` | [`Reply::Byte`] on CONTROL_FD |
//! | 0 | `ethertap DEV DATA_FD [GATE]` | [`Reply::Errors`] |

mod words;

use std::{ffi::OsString, net::Ipv4Addr, os::unix::ffi::OsStrExt as _};

use uml_core::hostnet::{BadName, DeviceName};

use crate::cli::USAGE;
use words::{address, decimal, descriptor, shown};

/// The newest version of the protocol.
pub const NEWEST: u32 = 4;

/// The descriptor on which most calls are answered.
const STDOUT: i32 = 1;

/// A call: how it is answered in any case, and what it asks for, or why that can't be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// How the guest reads the answer.
    pub reply: Reply,
    /// What is asked for.
    pub request: Result<Request, BadCall>,
}

/// What a guest can ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// A new tap device, with this address of the host's on it.
    TapUp {
        /// The host's end.
        gate: Ipv4Addr,
    },
    /// A guest's address, reached through a device from now on.
    Add(GuestAddress),
    /// A guest's address that is to be forgotten.
    Delete(GuestAddress),
    /// A serial line that becomes a network device, with this address of the host's on it.
    SlipUp {
        /// The number of the line's descriptor.
        line: i32,
        /// The host's end.
        gate: Ipv4Addr,
    },
    /// A serial line that becomes a plain one again.
    SlipDown {
        /// The number of the line's descriptor.
        line: i32,
    },
}

/// A guest's address behind a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestAddress {
    /// The host's device.
    pub device: DeviceName,
    /// The guest's address.
    pub address: Ipv4Addr,
    /// The mask of the guest's network, which versions before 4 don't tell.
    pub netmask: Option<Ipv4Addr>,
}

/// How a guest reads the answer. The numbers are those of descriptors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// One message: name, text, and the tap's descriptor; on failure the text alone.
    Message(i32),
    /// The same on descriptor 1, then a counted text of no bytes.
    MessageThenCount,
    /// A counted text on descriptor 1.
    Counted,
    /// A byte on this descriptor; the text on standard error.
    Byte(i32),
    /// A byte and a counted text on descriptor 1.
    ByteThenCounted,
    /// The text on standard error where something went wrong, and nothing else.
    Errors,
    /// Nobody can know: a message where descriptor 1 is a datagram socket, a counted text where it
    /// is another socket or a pipe; and the text on standard error.
    Unknown,
}

impl Reply {
    /// The number of the descriptor, other than 0 to 2, that the answer goes to.
    #[must_use]
    const fn descriptor(self) -> Option<i32> {
        match self {
            Self::Message(number) | Self::Byte(number) if number > 2 => Some(number),
            _ => None,
        }
    }
}

/// Why a call can't be understood. The texts are what the guest prints.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadCall {
    /// Fewer than two words.
    #[error("{}", USAGE.text)]
    TooShort,
    /// A version that this program doesn't know.
    #[error("Version mismatch - requested version {0}, uml_net supports up to version {NEWEST}")]
    Version(String),
    /// No such transport in any version.
    #[error("Unknown transport : '{0}'")]
    Transport(String),
    /// A transport that this version doesn't have.
    #[error("No version #{version} handler for '{transport}'")]
    Handler {
        /// The version asked for.
        version: u32,
        /// The transport.
        transport: &'static str,
    },
    /// No such operation of this transport.
    #[error("Bad {transport} op : '{op}'")]
    Operation {
        /// The transport.
        transport: &'static str,
        /// The operation.
        op: String,
    },
    /// An argument is missing.
    #[error("Too few arguments to {0}")]
    Missing(&'static str),
    /// Not an IPv4 address in dotted form.
    #[error("'{0}' is no IPv4 address")]
    Address(String),
    /// Not a netmask in dotted form.
    #[error("'{0}' is no netmask")]
    Netmask(String),
    /// Not the number of a descriptor.
    #[error("'{0}' is no descriptor")]
    Descriptor(String),
    /// More bytes than a device's name can have.
    #[error("device name '{name}' is {length} bytes long, 15 are allowed")]
    LongDevice {
        /// What of it can be shown.
        name: String,
        /// Its length in bytes.
        length: usize,
    },
    /// Bytes that are no text.
    #[error("'{0}' is no device name")]
    DeviceBytes(String),
    /// Another text that no device can have as its name.
    #[error(transparent)]
    Device(#[from] BadName),
    /// A transport that has been gone for twenty years.
    #[error("ethertap: no kernel since 2.6 has the ethertap driver; use eth0=tuntap,,,ADDRESS")]
    Ethertap,
}

impl Call {
    /// Reads the words after the program's name.
    #[must_use]
    pub fn parse(words: &[OsString]) -> Self {
        let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        let [first, second, rest @ ..] = words.as_slice() else {
            return Self::unknown(BadCall::TooShort);
        };
        match version(first) {
            Ok(Some(version)) => transport(version, second, rest),
            Ok(None) => transport(0, first, &words[1..]),
            Err(error) => Self::unknown(error),
        }
    }

    /// The number of the descriptor beyond the standard ones that the call names.
    #[must_use]
    pub fn descriptor(&self) -> Option<i32> {
        let line = match self.request {
            Ok(Request::SlipUp { line, .. } | Request::SlipDown { line }) => Some(line),
            _ => None,
        };
        line.filter(|&number| number > 2)
            .or_else(|| self.reply.descriptor())
    }

    const fn unknown(error: BadCall) -> Self {
        Self {
            reply: Reply::Unknown,
            request: Err(error),
        }
    }
}

/// The version; nothing where the word doesn't begin as a number does.
fn version(word: &[u8]) -> Result<Option<u32>, BadCall> {
    let digits = word.strip_prefix(b"-").unwrap_or(word);
    if !digits.first().is_some_and(u8::is_ascii_digit) {
        return Ok(None);
    }
    decimal(word)
        .filter(|&number| number <= NEWEST)
        .map(Some)
        .ok_or_else(|| BadCall::Version(shown(word)))
}

fn transport(version: u32, name: &[u8], args: &[&[u8]]) -> Call {
    let handler = |transport| Call::unknown(BadCall::Handler { version, transport });
    match (name, version) {
        (b"tuntap", 2..) => tuntap(version, args),
        (b"tuntap", _) => handler("tuntap"),
        (b"slip", _) => slip(version, args),
        (b"ethertap", _) => ethertap(version, args),
        (b"add", 4..) => Call {
            reply: Reply::Counted,
            request: guest_address("add", args, Netmask::Told).map(Request::Add),
        },
        (b"del", 4..) => Call {
            reply: Reply::Counted,
            request: guest_address("del", args, Netmask::Told).map(Request::Delete),
        },
        (b"add", _) => handler("add"),
        (b"del", _) => handler("del"),
        _ => Call::unknown(BadCall::Transport(shown(name))),
    }
}

fn tuntap(version: u32, args: &[&[u8]]) -> Call {
    let Some((&op, args)) = args.split_first() else {
        return Call::unknown(BadCall::Missing("tuntap"));
    };
    match op {
        b"up" => tuntap_up(version, args),
        b"add" | b"del" => {
            let name = if op == b"add" {
                "tuntap add"
            } else {
                "tuntap del"
            };
            let (reply, address) = match version {
                4.. => (Reply::Counted, guest_address(name, args, Netmask::Told)),
                3 => (Reply::Counted, guest_address(name, args, Netmask::Untold)),
                _ => {
                    let args = args.get(1..).unwrap_or_default();
                    (Reply::Errors, guest_address(name, args, Netmask::Untold))
                }
            };
            let request = if op == b"add" {
                Request::Add
            } else {
                Request::Delete
            };
            Call {
                reply,
                request: address.map(request),
            }
        }
        _ => Call::unknown(BadCall::Operation {
            transport: "tuntap",
            op: shown(op),
        }),
    }
}

fn tuntap_up(version: u32, args: &[&[u8]]) -> Call {
    let (reply, place) = match version {
        4.. => (Ok(Reply::Message(STDOUT)), 0),
        3 => (Ok(Reply::MessageThenCount), 1),
        _ => {
            let number = args.get(1).ok_or(BadCall::Missing("tuntap_up"));
            let number = number.and_then(|word| descriptor(word));
            (number.map(Reply::Message), 2)
        }
    };
    match reply {
        Err(error) => Call::unknown(error),
        Ok(reply) => Call {
            reply,
            request: nth(args, place, "tuntap_up")
                .and_then(address)
                .map(|gate| Request::TapUp { gate }),
        },
    }
}

fn slip(version: u32, args: &[&[u8]]) -> Call {
    let reply = match version {
        3.. => Reply::Counted,
        _ => Reply::Errors,
    };
    let request = || {
        let op = nth(args, 0, "slip")?;
        let (line, next) = match version {
            4.. => (Ok(0), 1),
            _ => (nth(args, 1, "slip").and_then(descriptor), 2),
        };
        match op {
            b"up" => Ok(Request::SlipUp {
                line: line?,
                gate: nth(args, next, "slip up").and_then(address)?,
            }),
            b"down" => Ok(Request::SlipDown { line: line? }),
            _ => Err(BadCall::Operation {
                transport: "slip",
                op: shown(op),
            }),
        }
    };
    Call {
        reply,
        request: request(),
    }
}

fn ethertap(version: u32, args: &[&[u8]]) -> Call {
    let reply = match version {
        3.. => Reply::ByteThenCounted,
        0 => Reply::Errors,
        _ => match nth(args, 2, "ethertap").and_then(descriptor) {
            Ok(number) => Reply::Byte(number),
            Err(_) => Reply::Errors,
        },
    };
    Call {
        reply,
        request: Err(BadCall::Ethertap),
    }
}

#[derive(Debug, Clone, Copy)]
enum Netmask {
    Told,
    Untold,
}

fn guest_address(op: &'static str, args: &[&[u8]], mask: Netmask) -> Result<GuestAddress, BadCall> {
    // Counted first, so that a short call is told so, whatever else is wrong with it.
    let device = nth(args, 0, op)?;
    let guest = nth(args, 1, op)?;
    let netmask = match mask {
        Netmask::Told => Some(nth(args, 2, op)?),
        Netmask::Untold => None,
    };
    Ok(GuestAddress {
        device: words::device(device)?,
        address: address(guest)?,
        netmask: netmask.map(words::netmask).transpose()?,
    })
}

fn nth<'a>(args: &[&'a [u8]], index: usize, op: &'static str) -> Result<&'a [u8], BadCall> {
    args.get(index).copied().ok_or(BadCall::Missing(op))
}

#[cfg(test)]
mod tests;
