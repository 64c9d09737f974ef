//! Locks that are waited for, but not for good: whoever holds one may never let it go.

use std::{
    fs::File,
    io, thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};

/// How often it is looked whether a lock is free.
const PAUSE: Duration = Duration::from_millis(20);

/// Locks a file (`flock`, nobody else at the same time) as soon as nobody else holds it; `None`
/// where somebody has held it for as long as `limit`. `before_waiting` runs once, where it isn't
/// free at once.
///
/// # Errors
/// What the system said.
pub fn within(
    limit: Duration,
    mut file: File,
    before_waiting: impl FnOnce(),
) -> io::Result<Option<Flock<File>>> {
    let start = Instant::now();
    let mut before_waiting = Some(before_waiting);
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(Some(lock)),
            Err((back, Errno::EWOULDBLOCK)) => file = back,
            Err((_, error)) => return Err(error.into()),
        }
        if start.elapsed() >= limit {
            return Ok(None);
        }
        if let Some(before_waiting) = before_waiting.take() {
            before_waiting();
        }
        thread::sleep(PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_that_is_held_is_waited_for_and_then_given_up() {
        let held = tempfile::NamedTempFile::new().unwrap();
        let open = || File::open(held.path()).unwrap();
        let mut waits = 0;
        let first = within(Duration::ZERO, open(), || waits += 1).unwrap();
        assert!(first.is_some());
        let refused = within(Duration::ZERO, open(), || waits += 1).unwrap();
        assert!(refused.is_none());
        assert_eq!(waits, 0);
        // It is let go as soon as the other one is known to wait.
        let second = within(Duration::from_secs(30), open(), || drop(first)).unwrap();
        assert!(second.is_some());
    }
}
