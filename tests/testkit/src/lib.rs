//! What the tests share: commands with time limits, binaries, network namespaces, real guests.
//!
//! A prerequisite that is missing is a panic that names the package to install, never a skip.
#![forbid(unsafe_code)]
#![expect(
    clippy::missing_panics_doc,
    clippy::panic,
    clippy::expect_used,
    reason = "a test kit fails by panicking; each function's doc says on what"
)]

pub mod bins;
pub mod cmd;
pub mod faults;
pub mod guest;
pub mod image;
pub mod netns;
pub mod pty;
pub mod switch;

use std::{
    fs, iter,
    os::unix::net::UnixDatagram,
    path::Path,
    thread,
    time::{Duration, Instant},
};

/// A bound for anything that should take a moment: generous, since test machines are loaded.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Calls `probe` every few milliseconds until it gives a value.
///
/// Panics with `what` when that takes longer than [`PATIENCE`].
pub fn until<T>(what: &str, probe: impl FnMut() -> Option<T>) -> T {
    until_within(PATIENCE, what, probe)
}

/// As [`until`], for what may take longer than a moment.
///
/// Panics with `what` when it takes longer than `patience`.
pub fn until_within<T>(patience: Duration, what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(
            start.elapsed() < patience,
            "waited {patience:?} in vain for {what}"
        );
        thread::sleep(Duration::from_millis(5));
    }
}

/// Fills a datagram socket's queue, so that the next one who sends there has to wait. Returns how
/// many datagrams it took; none is longer than a byte.
#[must_use]
pub fn fill_queue(socket: &Path) -> usize {
    let filler = UnixDatagram::unbound().expect("a socket to fill another with");
    filler
        .set_nonblocking(true)
        .expect("sending without waiting");
    iter::repeat_with(|| filler.send_to(b"x", socket))
        .take_while(Result::is_ok)
        .count()
}

/// All names in a folder, in order. Panics when it can't be read, or a name is no Unicode.
#[must_use]
#[track_caller]
pub fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder to look into");
    let name = |entry: std::io::Result<fs::DirEntry>| {
        let name = entry.expect("a folder's entry").file_name();
        name.into_string().expect("a name in Unicode")
    };
    let mut names: Vec<_> = entries.map(name).collect();
    names.sort();
    names
}
