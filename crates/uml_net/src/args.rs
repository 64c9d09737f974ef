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

use std::{ffi::OsString, net::Ipv4Addr, os::unix::ffi::OsStrExt as _};

use uml_core::hostnet::{BadName, DeviceName};

/// The newest version of the protocol.
pub const NEWEST: u32 = 4;

/// The descriptor on which most calls are answered.
const STDOUT: i32 = 1;
/// How many bytes of an argument a message shows.
const SHOWN: usize = 64;

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
    #[error(
        "uml_net : bad argument list - if you're running uml_net by\nhand, don't bother.  uml_net is run automatically by UML when\nnecessary."
    )]
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
        device: self::device(device)?,
        address: address(guest)?,
        netmask: netmask.map(self::netmask).transpose()?,
    })
}

fn device(word: &[u8]) -> Result<DeviceName, BadCall> {
    if word.len() >= libc::IFNAMSIZ {
        return Err(BadCall::LongDevice {
            name: shown(word),
            length: word.len(),
        });
    }
    let text = std::str::from_utf8(word).map_err(|_| BadCall::DeviceBytes(shown(word)))?;
    Ok(text.parse()?)
}

fn nth<'a>(args: &[&'a [u8]], index: usize, op: &'static str) -> Result<&'a [u8], BadCall> {
    args.get(index).copied().ok_or(BadCall::Missing(op))
}

/// Four decimal numbers with dots between them, and nothing else: no octal, no short forms.
fn address(word: &[u8]) -> Result<Ipv4Addr, BadCall> {
    std::str::from_utf8(word)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| BadCall::Address(shown(word)))
}

/// Ones, then zeros.
fn netmask(word: &[u8]) -> Result<Ipv4Addr, BadCall> {
    address(word)
        .ok()
        .filter(|mask| mask.to_bits().leading_ones() + mask.to_bits().trailing_zeros() == 32)
        .ok_or_else(|| BadCall::Netmask(shown(word)))
}

fn descriptor(word: &[u8]) -> Result<i32, BadCall> {
    decimal(word)
        .and_then(|number| i32::try_from(number).ok())
        .ok_or_else(|| BadCall::Descriptor(shown(word)))
}

/// Decimal digits and nothing else.
fn decimal(word: &[u8]) -> Option<u32> {
    if !word.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(word).ok()?.parse().ok()
}

/// An argument as a message shows it: printable, and not long.
fn shown(word: &[u8]) -> String {
    let cut = word.get(..SHOWN).unwrap_or(word);
    let dots = if cut.len() < word.len() { "..." } else { "" };
    format!("{}{dots}", cut.escape_ascii())
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt as _;

    use proptest::prelude::*;

    use super::*;

    fn parse(words: &str) -> Call {
        Call::parse(&words.split(' ').map(OsString::from).collect::<Vec<_>>())
    }

    fn add(device: &str, address: [u8; 4], netmask: Option<[u8; 4]>) -> GuestAddress {
        GuestAddress {
            device: device.parse().unwrap(),
            address: address.into(),
            netmask: netmask.map(Ipv4Addr::from),
        }
    }

    #[track_caller]
    fn understood(words: &str, reply: Reply, request: Request) {
        let expected = Call {
            reply,
            request: Ok(request),
        };
        assert_eq!(parse(words), expected, "{words}");
    }

    #[test]
    fn tuntap_up_in_each_version() {
        let gate = Ipv4Addr::new(10, 0, 0, 1);
        let up = || Request::TapUp { gate };
        understood("4 tuntap up 10.0.0.1", Reply::Message(1), up());
        understood("3 tuntap up x 10.0.0.1", Reply::MessageThenCount, up());
        understood("2 tuntap up x 17 10.0.0.1", Reply::Message(17), up());
        for words in ["1 tuntap up 10.0.0.1", "0 tuntap up", "tuntap up 10.0.0.1"] {
            let call = parse(words);
            assert!(matches!(call.request, Err(BadCall::Handler { .. })));
            assert_eq!(call.reply, Reply::Unknown);
        }
    }

    #[test]
    fn addresses_in_each_version() {
        let mask = Some([255, 255, 255, 0]);
        for words in [
            "4 add tap0 10.0.0.2 255.255.255.0",
            "4 tuntap add tap0 10.0.0.2 255.255.255.0",
        ] {
            understood(
                words,
                Reply::Counted,
                Request::Add(add("tap0", [10, 0, 0, 2], mask)),
            );
        }
        understood(
            "4 del tap0 10.0.0.2 255.255.255.0",
            Reply::Counted,
            Request::Delete(add("tap0", [10, 0, 0, 2], mask)),
        );
        understood(
            "3 tuntap add tap0 10.0.0.2",
            Reply::Counted,
            Request::Add(add("tap0", [10, 0, 0, 2], None)),
        );
        understood(
            "2 tuntap del x tap0 10.0.0.2",
            Reply::Errors,
            Request::Delete(add("tap0", [10, 0, 0, 2], None)),
        );
        for words in [
            "3 add tap0 10.0.0.2 255.0.0.0",
            "del tap0 10.0.0.2 255.0.0.0",
        ] {
            assert!(matches!(parse(words).request, Err(BadCall::Handler { .. })));
        }
    }

    #[test]
    fn slip_in_each_version() {
        let gate = Ipv4Addr::new(10, 0, 0, 1);
        let up = |line| Request::SlipUp { line, gate };
        understood("4 slip up 10.0.0.1", Reply::Counted, up(0));
        understood("3 slip up 5 10.0.0.1", Reply::Counted, up(5));
        understood("4 slip down", Reply::Counted, Request::SlipDown { line: 0 });
        // The name given is not looked at: anybody could take any device down with it.
        understood(
            "4 slip down eth0",
            Reply::Counted,
            Request::SlipDown { line: 0 },
        );
        for words in [
            "2 slip up 5 10.0.0.1",
            "0 slip up 5 10.0.0.1",
            "slip up 5 10.0.0.1",
        ] {
            understood(words, Reply::Errors, up(5));
        }
        understood(
            "1 slip down 5",
            Reply::Errors,
            Request::SlipDown { line: 5 },
        );
    }

    #[test]
    fn ethertap_is_answered_in_each_version() {
        for (words, reply) in [
            ("4 ethertap tap0 5 10.0.0.1", Reply::ByteThenCounted),
            ("3 ethertap tap0 5", Reply::ByteThenCounted),
            ("2 ethertap tap0 5 6 10.0.0.1", Reply::Byte(6)),
            ("1 ethertap tap0 5 6", Reply::Byte(6)),
            ("1 ethertap tap0", Reply::Errors),
            ("ethertap tap0 5", Reply::Errors),
        ] {
            let call = parse(words);
            assert_eq!((call.reply, call.request), (reply, Err(BadCall::Ethertap)));
        }
    }

    #[test]
    fn bad_calls_say_what_is_wrong() {
        for (words, text) in [
            (
                "4",
                "uml_net : bad argument list - if you're running uml_net by\nhand, don't bother.  uml_net is run automatically by UML when\nnecessary.",
            ),
            (
                "5 tuntap up",
                "Version mismatch - requested version 5, uml_net supports up to version 4",
            ),
            (
                "-4 tuntap up",
                "Version mismatch - requested version -4, uml_net supports up to version 4",
            ),
            (
                "4x tuntap up",
                "Version mismatch - requested version 4x, uml_net supports up to version 4",
            ),
            (
                "99999999999 tuntap up",
                "Version mismatch - requested version 99999999999, uml_net supports up to version 4",
            ),
            ("4 \u{1b}foo x", "Unknown transport : '\\x1bfoo'"),
            ("1 tuntap up", "No version #1 handler for 'tuntap'"),
            ("4 tuntap up", "Too few arguments to tuntap_up"),
            ("4 tuntap foo", "Bad tuntap op : 'foo'"),
            ("4 tuntap", "Too few arguments to tuntap"),
            ("4 slip foo", "Bad slip op : 'foo'"),
            ("4 tuntap up 1.2.3", "'1.2.3' is no IPv4 address"),
            ("4 tuntap up 010.0.0.1", "'010.0.0.1' is no IPv4 address"),
            ("4 add tap0 1.2.3.4", "Too few arguments to add"),
            (
                "4 add tap0 1.2.3.4 255.0.255.0",
                "'255.0.255.0' is no netmask",
            ),
            (
                "4 add ../x 1.2.3.4 255.0.0.0",
                "device name '../x' holds '/': '/', ':', '%', white space and control characters are not allowed",
            ),
            ("2 tuntap up x -1 1.2.3.4", "'-1' is no descriptor"),
            (
                "2 tuntap up x 4294967295 1.2.3.4",
                "'4294967295' is no descriptor",
            ),
        ] {
            let error = parse(words).request.unwrap_err();
            assert_eq!(error.to_string(), text, "{words}");
        }
    }

    #[test]
    fn long_arguments_are_shown_short() {
        let words = [OsString::from("4"), OsString::from_vec(vec![b'\n'; 4096])];
        let text = Call::parse(&words).request.unwrap_err().to_string();
        assert!(text.len() < 200 && text.ends_with("...'"), "{text}");
    }

    #[test]
    fn device_names_are_checked() {
        let call = |name: &[u8]| {
            let words = [b"4", b"add".as_slice(), name, b"1.2.3.4", b"255.0.0.0"];
            Call::parse(&words.map(|word| OsString::from_vec(word.to_vec()))).request
        };
        assert!(call(b"abcdefghijklmno").is_ok());
        assert_eq!(
            call(b"abcdefghijklmnop").unwrap_err().to_string(),
            "device name 'abcdefghijklmnop' is 16 bytes long, 15 are allowed"
        );
        assert_eq!(
            call(b"t\xff").unwrap_err().to_string(),
            "'t\\xff' is no device name"
        );
        for name in [b"".as_slice(), b"..", b"a/b", b"%s", b"all", b"a\nb"] {
            assert!(matches!(call(name), Err(BadCall::Device(_))));
        }
    }

    #[test]
    fn netmasks_of_every_length() {
        for length in 0..=32_u32 {
            let bits = u32::MAX.checked_shl(32 - length).unwrap_or(0);
            let words = format!("4 add tap0 1.2.3.4 {}", Ipv4Addr::from_bits(bits));
            assert!(parse(&words).request.is_ok(), "{words}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(words in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..8)) {
            let words: Vec<OsString> = words.into_iter().map(OsString::from_vec).collect();
            let call = Call::parse(&words);
            if let Err(error) = call.request {
                prop_assert!(!error.to_string().is_empty());
            }
        }

        #[test]
        fn words_of_the_protocol_in_any_order_are_read(
            words in prop::collection::vec(
                prop::sample::select(vec!["0", "1", "2", "3", "4", "tuntap", "slip", "ethertap", "up",
                    "down", "add", "del", "tap0", "10.0.0.1", "255.0.0.0", "", "17"]),
                0..8,
            )
        ) {
            let words: Vec<OsString> = words.into_iter().map(OsString::from).collect();
            let _ = Call::parse(&words);
        }
    }
}
