//! Frames that say who sent them, to whom, and whether they are as they were.

use std::sync::OnceLock;

/// A guest for as long as it is plugged in. Nobody else ever has its address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Station {
    /// Which of the guests.
    pub(crate) slot: u8,
    /// How often that one had been plugged in before.
    pub(crate) life: u32,
}

impl Station {
    /// Its Ethernet address: 02, the slot, the life.
    pub(crate) fn address(self) -> [u8; 6] {
        let [a, b, c, d] = self.life.to_be_bytes();
        [2, self.slot, a, b, c, d]
    }

    fn of(address: [u8; 6]) -> Option<Self> {
        let [2, slot, a, b, c, d] = address else {
            return None;
        };
        let life = u32::from_be_bytes([a, b, c, d]);
        Some(Self { slot, life })
    }
}

/// What a frame of the guests says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Letter {
    /// For whom it is; `None`: for all.
    pub(crate) to: Option<Station>,
    /// Who sent it.
    pub(crate) from: Station,
    /// The switch knew where the receiver is.
    pub(crate) settled: bool,
    /// Larger than in all frames that the sender sent before.
    pub(crate) number: u32,
}

/// Both addresses, the type, the mark, the number, the length.
pub(crate) const SHORTEST: usize = 14 + 1 + 4 + 4;

/// An ethertype for experiments.
const TYPE: [u8; 2] = [0x88, 0xb5];

/// Another one, of frames that nobody reads.
const NOISE: [u8; 2] = [0x88, 0xb6];

/// What fills the rest of a frame: a part of this, from a place that the number tells.
fn filling(number: u32, length: usize) -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    const PRIME: u32 = 251;
    let bytes = BYTES.get_or_init(|| {
        let bytes = (0..70_000_u32).map(|place| (place.wrapping_mul(place) / 7).to_le_bytes()[0]);
        bytes.collect()
    });
    let start = usize::try_from(number % PRIME).unwrap();
    &bytes[start..start + length]
}

impl Letter {
    /// The frame, of that length, at least [`SHORTEST`].
    pub(crate) fn write(&self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length);
        bytes.extend(self.to.map_or([0xff; 6], Station::address));
        bytes.extend(self.from.address());
        bytes.extend(TYPE);
        bytes.push(u8::from(self.settled));
        bytes.extend(self.number.to_be_bytes());
        bytes.extend(u32::try_from(length).unwrap().to_be_bytes());
        bytes.extend(filling(self.number, length - SHORTEST));
        bytes
    }

    /// Reads a frame; `None`: noise. Panics when it isn't as it was sent.
    pub(crate) fn read(frame: &[u8]) -> Option<Self> {
        assert!(frame.len() >= 14, "a runt was passed on: {frame:02x?}");
        if frame[12..14] == NOISE {
            return None;
        }
        let head = &frame[..frame.len().min(SHORTEST)];
        assert!(
            frame.len() >= SHORTEST && head[12..14] == TYPE,
            "nobody sent this frame: {head:02x?}"
        );
        let word = |at: usize| u32::from_be_bytes(frame[at..at + 4].try_into().unwrap());
        let number = word(15);
        let length = usize::try_from(word(19)).unwrap();
        assert_eq!(frame.len(), length, "the length of frame {head:02x?}");
        assert!(
            frame[SHORTEST..] == *filling(number, length - SHORTEST),
            "the content of frame {head:02x?}"
        );
        let address = |at: usize| -> [u8; 6] { frame[at..at + 6].try_into().unwrap() };
        Some(Self {
            to: Station::of(address(0)),
            from: Station::of(address(6)).unwrap(),
            settled: frame[14] == 1,
            number,
        })
    }
}

/// A frame that means nothing, from an address that nobody has.
pub(crate) fn noise(destination: [u8; 6], source: [u8; 4], length: usize) -> Vec<u8> {
    let mut bytes = destination.to_vec();
    bytes.extend([6, 6]);
    bytes.extend(source);
    bytes.extend(NOISE);
    bytes.resize(length, 0x77);
    bytes
}
