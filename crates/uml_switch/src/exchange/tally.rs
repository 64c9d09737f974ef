//! What became of the frames.

use std::fmt;

/// Why a frame didn't go out at a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drop {
    /// It was shorter than an Ethernet header.
    Runt,
    /// It was longer than any frame may be.
    Giant,
    /// Its destination is behind the port that it came from.
    Back,
    /// There is no other port.
    Alone,
    /// It came from nobody that is plugged in.
    Stranger,
    /// The port's queue was full.
    Full,
    /// The port's socket or device refused it.
    Refused,
    /// The port went away while it waited.
    Unplugged,
}

impl Drop {
    const ALL: [(Self, &'static str); 8] = [
        (Self::Runt, "too short"),
        (Self::Giant, "too long"),
        (Self::Back, "for the sender's own port"),
        (Self::Alone, "no other port"),
        (Self::Stranger, "from a stranger"),
        (Self::Full, "queue full"),
        (Self::Refused, "refused"),
        (Self::Unplugged, "unplugged"),
    ];
}

/// Counts of frames. A flooded frame counts as one that came in and one more for each port after
/// the first that it is for, so that always `came in + copies = went out + dropped + waiting`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Frames that came in.
    pub received: u64,
    /// Copies made of flooded frames.
    pub copies: u64,
    /// Frames and copies that went out.
    pub sent: u64,
    dropped: [u64; Drop::ALL.len()],
}

impl Tally {
    /// Counts frames that were dropped.
    pub fn drop(&mut self, reason: Drop, count: u64) {
        self.dropped[reason as usize] += count;
    }

    /// How many were dropped for this reason.
    #[must_use]
    pub fn dropped(&self, reason: Drop) -> u64 {
        self.dropped[reason as usize]
    }

    /// Adds another one's counts.
    pub fn add(&mut self, other: &Self) {
        self.received += other.received;
        self.copies += other.copies;
        self.sent += other.sent;
        for (mine, other) in self.dropped.iter_mut().zip(other.dropped) {
            *mine += other;
        }
    }

    /// How many were dropped for any reason.
    #[must_use]
    pub fn all_dropped(&self) -> u64 {
        self.dropped.iter().sum()
    }
}

impl fmt::Display for Tally {
    /// `12 in, 3 copies, 14 out, 1 dropped (1 queue full)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            received,
            copies,
            sent,
            ..
        } = self;
        write!(
            f,
            "{received} in, {copies} copies, {sent} out, {} dropped",
            self.all_dropped()
        )?;
        let mut before = " (";
        for (reason, words) in Drop::ALL {
            let count = self.dropped(reason);
            if count > 0 {
                write!(f, "{before}{count} {words}")?;
                before = ", ";
            }
        }
        if before == ", " {
            f.write_str(")")
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_stand_at_their_own_place_and_are_shown() {
        for (place, (reason, _)) in Drop::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, place);
        }
        let mut tally = Tally::default();
        assert_eq!(tally.to_string(), "0 in, 0 copies, 0 out, 0 dropped");
        tally.drop(Drop::Full, 2);
        tally.drop(Drop::Runt, 1);
        assert_eq!(
            tally.to_string(),
            "0 in, 0 copies, 0 out, 3 dropped (1 too short, 2 queue full)"
        );
    }
}
