//! Every guest at once.

use std::{io, thread, time::Duration};

use uml_core::console;

use crate::{
    TOOL,
    command::{Command, Context},
    guests::{Guest, Places},
    session::Session,
    show::{self, Outcome, visible_line},
};

/// How many guests are talked to at a time.
const AT_ONCE: usize = 64;

/// Sends a command to every running guest; each line of the answers begins with the guest's umid.
/// Returns 0, or the status of the first guest, by name, that failed.
///
/// # Errors
/// What writing to standard output answered.
pub fn run(places: &Places, line: &[u8], timeout: Duration) -> io::Result<u8> {
    let command = Command::parse(line);
    if matches!(command, Command::Quit | Command::Switch(_)) {
        console::note(format_args!(
            "{TOOL}: quit and switch are for one guest, not for --all"
        ));
        return Ok(1);
    }
    let running: Vec<Guest> = places
        .guests()
        .into_iter()
        .filter(|guest| Session::new(guest.clone(), timeout).check().is_ok())
        .collect();
    if running.is_empty() {
        let dirs: Vec<String> = places
            .dirs()
            .iter()
            .map(|dir| format!("'{}'", dir.display()))
            .collect();
        console::note(format_args!(
            "{TOOL}: no guest is running below {}",
            dirs.join(" or ")
        ));
        return Ok(1);
    }
    let outcomes = each(&running, |guest| {
        let name = guest.socket.clone().into_os_string();
        command.carry_out(&mut Context::new(places.clone(), name, timeout))
    });
    let mut first_failure = 0;
    for (guest, outcome) in running.iter().zip(outcomes) {
        let status = show::outcome(&prefixed(&guest.name, outcome))?;
        if first_failure == 0 {
            first_failure = status;
        }
    }
    Ok(first_failure)
}

/// Does something with each guest, many at a time; the results are in the guests' order.
pub fn each<T: Send>(guests: &[Guest], act: impl Fn(&Guest) -> T + Sync) -> Vec<T> {
    let act = &act;
    let mut results = Vec::with_capacity(guests.len());
    for group in guests.chunks(AT_ONCE) {
        thread::scope(|scope| {
            let threads: Vec<_> = group
                .iter()
                .map(|guest| scope.spawn(move || act(guest)))
                .collect();
            for thread in threads {
                match thread.join() {
                    Ok(result) => results.push(result),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
        });
    }
    results
}

fn prefixed(umid: &str, outcome: Outcome) -> Outcome {
    let umid = visible_line(umid.as_bytes());
    let text = outcome.output.strip_suffix(b"\n").unwrap_or_default();
    let mut output = Vec::with_capacity(outcome.output.len() + umid.len());
    if !outcome.output.is_empty() {
        for line in text.split(|byte| *byte == b'\n') {
            output.extend_from_slice(umid.as_bytes());
            output.extend_from_slice(b": ");
            output.extend_from_slice(line);
            output.push(b'\n');
        }
    }
    Outcome { output, ..outcome }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_gets_the_umid() {
        let shown = |text: &str| {
            let output = prefixed("lab1", Outcome::done(text)).output;
            String::from_utf8(output).unwrap()
        };
        let forged = prefixed("a\nb", Outcome::done("OK\n"));
        assert_eq!(forged.output, b"a\\nb: OK\n");
        assert_eq!(shown("OK a\n\nb\n"), "lab1: OK a\nlab1: \nlab1: b\n");
        assert_eq!(shown(""), "");
    }
}
