//! What the guest prints on its console about a call.

use std::fmt::{Display, Write as _};

/// The lines about one call, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Log(String);

impl Log {
    /// A change on the host that was made, in the words of `ip`: `* ip addr add …`.
    pub fn did(&mut self, what: impl Display) {
        // Writing to a String can't fail.
        let _ = writeln!(self.0, "* {what}");
    }

    /// Anything else.
    pub fn says(&mut self, what: impl Display) {
        let _ = writeln!(self.0, "{what}");
    }

    /// All lines, each with its newline.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0
    }
}
