//! Commands from a standard input that is no terminal: one on each line.

use std::io::{self, BufRead, Read as _};

use crate::{
    cli::AfterError,
    command::{Command, Context},
    show::{self, Outcome},
};

/// The longest line in bytes. Only the text of a `log` may be longer than a request.
const MAX_LINE: u64 = 1 << 20;

/// Carries out a script; returns the first failure's status, or 0.
///
/// Empty lines, and lines that begin with `#`, are left out. `NAME: COMMAND` switches to guest
/// NAME and sends it the command.
///
/// # Errors
/// What reading the script or writing to standard output answered.
pub fn run(
    mut input: impl BufRead,
    mut context: Context,
    after_error: AfterError,
) -> io::Result<u8> {
    let mut first_failure = 0;
    loop {
        let mut line = Vec::new();
        let length = input.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)?;
        if length == 0 {
            return Ok(first_failure);
        }
        let is_cut = line.last() != Some(&b'\n') && u64::try_from(length) == Ok(MAX_LINE);
        if is_cut {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("a line of the script is longer than {MAX_LINE} bytes"),
            ));
        }
        let line = line.trim_ascii();
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        let Some(outcome) = step(line, &mut context) else {
            return Ok(first_failure);
        };
        let status = show::outcome(&outcome)?;
        if first_failure == 0 {
            first_failure = status;
        }
        if status != 0 && after_error == AfterError::Stop {
            return Ok(status);
        }
    }
}

/// Carries out one line of a script or of the prompt; `None` when it says to quit.
pub fn step(line: &[u8], context: &mut Context) -> Option<Outcome> {
    let (guest, line) = address(line);
    if let Some(guest) = guest {
        let switched = context.switch(guest);
        if switched.status != 0 || line.is_empty() {
            return Some(switched);
        }
    }
    match Command::parse(line) {
        Command::Quit => None,
        command => Some(command.carry_out(context)),
    }
}

/// Splits `NAME: COMMAND`; without a name, all of it is the command.
fn address(line: &[u8]) -> (Option<&std::ffi::OsStr>, &[u8]) {
    use std::os::unix::ffi::OsStrExt as _;
    let end = line
        .iter()
        .position(|byte| *byte == b':' || byte.is_ascii_whitespace());
    match end {
        Some(at) if at > 0 && line[at] == b':' => (
            Some(std::ffi::OsStr::from_bytes(&line[..at])),
            line[at + 1..].trim_ascii_start(),
        ),
        _ => (None, line),
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    #[test]
    fn a_name_with_a_colon_is_an_address() {
        let lab1 = Some(OsStr::new("lab1"));
        assert_eq!(address(b"lab1: version"), (lab1, &b"version"[..]));
        assert_eq!(address(b"lab1:version x"), (lab1, &b"version x"[..]));
        assert_eq!(address(b"lab1:"), (lab1, &b""[..]));
        assert_eq!(address(b"log a: b"), (None, &b"log a: b"[..]));
        assert_eq!(address(b": b"), (None, &b": b"[..]));
    }
}
