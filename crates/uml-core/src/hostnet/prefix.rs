//! IP addresses with a prefix length.

use std::{fmt, net::IpAddr, str::FromStr};

/// An IP address and the length of its network's prefix in bits: `192.168.5.1/24`.
///
/// The host bits are kept: it serves for an interface's address as for a route's destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IpPrefix {
    address: IpAddr,
    length: u8,
}

/// Why a text or a length is no prefix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadPrefix {
    /// The part before the slash is no IP address.
    #[error("'{}' is not an IP address", .0.escape_debug())]
    Address(String),
    /// The part after the slash is no number, or is longer than the address.
    #[error("prefix length '{}' is not a number from 0 to {most}", .found.escape_debug())]
    Length {
        /// What stands there.
        found: String,
        /// 32 for IPv4, 128 for IPv6.
        most: u8,
    },
}

const fn most(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

/// The address as a number with its first bit at bit 127.
fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()) << 96,
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

impl IpPrefix {
    /// An address with its prefix length.
    ///
    /// # Errors
    /// [`BadPrefix::Length`] for more than 32 bits (IPv4) or 128 (IPv6).
    pub fn new(address: IpAddr, length: u8) -> Result<Self, BadPrefix> {
        if length > most(address) {
            return Err(BadPrefix::Length {
                found: length.to_string(),
                most: most(address),
            });
        }
        Ok(Self { address, length })
    }

    /// The address alone: `/32`, or `/128`.
    #[must_use]
    pub fn host(address: impl Into<IpAddr>) -> Self {
        let address = address.into();
        Self {
            address,
            length: most(address),
        }
    }

    /// The address, host bits included.
    #[must_use]
    pub const fn address(&self) -> IpAddr {
        self.address
    }

    /// The length of the prefix in bits.
    #[must_use]
    pub const fn length(&self) -> u8 {
        self.length
    }

    /// Whether an address lies in this network. Addresses of another family never do.
    #[must_use]
    pub fn contains(&self, address: impl Into<IpAddr>) -> bool {
        let address = address.into();
        self.address.is_ipv4() == address.is_ipv4()
            && (bits(self.address) ^ bits(address)) & self.mask() == 0
    }

    /// Whether the host bits are all zero, as a route's destination must have them.
    #[must_use]
    pub fn is_network(&self) -> bool {
        match self.address {
            IpAddr::V4(_) => bits(self.address) & !self.mask() & (u128::MAX << 96) == 0,
            IpAddr::V6(_) => bits(self.address) & !self.mask() == 0,
        }
    }

    fn mask(&self) -> u128 {
        u128::MAX
            .checked_shl(128 - u32::from(self.length))
            .unwrap_or(0)
    }
}

impl FromStr for IpPrefix {
    type Err = BadPrefix;

    /// Reads `ADDRESS/LENGTH`; without a length it is the address alone.
    fn from_str(text: &str) -> Result<Self, BadPrefix> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address
            .parse()
            .map_err(|_| BadPrefix::Address(address.to_owned()))?;
        let Some(length) = length else {
            return Ok(Self::host(address));
        };
        let wrong = || BadPrefix::Length {
            found: length.to_owned(),
            most: most(address),
        };
        if !length.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(wrong());
        }
        Self::new(address, length.parse().map_err(|_| wrong())?)
    }
}

impl fmt::Display for IpPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> IpPrefix {
        text.parse().unwrap()
    }

    #[test]
    fn texts_come_back_as_they_were() {
        for text in [
            "192.168.5.1/24",
            "0.0.0.0/0",
            "10.0.0.1/32",
            "fd00::1/64",
            "::/0",
        ] {
            assert_eq!(prefix(text).to_string(), text);
        }
        assert_eq!(prefix("10.0.0.1").to_string(), "10.0.0.1/32");
        assert_eq!(prefix("::1").to_string(), "::1/128");
    }

    #[test]
    fn wrong_texts_are_refused() {
        for text in [
            "",
            "/",
            "1.2.3/8",
            "1.2.3.4/33",
            "1.2.3.4/",
            "1.2.3.4/+8",
            "::/129",
            "a/8",
        ] {
            assert!(text.parse::<IpPrefix>().is_err(), "{text}");
        }
    }

    #[test]
    fn networks_contain_their_own() {
        let contains = |network: &str, address: &str| {
            prefix(network).contains(address.parse::<IpAddr>().unwrap())
        };
        assert!(contains("192.168.5.0/24", "192.168.5.255"));
        assert!(!contains("192.168.5.0/24", "192.168.6.0"));
        assert!(contains("0.0.0.0/0", "255.1.2.3"));
        assert!(!contains("0.0.0.0/0", "::1"));
        assert!(contains("10.0.0.1/32", "10.0.0.1"));
        assert!(!contains("10.0.0.1/32", "10.0.0.2"));
        assert!(contains("fd00::/8", "fd12::1"));
    }

    #[test]
    fn networks_have_no_host_bits() {
        assert!(prefix("192.168.5.0/24").is_network());
        assert!(!prefix("192.168.5.1/24").is_network());
        assert!(prefix("1.2.3.4/32").is_network());
        assert!(prefix("::/0").is_network());
        assert!(!prefix("::1/64").is_network());
    }
}
