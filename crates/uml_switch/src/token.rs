//! What an event of the event loop is about.

/// The kinds of event sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// A listening socket.
    Listener,
    /// A connection that hasn't sent its request yet.
    Caller,
    /// A port's frames.
    Port,
    /// A port's control connection.
    Control,
    /// The data socket that guests of version 0 share.
    Data,
    /// A signal.
    Signal,
    /// Standard input.
    Input,
}

const SOURCES: [Source; 7] = [
    Source::Listener,
    Source::Caller,
    Source::Port,
    Source::Control,
    Source::Data,
    Source::Signal,
    Source::Input,
];

/// A source, its slot, and which of those that had the slot it is: 8, 32 and 24 bits.
///
/// An event may still be on its way when its source is gone and the slot has a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token(u64);

impl Token {
    /// A token.
    #[must_use]
    pub(crate) const fn new(source: Source, slot: u32, generation: u32) -> Self {
        Self((source as u64) << 56 | ((generation & 0xff_ffff) as u64) << 32 | slot as u64)
    }

    /// Its source.
    #[must_use]
    pub(crate) fn source(self) -> Option<Source> {
        SOURCES.get(usize::from(self.0.to_be_bytes()[0])).copied()
    }

    /// Its slot.
    #[must_use]
    pub(crate) const fn slot(self) -> u32 {
        let [_, _, _, _, a, b, c, d] = self.0.to_be_bytes();
        u32::from_be_bytes([a, b, c, d])
    }

    /// Its generation.
    #[must_use]
    pub(crate) const fn generation(self) -> u32 {
        let [_, a, b, c, ..] = self.0.to_be_bytes();
        u32::from_be_bytes([0, a, b, c])
    }
}

impl From<Token> for u64 {
    fn from(token: Token) -> Self {
        token.0
    }
}

impl From<u64> for Token {
    fn from(data: u64) -> Self {
        Self(data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_back() {
        for source in SOURCES {
            let token = Token::from(u64::from(Token::new(source, 0xdead_beef, 0x01ab_cdef)));
            assert_eq!(token.source(), Some(source));
            assert_eq!(token.slot(), 0xdead_beef);
            assert_eq!(token.generation(), 0xab_cdef);
        }
        assert_eq!(Token::from(u64::MAX).source(), None);
    }
}
