//! Sets up the host side of a User-Mode Linux guest's network.
//!
//! Setuid root or with `CAP_NET_ADMIN`, run by anybody, with arguments, environment, descriptors,
//! limits and signals of their choosing.
#![forbid(unsafe_code)]

use std::{env, ffi::OsString, io, process::ExitCode};

use uml_net::{args::Call, cli, privilege::Privilege, start, work};

fn main() -> ExitCode {
    // 1. Signals, limits, environment, umask, current folder: the caller's choices lose their
    //    effect. No core dump, no new privilege.
    start::shed_inheritance();
    // 2. Who calls. Privilege is lowered from here on, and raised for single steps.
    let who = Privilege::take();
    // 3. What is asked for, from untrusted bytes.
    let words: Vec<OsString> = env::args_os().collect();
    let args = words.get(1..).unwrap_or_default();
    if cli::is_for_people(args) {
        return work::serve_people(&words, who);
    }
    let call = Call::parse(args);
    // 4. Descriptors: the one that the call names is kept, the others are closed.
    let descriptor = start::sort_descriptors(call.descriptor());
    // 5. The policy, the lock, what killed calls have left, the changes.
    let granted = who.as_ref().map(|(caller, privilege)| (caller, privilege));
    let refused = |error: &io::Error| io::Error::from(error.kind());
    let (outcome, descriptor) = work::perform(&call, descriptor, granted.map_err(refused));
    // 6. From here on the caller's name is on all that is written.
    let renamed = match &who {
        Ok((_, privilege)) => privilege.answer_as_caller(),
        Err(_) => Ok(()),
    };
    // 7. The answer, in any case. A tap that nobody takes is undone.
    let granted = granted.ok().filter(|_| renamed.is_ok());
    if work::respond(&call, outcome, descriptor.as_ref(), granted) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
