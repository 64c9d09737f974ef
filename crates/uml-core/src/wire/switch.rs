//! What guests say to a switch on its control socket, and what it answers.
//!
//! A guest connects, sends one request, gets one answer, and stays connected for as long as it is
//! plugged in. All numbers are in the host's own byte order: both ends run on one machine.
//!
//! | version | request | bytes |
//! | --- | --- | --- |
//! | 0 | type u32, mac 6 bytes, address | 120 |
//! | 1 | [`MAGIC`] u32, type u32, mac 6 bytes, address | 124 |
//! | 3 | [`MAGIC`] u32, 3 u32, type u32, address | 122 |
//!
//! The address is the [`Sockaddr`] of the guest's own datagram socket. Guests pad version 3 to 124
//! bytes; VDE's clients send a text behind it instead. Version 1 is told from later ones by its
//! second word, which is its type: 0. The answer is the [`Sockaddr`] of the switch's datagram
//! socket, all 110 bytes of it, or nothing for version 0.

use byteorder::{ByteOrder as _, NativeEndian};

use super::sockaddr::{self, Sockaddr, SockaddrError};
use crate::frame::MacAddr;

/// The first word of a request of version 1 and later, `SWITCH_MAGIC`.
pub const MAGIC: u32 = 0xfeed_face;

/// The type of a request for a new port, `REQ_NEW_CONTROL`.
pub const NEW_PORT: u32 = 0;

/// The length of a version 0 request in bytes.
pub const V0_LEN: usize = 120;

/// The length of a version 1 request in bytes.
pub const V1_LEN: usize = 124;

/// The length of a version 3 request in bytes, without the padding or text behind it.
pub const V3_LEN: usize = 122;

/// How many bytes a guest sends for version 3: its structure is padded to a multiple of four.
pub const V3_PADDED_LEN: usize = 124;

/// Whether requests without a magic number are taken for version 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Oldest {
    /// A request has to begin with [`MAGIC`].
    V1,
    /// One that doesn't is of version 0.
    V0,
}

/// Which version a request was in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// No magic number, no answer.
    V0,
    /// With the guest's Ethernet address.
    V1,
    /// With a version number, and without the Ethernet address.
    V3,
}

/// A request for a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// The version it is in.
    pub version: Version,
    /// Its type as sent: [`NEW_PORT`], or whatever a client made of it.
    pub kind: u32,
    /// The guest's Ethernet address, where the version has it.
    pub mac: Option<MacAddr>,
    /// The guest's datagram socket.
    pub address: Sockaddr,
}

/// Why bytes are no request. Nothing that follows can make them one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// It doesn't begin with [`MAGIC`], and version 0 isn't taken.
    #[error("magic number {found:#x} instead of {MAGIC:#x}")]
    BadMagic {
        /// What it begins with, which version 0 has its type in.
        found: u32,
    },
    /// Version 2, which no switch ever spoke.
    #[error("version 2 is not supported")]
    Version2,
    /// A version above 3.
    #[error("version {found} is not supported")]
    BadVersion {
        /// That version.
        found: u32,
    },
    /// What should be the guest's address is none.
    #[error("the guest's socket")]
    Address {
        /// The request's type, which may be wrong too.
        kind: u32,
        /// Why.
        source: SockaddrError,
    },
}

/// How far the bytes of a connection have come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// More bytes are needed to tell.
    Partial,
    /// A request, and how many of the bytes were its own. Padding or text may follow.
    Complete(Request, usize),
}

impl Request {
    /// Reads a request from what a connection has sent so far, which may come in pieces.
    ///
    /// # Errors
    /// As soon as the bytes can't become a request any more.
    pub fn decode(bytes: &[u8], oldest: Oldest) -> Result<Progress, RequestError> {
        let Some(magic) = word(bytes, 0) else {
            return Ok(Progress::Partial);
        };
        if magic != MAGIC {
            return match oldest {
                Oldest::V1 => Err(RequestError::BadMagic { found: magic }),
                Oldest::V0 => Self::rest(bytes, Version::V0, magic, Some(4), 10),
            };
        }
        match word(bytes, 4) {
            None => Ok(Progress::Partial),
            // A type of 1 would be a version 1, which no version 3 client ever sends.
            Some(kind @ 0..=1) => Self::rest(bytes, Version::V1, kind, Some(8), 14),
            Some(2) => Err(RequestError::Version2),
            Some(3) => match word(bytes, 8) {
                None => Ok(Progress::Partial),
                Some(kind) => Self::rest(bytes, Version::V3, kind, None, 12),
            },
            Some(found) => Err(RequestError::BadVersion { found }),
        }
    }

    /// The bytes that a guest sends: version 3 with its padding.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(V1_LEN);
        if self.version != Version::V0 {
            bytes.extend(MAGIC.to_ne_bytes());
        }
        if self.version == Version::V3 {
            bytes.extend(3_u32.to_ne_bytes());
        }
        bytes.extend(self.kind.to_ne_bytes());
        if self.version != Version::V3 {
            bytes.extend(self.mac.map_or([0; 6], MacAddr::octets));
        }
        bytes.extend(self.address.encode());
        if self.version == Version::V3 {
            bytes.resize(V3_PADDED_LEN, 0);
        }
        bytes
    }

    fn rest(
        bytes: &[u8],
        version: Version,
        kind: u32,
        mac_at: Option<usize>,
        address_at: usize,
    ) -> Result<Progress, RequestError> {
        let end = address_at + sockaddr::LEN;
        let Some(address) = bytes
            .get(address_at..end)
            .and_then(<[u8]>::first_chunk::<{ sockaddr::LEN }>)
        else {
            return Ok(Progress::Partial);
        };
        let mac = mac_at
            .and_then(|at| bytes[at..].first_chunk::<6>())
            .map(|octets| MacAddr::new(*octets));
        let request = Self {
            version,
            kind,
            mac,
            address: Sockaddr::decode(address)
                .map_err(|source| RequestError::Address { kind, source })?,
        };
        Ok(Progress::Complete(request, end))
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4).map(NativeEndian::read_u32)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn request(version: Version) -> Request {
        Request {
            version,
            kind: NEW_PORT,
            mac: (version != Version::V3).then(|| MacAddr::new([2, 0, 0, 0, 0, 9])),
            address: Sockaddr::from_abstract(&[0xee; 107]).unwrap(),
        }
    }

    #[test]
    fn every_version_comes_back_and_no_truncated_one_does() {
        for (version, sent, own) in [
            (Version::V0, V0_LEN, V0_LEN),
            (Version::V1, V1_LEN, V1_LEN),
            (Version::V3, V3_PADDED_LEN, V3_LEN),
        ] {
            let bytes = request(version).encode();
            assert_eq!(bytes.len(), sent);
            for length in 0..own {
                assert_eq!(
                    Request::decode(&bytes[..length], Oldest::V0),
                    Ok(Progress::Partial)
                );
            }
            for length in own..=sent {
                assert_eq!(
                    Request::decode(&bytes[..length], Oldest::V0),
                    Ok(Progress::Complete(request(version), own))
                );
            }
        }
    }

    #[test]
    fn text_may_follow() {
        let mut bytes = request(Version::V3).encode();
        bytes.truncate(V3_LEN);
        bytes.extend(b"vde_plug: user=me");
        assert_eq!(
            Request::decode(&bytes, Oldest::V1),
            Ok(Progress::Complete(request(Version::V3), V3_LEN))
        );
    }

    #[test]
    fn what_no_switch_speaks_is_refused_at_once() {
        let mut bytes = request(Version::V3).encode();
        for (version, error) in [
            (2_u32, RequestError::Version2),
            (4, RequestError::BadVersion { found: 4 }),
            (u32::MAX, RequestError::BadVersion { found: u32::MAX }),
        ] {
            bytes[4..8].copy_from_slice(&version.to_ne_bytes());
            assert_eq!(Request::decode(&bytes[..8], Oldest::V1), Err(error));
        }
        let old = request(Version::V0).encode();
        assert_eq!(
            Request::decode(&old[..4], Oldest::V1),
            Err(RequestError::BadMagic { found: 0 })
        );
        let mut wrong = request(Version::V1).encode();
        wrong[14] = 0x55;
        assert!(matches!(
            Request::decode(&wrong, Oldest::V1),
            Err(RequestError::Address {
                source: SockaddrError::BadFamily { .. },
                ..
            })
        ));
    }

    proptest! {
        #[test]
        fn rubbish_never_panics_and_says_no_more_than_it_read(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            magic in any::<bool>(),
            second in 0_u32..5,
        ) {
            let mut bytes = bytes;
            if magic && bytes.len() >= 8 {
                bytes[..4].copy_from_slice(&MAGIC.to_ne_bytes());
                bytes[4..8].copy_from_slice(&second.to_ne_bytes());
            }
            for oldest in [Oldest::V0, Oldest::V1] {
                if let Ok(Progress::Complete(request, used)) = Request::decode(&bytes, oldest) {
                    prop_assert!(used <= bytes.len());
                    prop_assert_eq!(&request.encode()[..used], &bytes[..used]);
                }
            }
        }
    }
}
