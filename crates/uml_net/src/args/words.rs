//! Single words of a call: names, addresses, numbers.

use std::net::Ipv4Addr;

use uml_core::hostnet::DeviceName;

use super::BadCall;

/// How many bytes of an argument a message shows.
const SHOWN: usize = 64;

/// A device's name, at most 15 bytes of it.
pub(super) fn device(word: &[u8]) -> Result<DeviceName, BadCall> {
    if word.len() >= libc::IFNAMSIZ {
        return Err(BadCall::LongDevice {
            name: shown(word),
            length: word.len(),
        });
    }
    let text = std::str::from_utf8(word).map_err(|_| BadCall::DeviceBytes(shown(word)))?;
    Ok(text.parse()?)
}

/// Four decimal numbers with dots between them, and nothing else: no octal, no short forms.
pub(super) fn address(word: &[u8]) -> Result<Ipv4Addr, BadCall> {
    std::str::from_utf8(word)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| BadCall::Address(shown(word)))
}

/// Ones, then zeros.
pub(super) fn netmask(word: &[u8]) -> Result<Ipv4Addr, BadCall> {
    address(word)
        .ok()
        .filter(|mask| mask.to_bits().leading_ones() + mask.to_bits().trailing_zeros() == 32)
        .ok_or_else(|| BadCall::Netmask(shown(word)))
}

pub(super) fn descriptor(word: &[u8]) -> Result<i32, BadCall> {
    decimal(word)
        .and_then(|number| i32::try_from(number).ok())
        .ok_or_else(|| BadCall::Descriptor(shown(word)))
}

/// Decimal digits and nothing else.
pub(super) fn decimal(word: &[u8]) -> Option<u32> {
    if !word.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(word).ok()?.parse().ok()
}

/// An argument as a message shows it: printable, and not long.
pub(super) fn shown(word: &[u8]) -> String {
    let cut = word.get(..SHOWN).unwrap_or(word);
    let dots = if cut.len() < word.len() { "..." } else { "" };
    format!("{}{dots}", cut.escape_ascii())
}
