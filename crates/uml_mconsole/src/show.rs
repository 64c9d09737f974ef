//! What a command led to, and how it is shown.

use std::{
    fmt::Write as _,
    io::{self, IsTerminal as _},
};

use uml_core::{IoError, console};

use crate::{
    TOOL,
    guests::Guest,
    process,
    session::{End, Reply, seconds},
};

/// What a command led to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// For standard output, with its last newline; may hold anything that a guest sends.
    pub output: Vec<u8>,
    /// For standard error, without a newline.
    pub complaint: Option<String>,
    /// The exit status: 0, or what the guest's error number leaves of itself in a byte.
    pub status: u8,
}

impl Outcome {
    /// Done, with this output.
    #[must_use]
    pub fn done(output: impl Into<Vec<u8>>) -> Self {
        Self {
            output: output.into(),
            ..Self::default()
        }
    }

    /// Failed without a word from the guest.
    #[must_use]
    pub fn failed(complaint: String) -> Self {
        Self {
            complaint: Some(complaint),
            status: 1,
            ..Self::default()
        }
    }

    /// What a reply comes to: `OK TEXT` or `ERR TEXT`, and a complaint when it is not whole.
    #[must_use]
    pub fn of(reply: &Reply, guest: &Guest) -> Self {
        let complaint = complaint(reply, guest);
        // Nothing to show of a reply of which nothing has come.
        let output = if reply.pieces == 0 {
            Vec::new()
        } else {
            let word: &[u8] = match (reply.end, reply.err) {
                (End::Plain, _) => b"",
                (_, 0) => b"OK ",
                _ => b"ERR ",
            };
            [word, &reply.text, b"\n"].concat()
        };
        let status = match (complaint.is_some(), reply.err) {
            (false, 0) => 0,
            (true, 0) => 1,
            // A byte is all that is left of it; 0 would say that all is well.
            (_, err) => err.to_le_bytes()[0].max(1),
        };
        Self {
            output,
            complaint,
            status,
        }
    }
}

fn complaint(reply: &Reply, guest: &Guest) -> Option<String> {
    let name = &guest.name;
    let what = match (reply.end, reply.pieces) {
        (End::Whole, _) => return None,
        (End::Plain, _) => {
            return Some(format!(
                "guest '{name}' has answered in plain text: it doesn't speak version 2 of the \
                 protocol"
            ));
        }
        (_, 0) => format!("guest '{name}' has not answered"),
        _ => format!("the reply of guest '{name}' is cut short"),
    };
    let why = match reply.end {
        End::Silence(after) => {
            let pid = guest.pid().ok();
            let excuse = pid.and_then(|pid| Some((pid, process::excuse(pid)?)));
            let state = excuse
                .map(|(pid, what)| format!("; its process {pid} {what}"))
                .unwrap_or_default();
            let after = seconds(after);
            format!("nothing came for {after}{state} (--timeout SECONDS waits longer)")
        }
        End::Gone => "the guest has ended".to_owned(),
        End::Interrupted => "interrupted".to_owned(),
        End::TooLong => "it has gone on beyond all bounds".to_owned(),
        End::Whole | End::Plain => String::new(),
    };
    Some(format!("{what}: {why}"))
}

/// Prints an outcome and returns its status. Complaints go to standard error.
///
/// # Errors
/// What writing to standard output answered.
pub fn outcome(outcome: &Outcome) -> io::Result<u8> {
    output(&outcome.output)?;
    if let Some(complaint) = &outcome.complaint {
        console::note(format_args!(
            "{TOOL}: {}",
            visible_line(complaint.as_bytes())
        ));
    }
    Ok(outcome.status)
}

/// Prints what came from a guest: as it is, or safely where standard output is a terminal.
///
/// # Errors
/// What writing to standard output answered.
pub fn output(bytes: &[u8]) -> io::Result<()> {
    let written = if io::stdout().is_terminal() {
        console::raw(visible(bytes).as_bytes())
    } else {
        console::raw(bytes)
    };
    Ok(written.map_err(IoError::at("writing to", "standard output"))?)
}

/// Text from a guest without any power over the terminal that shows it: control characters but
/// newline and tab, and bytes that are no UTF-8, are spelled out. A carriage return before a
/// newline is left out.
#[must_use]
pub fn visible(bytes: &[u8]) -> String {
    let mut shown = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        let mut rest = chunk.valid().chars().peekable();
        while let Some(c) = rest.next() {
            match c {
                '\n' | '\t' => shown.push(c),
                '\r' if rest.peek() == Some(&'\n') => {}
                c if c.is_control() => shown.extend(c.escape_default()),
                c => shown.push(c),
            }
        }
        for byte in chunk.invalid() {
            // Writing to a String can't fail.
            let _ = write!(shown, "\\x{byte:02x}");
        }
    }
    shown
}

/// As [`visible`], and on one line: whoever chose the text can't forge a line beside it.
#[must_use]
pub fn visible_line(bytes: &[u8]) -> String {
    visible(bytes).replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn reply(err: u32, text: &[u8], end: End) -> Reply {
        Reply {
            err,
            text: text.to_vec(),
            pieces: 1,
            end,
        }
    }

    fn outcome_of(reply: &Reply) -> Outcome {
        Outcome::of(reply, &Guest::at("/nowhere/lab1/mconsole".into()))
    }

    #[test]
    fn an_error_number_leaves_a_byte_that_is_never_0() {
        let status = |err| outcome_of(&reply(err, b"", End::Whole)).status;
        let minus_2 = 0_u32.wrapping_sub(2);
        assert_eq!(
            [status(0), status(1), status(minus_2), status(256)],
            [0, 1, 254, 1]
        );
    }

    #[test]
    fn a_reply_cut_short_is_shown_and_complained_about() {
        let outcome = outcome_of(&reply(
            0,
            b"half",
            End::Silence(Duration::from_millis(1500)),
        ));
        assert_eq!(outcome.output, b"OK half\n");
        assert_eq!(outcome.status, 1);
        assert_eq!(
            outcome.complaint.unwrap(),
            "the reply of guest 'lab1' is cut short: nothing came for 1.5 s (--timeout SECONDS \
             waits longer)"
        );
    }

    #[test]
    fn terminals_get_no_control_characters() {
        assert_eq!(
            visible(b"a\x1b[2J\tb\r\nc\rd\x07\xff\xc2\x9bz\xe2\x82\xac\n"),
            "a\\u{1b}[2J\tb\nc\\rd\\u{7}\\xff\\u{9b}z\u{20ac}\n"
        );
    }
}
