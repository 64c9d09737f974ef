//! Ethernet frames: what a switch needs to know of them.

use std::fmt;

/// The length of an Ethernet header in bytes, `ETH_HLEN`: destination, source, type.
///
/// What is shorter is no frame; an empty datagram even makes a guest shut its device down.
pub const HEADER_LEN: usize = 14;

/// The longest frame that is carried, in bytes: a guest's MTU goes up to 65,521.
pub const MAX_LEN: usize = 65_535;

/// An Ethernet address: six bytes, the first on the wire first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MacAddr([u8; 6]);

impl MacAddr {
    /// The address of every station, `ff:ff:ff:ff:ff:ff`.
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// An address from its six bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 6]) -> Self {
        Self(bytes)
    }

    /// Its six bytes.
    #[must_use]
    pub const fn octets(self) -> [u8; 6] {
        self.0
    }

    /// The address as the low 48 bits of a number; the first byte is the highest.
    #[must_use]
    pub const fn to_u64(self) -> u64 {
        let [m0, m1, m2, m3, m4, m5] = self.0;
        u64::from_be_bytes([0, 0, m0, m1, m2, m3, m4, m5])
    }

    /// Whether it stands for a group of stations (broadcast included): the first byte's lowest bit.
    #[must_use]
    pub const fn is_group(self) -> bool {
        self.0[0] & 1 != 0
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [m0, m1, m2, m3, m4, m5] = self.0;
        write!(f, "{m0:02x}:{m1:02x}:{m2:02x}:{m3:02x}:{m4:02x}:{m5:02x}")
    }
}

/// The addresses at the front of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// Bytes 0 to 5: whom it is for.
    pub destination: MacAddr,
    /// Bytes 6 to 11: whom it is from.
    pub source: MacAddr,
}

impl Addresses {
    /// Reads them; `None` when the bytes are fewer than [`HEADER_LEN`].
    #[must_use]
    pub fn of(frame: &[u8]) -> Option<Self> {
        let header: &[u8; HEADER_LEN] = frame.first_chunk()?;
        let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, _, _] = *header;
        Some(Self {
            destination: MacAddr([d0, d1, d2, d3, d4, d5]),
            source: MacAddr([s0, s1, s2, s3, s4, s5]),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_stand_at_the_front_and_short_frames_have_none() {
        let frame = [2, 0, 0, 0, 0, 1, 6, 0, 0, 0, 0, 2, 8, 0];
        let addresses = Addresses::of(&frame).unwrap();
        assert_eq!(addresses.destination.to_string(), "02:00:00:00:00:01");
        assert_eq!(addresses.source.to_string(), "06:00:00:00:00:02");
        assert_eq!(addresses.source.to_u64(), 0x0600_0000_0002);
        for length in 0..HEADER_LEN {
            assert_eq!(Addresses::of(&frame[..length]), None);
        }
    }

    #[test]
    fn groups_are_told_by_one_bit() {
        assert!(MacAddr::BROADCAST.is_group());
        assert!(MacAddr::new([1, 0, 0x5e, 0, 0, 1]).is_group());
        assert!(!MacAddr::new([0xfe, 0xff, 0xff, 0xff, 0xff, 0xff]).is_group());
    }
}
