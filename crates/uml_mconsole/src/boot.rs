//! `--wait-boot`: waits until a guest is there.

use std::{
    ffi::OsStr,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use uml_core::{IoError, console, wire::mconsole::Event};

use crate::{
    TOOL,
    guests::Places,
    listen::Listener,
    session::{End, Session, seconds},
};

/// How often the guest's socket is tried.
const TRY_EVERY: Duration = Duration::from_millis(100);

/// How long one try may take: a guest that is about to boot answers the next one.
const PATIENCE: Duration = Duration::from_secs(1);

/// Waits until the guest's console answers, or its boot is told on the notification socket.
/// Returns 0, or 1 after a message when that takes too long.
///
/// # Errors
/// What the notification socket answered.
pub fn run(
    places: &Places,
    guest: &OsStr,
    notify: Option<&Path>,
    limit: Duration,
) -> Result<u8, IoError> {
    let begin = Instant::now();
    let mut listener = notify
        .map(|socket| Listener::bind(socket, places.clone()))
        .transpose()?;
    let name = guest.to_string_lossy().into_owned();
    loop {
        if answers(places, guest) {
            return Ok(0);
        }
        let left = limit.saturating_sub(begin.elapsed());
        if left.is_zero() {
            console::note(format_args!(
                "{TOOL}: guest '{name}' has not booted within {}",
                seconds(limit)
            ));
            return Ok(1);
        }
        let wait = left.min(TRY_EVERY);
        match &mut listener {
            None => thread::sleep(wait),
            Some(listener) => {
                if let Some(Ok(heard)) = listener.next(wait)? {
                    if heard.event == Event::Boot && heard.umid.as_ref() == Some(&name) {
                        return Ok(0);
                    }
                }
            }
        }
    }
}

fn answers(places: &Places, guest: &OsStr) -> bool {
    places.find(guest).is_ok_and(|guest| {
        let reply = Session::new(guest, PATIENCE).request(b"version");
        reply.is_ok_and(|reply| reply.end == End::Whole)
    })
}
