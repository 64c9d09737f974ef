//! Users and groups by name or number.

use std::ffi::OsStr;

use nix::unistd::{Gid, Group, Uid, User};

/// The user of this name, or with this number.
///
/// # Errors
/// A sentence for the user.
pub(crate) fn user(text: &OsStr) -> Result<u32, String> {
    let name = text.to_string_lossy();
    let by_name = User::from_name(&name).ok().flatten();
    by_name
        .map(|user| user.uid.as_raw())
        .or_else(|| number(&name))
        .ok_or_else(|| {
            format!(
                "'{}' is neither a username nor a numeric uid.",
                name.escape_debug()
            )
        })
}

/// The group of this name, or with this number.
///
/// # Errors
/// A sentence for the user.
pub(crate) fn group(text: &OsStr) -> Result<u32, String> {
    let name = text.to_string_lossy();
    let by_name = Group::from_name(&name).ok().flatten();
    by_name
        .map(|group| group.gid.as_raw())
        .or_else(|| number(&name))
        .ok_or_else(|| {
            format!(
                "'{}' is neither a groupname nor a numeric group.",
                name.escape_debug()
            )
        })
}

/// The name of a user, where it has one.
pub(crate) fn user_name(uid: u32) -> Option<String> {
    let user = User::from_uid(Uid::from_raw(uid)).ok().flatten()?;
    Some(user.name)
}

/// The name of a group, where it has one.
pub(crate) fn group_name(gid: u32) -> Option<String> {
    let group = Group::from_gid(Gid::from_raw(gid)).ok().flatten()?;
    Some(group.name)
}

/// A number as C's `strtol` with base 0 reads it: decimal, `0x` and hexadecimal, `0` and octal,
/// white space and a plus sign before it. The highest number is nobody's: it means "no id".
fn number(text: &str) -> Option<u32> {
    let text = text.trim_start_matches(|c: char| c.is_ascii_whitespace() || c == '\x0b');
    let text = text.strip_prefix('+').unwrap_or(text);
    let hexadecimal = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    let (digits, radix) = match hexadecimal {
        Some(digits) => (digits, 16),
        None if text.len() > 1 && text.starts_with('0') => (text, 8),
        None => (text, 10),
    };
    // from_str_radix takes a sign, which has been dealt with.
    if !digits.starts_with(|c: char| c.is_digit(radix)) {
        return None;
    }
    u32::from_str_radix(digits, radix)
        .ok()
        .filter(|&id| id != u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_c_does() {
        for (text, value) in [
            ("0", 0),
            ("1000", 1000),
            ("0x10", 16),
            ("0X1f", 31),
            ("010", 8),
            (" 5", 5),
            ("\t+5", 5),
            ("4294967294", 4_294_967_294),
        ] {
            assert_eq!(number(text), Some(value), "{text}");
        }
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in [
            "",
            "x",
            "-1",
            "++5",
            "+-5",
            "0x",
            "0x+5",
            "08",
            "12abc",
            "5 ",
            "4294967295",
            "99999999999",
            "0xfffffffff",
        ] {
            assert_eq!(number(text), None, "{text}");
        }
    }

    #[test]
    fn names_come_before_numbers() {
        assert_eq!(user(OsStr::new("root")), Ok(0));
        assert_eq!(user_name(0).as_deref(), Some("root"));
        assert_eq!(group(OsStr::new("root")), Ok(0));
        assert_eq!(group_name(0).as_deref(), Some("root"));
        let error = user(OsStr::new("no\u{1b}such")).unwrap_err();
        assert!(!error.contains('\u{1b}'));
    }
}
