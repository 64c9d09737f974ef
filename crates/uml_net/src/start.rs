//! What the caller chose for the process, and what becomes of it.

use std::{io, os::fd::OwnedFd};

use nix::{
    sys::{
        prctl,
        resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit},
        signal::SigSet,
        stat::{Mode, umask},
    },
    unistd::chdir,
};
use uml_core::sys::process::{clear_environment, close_inherited, inherited};

use crate::privilege::forbid_dumps;

/// Enough descriptors for the work: the answer's, a lock, a state file, a socket, a tap.
const DESCRIPTORS: u64 = 64;

/// Enough memory for the work, the host's routing table included.
const MEMORY_BYTES: u64 = 64 << 20;

/// Makes signals, limits, environment, umask, current folder and dumps the same for every caller.
///
/// No step can fail in a way that matters: what can't be had (a higher limit without the right to
/// it) shows where it is needed, and is answered there.
pub fn shed_inheritance() {
    // Nothing but SIGKILL and SIGSTOP ends the program before it has answered. Both need the
    // caller's right to send them, which it doesn't have where the program is setuid.
    let _ = SigSet::all().thread_block();
    for resource in [
        Resource::RLIMIT_AS,
        Resource::RLIMIT_CPU,
        Resource::RLIMIT_DATA,
        Resource::RLIMIT_FSIZE,
        Resource::RLIMIT_STACK,
    ] {
        raise(resource, RLIM_INFINITY);
    }
    raise(Resource::RLIMIT_NOFILE, DESCRIPTORS);
    let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
    clear_environment();
    umask(Mode::S_IRWXG | Mode::S_IRWXO);
    let _ = chdir("/");
    forbid_dumps();
    let _ = prctl::set_no_new_privs();
    // A bug must be answered too, and not by a panic's own words.
    std::panic::set_hook(Box::new(|_| {}));
}

/// Whether the caller has left enough memory to work with: running out of it would end the program
/// without an answer.
#[must_use]
pub fn has_memory() -> bool {
    [Resource::RLIMIT_AS, Resource::RLIMIT_DATA]
        .into_iter()
        .all(|resource| getrlimit(resource).is_ok_and(|(soft, _)| soft >= MEMORY_BYTES))
}

/// At least this much, as far as the right to it goes.
fn raise(resource: Resource, wanted: u64) {
    let Ok((soft, hard)) = getrlimit(resource) else {
        return;
    };
    if soft >= wanted {
        return;
    }
    let hard_wanted = hard.max(wanted);
    if setrlimit(resource, wanted, hard_wanted).is_err() {
        let _ = setrlimit(resource, hard.min(wanted), hard);
    }
}

/// Takes the descriptor of this number over, and closes all that aren't standard ones.
///
/// Descriptors 0 to 2 that are closed have been opened on `/dev/null` by the language's runtime, so
/// that nothing opened later takes their places.
///
/// # Errors
/// `EBADF` where there is no such descriptor. The others are closed all the same.
pub fn sort_descriptors(number: Option<i32>) -> io::Result<Option<OwnedFd>> {
    let taken = number.map(inherited).transpose();
    let keep = taken.as_ref().ok().and_then(Option::as_ref);
    // Before Linux 5.9 they stay: nothing is started that would get them.
    let _ = close_inherited(keep.map(std::os::fd::AsFd::as_fd));
    taken
}
