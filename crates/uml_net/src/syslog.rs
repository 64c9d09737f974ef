//! Refusals in the system's log.

use std::os::unix::net::UnixDatagram;

use uml_core::error::printable;

/// Where the system's log listens.
const SOCKET: &str = "/dev/log";
/// `LOG_AUTH | LOG_NOTICE`: facility 4, severity 5.
const PRIORITY: u8 = 4 << 3 | 5;
/// The longest message, in bytes: what every log daemon takes.
const LIMIT: usize = 1000;

/// Logs one line under facility `auth`. A host without a log, or with one that doesn't listen,
/// loses it: no call waits for that.
pub fn notice(line: &str) {
    let Ok(socket) = UnixDatagram::unbound() else {
        return;
    };
    let sent = socket
        .set_nonblocking(true)
        .and_then(|()| socket.connect(SOCKET))
        .and_then(|()| socket.send(&message(line, std::process::id())));
    // Nobody is left to tell.
    drop(sent);
}

/// A message as log daemons take it: `<PRIORITY>NAME[PID]: TEXT`. They put the time to it.
fn message(line: &str, pid: u32) -> Vec<u8> {
    // A line of the log must stay one line, and show no terminal's commands.
    let mut text = format!("<{PRIORITY}>uml_net[{pid}]: {}", printable(line));
    let mut end = text.len().min(LIMIT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_one_line_of_bounded_length() {
        assert_eq!(
            message("refused\nuid 0\u{1b}[2J", 7),
            b"<37>uml_net[7]: refused\\nuid 0\\u{1b}[2J"
        );
        assert_eq!(message(&"ä".repeat(5000), 7).len(), LIMIT);
    }
}
