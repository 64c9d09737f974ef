//! Names of network devices.

use std::{fmt, str::FromStr};

/// The longest device name: `IFNAMSIZ` (16) less the closing NUL.
const LONGEST: usize = libc::IFNAMSIZ - 1;

/// The name of a network device: 1 to 15 bytes that can stand in a path, a message and a file.
///
/// Refused, as the kernel does: `.`, `..`, `/`, `:`, `%` and white space. Refused beyond that:
/// control characters, and `all` and `default`, which mean other things under `/proc/sys/net`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeviceName(String);

/// What a new device is to be called: a [`DeviceName`], or a pattern with one `%d` for which the
/// kernel puts the first free number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamePattern(String);

/// Why a text is no device name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    /// Nothing there.
    #[error("a device name can't be empty")]
    Empty,
    /// More than 15 bytes.
    #[error("device name '{}' is {} bytes long, 15 are allowed", .0.escape_debug(), .0.len())]
    TooLong(String),
    /// A byte that the kernel refuses, or a control character.
    #[error(
        "device name '{}' holds {character:?}: '/', ':', '%', white space and control characters are not allowed",
        .name.escape_debug()
    )]
    Character {
        /// The whole name.
        name: String,
        /// The first character that isn't allowed.
        character: char,
    },
    /// `.`, `..`, `all` or `default`.
    #[error("device name '{0}' is reserved")]
    Reserved(String),
}

fn check(name: &str, allowed: impl Fn(char) -> bool) -> Result<(), BadName> {
    if name.is_empty() {
        return Err(BadName::Empty);
    }
    if name.len() > LONGEST {
        return Err(BadName::TooLong(name.to_owned()));
    }
    if matches!(name, "." | ".." | "all" | "default") {
        return Err(BadName::Reserved(name.to_owned()));
    }
    match name.chars().find(|&c| !allowed(c)) {
        Some(character) => Err(BadName::Character {
            name: name.to_owned(),
            character,
        }),
        None => Ok(()),
    }
}

fn is_plain(c: char) -> bool {
    // 0xa0 is white space to the kernel's isspace() where it stands as a byte of its own, which it
    // never does in UTF-8 without a leading byte; the whole family is refused to be safe.
    !(c.is_control() || c.is_whitespace() || matches!(c, '/' | ':' | '%'))
}

impl DeviceName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DeviceName {
    type Err = BadName;

    fn from_str(name: &str) -> Result<Self, BadName> {
        check(name, is_plain)?;
        Ok(Self(name.to_owned()))
    }
}

impl AsRef<str> for DeviceName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl NamePattern {
    /// The pattern as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for NamePattern {
    type Err = BadName;

    fn from_str(pattern: &str) -> Result<Self, BadName> {
        // Only one `%d` is taken out: a second `%` is found by the check.
        let rest = pattern.replacen("%d", "0", 1);
        match check(&rest, is_plain) {
            _ if pattern.len() > LONGEST => Err(BadName::TooLong(pattern.to_owned())),
            // What is told is what was given, not what it would become.
            Err(BadName::Character { character, .. }) => Err(BadName::Character {
                name: pattern.to_owned(),
                character,
            }),
            checked => checked.map(|()| Self(pattern.to_owned())),
        }
    }
}

impl From<DeviceName> for NamePattern {
    fn from(name: DeviceName) -> Self {
        Self(name.0)
    }
}

impl From<&DeviceName> for NamePattern {
    fn from(name: &DeviceName) -> Self {
        Self(name.0.clone())
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_the_kernel_takes() {
        for name in [
            "a",
            "tap0",
            "eth0.5",
            "br-lan",
            "abcdefghijklmno",
            "täp",
            "-x",
        ] {
            assert!(name.parse::<DeviceName>().is_ok(), "{name}");
        }
    }

    #[test]
    fn names_that_nobody_takes() {
        for name in [
            "",
            ".",
            "..",
            "all",
            "default",
            "a/b",
            "../x",
            "a b",
            "a\n",
            "a:1",
            "tap%d",
            "%s",
            "abcdefghijklmnop",
            "a\0b",
            "a\u{1b}[2J",
        ] {
            assert!(name.parse::<DeviceName>().is_err(), "{name:?}");
        }
    }

    #[test]
    fn patterns_hold_one_number_at_most() {
        assert!("tap%d".parse::<NamePattern>().is_ok());
        assert!("tap".parse::<NamePattern>().is_ok());
        for pattern in ["tap%d%d", "tap%s", "%", "tap%d/", "abcdefghijklmn%d"] {
            let error = pattern.parse::<NamePattern>().unwrap_err();
            assert!(
                error.to_string().contains(&format!("'{pattern}'")),
                "{error}"
            );
        }
    }

    #[test]
    fn errors_escape_what_they_show() {
        let error = "a\u{1b}b".parse::<DeviceName>().unwrap_err();
        assert!(!error.to_string().contains('\u{1b}'));
    }
}
