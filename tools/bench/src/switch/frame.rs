//! The frames of the load: Ethernet header, number, filling.

/// An Ethernet address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// Everybody.
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// A locally administered address made from a number.
    #[must_use]
    pub fn numbered(number: u32) -> Self {
        let [a, b, c, d] = number.to_be_bytes();
        Self([0x02, 0xbe, a, b, c, d])
    }
}

/// The ethertype of the load: the one for local experiments.
const ETHERTYPE: [u8; 2] = [0x88, 0xb5];
/// Where the frame's number stands: u64, big-endian, behind the Ethernet header.
const NUMBER_AT: usize = 14;

/// Makes a frame of a length of 64 bytes or more.
#[must_use]
pub fn frame(to: Mac, from: Mac, number: u64, length: usize) -> Vec<u8> {
    let mut frame = Vec::with_capacity(length);
    frame.extend(to.0);
    frame.extend(from.0);
    frame.extend(ETHERTYPE);
    frame.extend(number.to_be_bytes());
    frame.resize(length, 0x5a);
    frame
}

/// Gives a frame another number.
pub fn renumber(frame: &mut [u8], number: u64) {
    if let Some(place) = frame.get_mut(NUMBER_AT..NUMBER_AT + 8) {
        place.copy_from_slice(&number.to_be_bytes());
    }
}

/// The number of a frame of the load for `to`, or for everybody; nothing if it is another frame.
#[must_use]
pub fn number(frame: &[u8], to: Mac) -> Option<u64> {
    let target = frame.get(..6)?;
    if frame.get(12..14)? != ETHERTYPE || (target != to.0 && target != Mac::BROADCAST.0) {
        return None;
    }
    let number = frame.get(NUMBER_AT..NUMBER_AT + 8)?;
    Some(u64::from_be_bytes(number.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_keeps_its_number() {
        let (to, from) = (Mac::numbered(8), Mac::numbered(7));
        let mut made = frame(to, from, 1, 64);
        assert_eq!((made.len(), number(&made, to)), (64, Some(1)));
        renumber(&mut made, u64::MAX);
        assert_eq!(number(&made, to), Some(u64::MAX));
        assert_eq!(number(&made, from), None);
        made[12] = 8;
        assert_eq!(number(&made, to), None);
        let everybody = frame(Mac::BROADCAST, from, 2, 64);
        assert_eq!(number(&everybody, to), Some(2));
    }
}
