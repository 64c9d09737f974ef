//! `struct sockaddr_un` as guests write it into their requests.

use std::{ffi::OsStr, fmt, os::unix::ffi::OsStrExt as _, path::Path};

use crate::error::shown;

/// The length of a whole `sockaddr_un` in bytes: the family (u16) and [`PATH_LEN`] bytes.
pub const LEN: usize = 110;

/// The length of `sun_path` in bytes.
pub const PATH_LEN: usize = 108;

/// `AF_UNIX` as the family field has it.
const FAMILY: u16 = 1;

/// Why 110 bytes name no socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SockaddrError {
    /// The family isn't `AF_UNIX`.
    #[error("address family {found} instead of {FAMILY} (AF_UNIX)")]
    BadFamily {
        /// What stands there.
        found: u16,
    },
    /// A path or abstract name has no room in `sun_path`.
    #[error("the name is {found} bytes long: a socket's name holds {PATH_LEN} at most")]
    TooLong {
        /// Its length in bytes.
        found: usize,
    },
    /// A path is empty or holds a NUL byte.
    #[error("the path is empty or holds a NUL byte")]
    BadPath,
}

/// The name of a Unix socket, all 110 bytes of it.
///
/// Shape: family (u16, native order, 1), then `sun_path`, 108 bytes. A path ends at its first NUL.
/// An abstract name begins with NUL and **is all 108 bytes**: guests' own names hold 12 meaningful
/// bytes and whatever their heap held behind them, and the kernel compares every byte. So nothing
/// is ever trimmed.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sockaddr([u8; PATH_LEN]);

/// What kind of name it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Name<'a> {
    /// A path in the file system, without its closing NUL.
    Path(&'a Path),
    /// An abstract name: what stands behind the leading NUL, 107 bytes.
    Abstract(&'a [u8]),
}

impl Sockaddr {
    /// The name in these bytes.
    ///
    /// # Errors
    /// [`SockaddrError::BadFamily`] unless the family is `AF_UNIX`.
    pub fn decode(bytes: &[u8; LEN]) -> Result<Self, SockaddrError> {
        let (family, path) = bytes.split_at(LEN - PATH_LEN);
        let found = u16::from_ne_bytes([family[0], family[1]]);
        if found != FAMILY {
            return Err(SockaddrError::BadFamily { found });
        }
        let mut name = [0; PATH_LEN];
        name.copy_from_slice(path);
        Ok(Self(name))
    }

    /// The bytes to send: always all 110.
    #[must_use]
    pub fn encode(&self) -> [u8; LEN] {
        let mut bytes = [0; LEN];
        bytes[..LEN - PATH_LEN].copy_from_slice(&FAMILY.to_ne_bytes());
        bytes[LEN - PATH_LEN..].copy_from_slice(&self.0);
        bytes
    }

    /// The name of a socket in the file system.
    ///
    /// # Errors
    /// A path that is empty, holds a NUL, or is longer than 108 bytes.
    pub fn from_path(path: &Path) -> Result<Self, SockaddrError> {
        let bytes = path.as_os_str().as_bytes();
        if bytes.is_empty() || bytes.contains(&0) {
            return Err(SockaddrError::BadPath);
        }
        let mut name = [0; PATH_LEN];
        name.get_mut(..bytes.len())
            .ok_or(SockaddrError::TooLong { found: bytes.len() })?
            .copy_from_slice(bytes);
        Ok(Self(name))
    }

    /// An abstract name, filled up with zeros to 108 bytes, as the kernel has it when an address of
    /// the full length is bound.
    ///
    /// # Errors
    /// More than the 107 bytes that fit behind the leading NUL.
    pub fn from_abstract(text: &[u8]) -> Result<Self, SockaddrError> {
        let mut name = [0; PATH_LEN];
        name.get_mut(1..=text.len())
            .ok_or(SockaddrError::TooLong {
                found: text.len() + 1,
            })?
            .copy_from_slice(text);
        Ok(Self(name))
    }

    /// The name that the kernel reports with an address of this length.
    ///
    /// `sun_path` is what stands behind the family: a path with or without its closing NUL, or a
    /// whole abstract name. `None` for a socket without a name.
    #[must_use]
    pub fn from_sun_path(sun_path: &[u8]) -> Option<Self> {
        if sun_path.is_empty() {
            return None;
        }
        let mut name = [0; PATH_LEN];
        name.get_mut(..sun_path.len())?.copy_from_slice(sun_path);
        Some(Self(name).canonical())
    }

    /// The same name with nothing behind a path's closing NUL, so that equal names are equal bytes.
    #[must_use]
    pub fn canonical(mut self) -> Self {
        if self.0[0] != 0 {
            let end = self.path_len();
            self.0[end..].fill(0);
        }
        self
    }

    /// What kind of name it is.
    #[must_use]
    pub fn name(&self) -> Name<'_> {
        if self.0[0] == 0 {
            Name::Abstract(&self.0[1..])
        } else {
            Name::Path(Path::new(OsStr::from_bytes(&self.0[..self.path_len()])))
        }
    }

    fn path_len(&self) -> usize {
        self.0.iter().position(|b| *b == 0).unwrap_or(PATH_LEN)
    }
}

impl fmt::Display for Sockaddr {
    /// A path as it is, its control characters escaped; an abstract name as `@` and its bytes,
    /// unprintable ones escaped, without the zeros at its end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Name::Path(path) => f.write_str(&shown(path)),
            Name::Abstract(name) => {
                let end = name.iter().rposition(|b| *b != 0).map_or(0, |at| at + 1);
                write!(f, "@{}", name[..end].escape_ascii())
            }
        }
    }
}

impl fmt::Debug for Sockaddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sockaddr({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn abstract_names_keep_every_byte() {
        let mut bytes = [0xa5; LEN];
        bytes[..3].copy_from_slice(&[1, 0, 0]);
        let address = Sockaddr::decode(&bytes).unwrap();
        assert_eq!(address.encode(), bytes);
        assert_eq!(address.canonical(), address);
        assert_eq!(address.name(), Name::Abstract(&[0xa5; 107]));
    }

    #[test]
    fn paths_end_at_their_nul() {
        let mut bytes = [b'x'; LEN];
        bytes[..7].copy_from_slice(b"\x01\0/a/b\0");
        let address = Sockaddr::decode(&bytes).unwrap();
        assert_eq!(address.name(), Name::Path(Path::new("/a/b")));
        assert_eq!(address.encode(), bytes, "kept as it came");
        let made = Sockaddr::from_path(Path::new("/a/b")).unwrap();
        assert_ne!(address, made);
        assert_eq!(address.canonical(), made);
        assert_eq!(Sockaddr::from_sun_path(b"/a/b\0"), Some(made));
        assert_eq!(Sockaddr::from_sun_path(b"/a/b"), Some(made));
    }

    #[test]
    fn a_path_of_108_bytes_has_no_nul() {
        let long = "p".repeat(PATH_LEN);
        let address = Sockaddr::from_path(Path::new(&long)).unwrap();
        assert_eq!(address.name(), Name::Path(Path::new(&long)));
        assert_eq!(
            Sockaddr::from_path(Path::new(&"p".repeat(PATH_LEN + 1))),
            Err(SockaddrError::TooLong { found: 109 })
        );
    }

    #[test]
    fn other_families_and_bad_names_are_refused() {
        let mut bytes = [0; LEN];
        bytes[0] = 2;
        assert_eq!(
            Sockaddr::decode(&bytes),
            Err(SockaddrError::BadFamily {
                found: u16::from_ne_bytes([2, 0])
            })
        );
        assert!(Sockaddr::from_path(Path::new("")).is_err());
        assert!(Sockaddr::from_path(Path::new("a\0b")).is_err());
        assert!(Sockaddr::from_abstract(&[1; 108]).is_err());
        assert!(Sockaddr::from_abstract(&[1; 107]).is_ok());
        assert_eq!(Sockaddr::from_sun_path(b""), None);
        assert_eq!(Sockaddr::from_sun_path(&[1; 109]), None);
    }

    #[test]
    fn names_are_shown_without_control_characters() {
        let address = Sockaddr::from_abstract(b"\x01\x02ab\0c").unwrap();
        assert_eq!(address.to_string(), "@\\x01\\x02ab\\x00c");
        // A client of the switch chooses its path, and the log is read on a terminal.
        let path = Path::new("/tmp/\u{1b}[2Jä\n");
        let address = Sockaddr::from_path(path).unwrap();
        assert_eq!(address.to_string(), "/tmp/\\u{1b}[2Jä\\n");
    }
}
