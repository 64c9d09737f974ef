//! What becomes of a call between its arguments and its answer.

use std::{
    ffi::OsString,
    fs, io,
    os::fd::{AsFd as _, OwnedFd},
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
};

use uml_core::{cli::parse, console, error::shown, tuntap::Device};

use crate::{
    answer::{self, Answer, Descriptors},
    args::{Call, Reply, Request},
    cli::{Cli, USAGE},
    log::Log,
    policy::Policy,
    privilege::{Caller, Privilege},
    problem::Problem,
    session::Session,
    slip::Line,
    start, syslog,
};

/// What a call came to.
#[derive(Debug)]
pub struct Outcome {
    /// What was done and said; the problem is its last line.
    pub log: Log,
    /// The tap that was made, or nothing, or why it failed.
    pub result: Result<Option<Device>, Problem>,
}

/// Does what a call asks for.
///
/// `descriptor` is the one that it names beyond the standard ones. It comes back for the answer.
#[must_use]
pub fn perform(
    call: &Call,
    descriptor: io::Result<Option<OwnedFd>>,
    who: io::Result<(&Caller, &Privilege)>,
) -> (Outcome, Option<OwnedFd>) {
    let mut log = Log::default();
    let (fd, taken) = match descriptor {
        Ok(fd) => (fd, Ok(())),
        Err(error) => (None, Err(error)),
    };
    // A bug must not leave a guest without its answer.
    let result = catch_unwind(AssertUnwindSafe(|| {
        let request = call.request.clone()?;
        let number = call.descriptor().unwrap_or_default();
        taken.map_err(|error| Problem::Descriptor(number, error))?;
        let (caller, privilege) = who.map_err(Problem::Raise)?;
        if !start::has_memory() {
            return Err(Problem::NoMemory);
        }
        let descriptors = Descriptors::with(fd.as_ref().map(OwnedFd::as_fd));
        run(
            &request,
            call.reply,
            &descriptors,
            caller,
            privilege,
            &mut log,
        )
    }))
    .unwrap_or(Err(Problem::Bug));
    if let Err(problem) = &result {
        log.says(problem.text());
    }
    (Outcome { log, result }, fd)
}

fn run(
    request: &Request,
    reply: Reply,
    descriptors: &Descriptors<'_>,
    caller: &Caller,
    privilege: &Privilege,
    log: &mut Log,
) -> Result<Option<Device>, Problem> {
    let policy = load_policy(caller, log)?;
    // Looked at before anything is made that nobody could be given.
    if let Some(number) = tap_receiver(request, reply) {
        if !descriptors.get(number).is_ok_and(answer::takes_descriptors) {
            return Err(Problem::NoSocket(number));
        }
    }
    let mut session = Session::open(caller, &policy, privilege, log)?;
    let line = |number| match descriptors.get(number) {
        Ok(fd) => Ok(Line { number, fd }),
        Err(error) => Err(Problem::Descriptor(number, error)),
    };
    match request {
        Request::TapUp { gate } => session.tap_up(*gate).map(Some),
        Request::Add(guest) => session.add(guest).map(|()| None),
        Request::Delete(guest) => session.delete(guest).map(|()| None),
        Request::SlipUp { line: number, gate } => {
            session.slip_up(line(*number)?, *gate).map(|()| None)
        }
        Request::SlipDown { line: number } => session.slip_down(line(*number)?).map(|()| None),
    }
}

/// The number of the descriptor that a tap is to be sent through.
fn tap_receiver(request: &Request, reply: Reply) -> Option<i32> {
    match (request, reply) {
        (Request::TapUp { .. }, Reply::Message(number)) => Some(number),
        (Request::TapUp { .. }, _) => Some(1),
        _ => None,
    }
}

fn load_policy(caller: &Caller, log: &mut Log) -> Result<Policy, Problem> {
    let (policy, ignored) = Policy::load()?;
    if let Some(ignored) = ignored {
        log.says(format_args!("uml_net: {ignored}"));
        syslog::notice(&ignored.to_string());
    }
    let file = |path| fs::read_to_string(path).unwrap_or_default();
    if policy.allows(caller, &file("/etc/passwd"), &file("/etc/group")) {
        Ok(policy)
    } else {
        Err(Problem::NotAllowed(caller.uid))
    }
}

/// Answers a call, and undoes it where nobody takes the answer. Returns whether all went well.
pub fn respond(
    call: &Call,
    outcome: Outcome,
    descriptor: Option<&OwnedFd>,
    who: Option<(&Caller, &Privilege)>,
) -> bool {
    if let (Err(problem), Some((caller, _))) = (&outcome.result, who) {
        if problem.is_refusal() {
            let why = uml_core::error::chain(problem);
            syslog::notice(&format!("refused uid {}: {why}", caller.uid));
        }
    }
    let device = outcome.result.as_ref().ok().and_then(Option::as_ref);
    let answer = Answer {
        tap: device.map(|device| (device.name().as_str(), device.as_fd())),
        log: outcome.log.text(),
        worked: outcome.result.is_ok(),
    };
    let worked = answer.worked;
    let descriptors = Descriptors::with(descriptor.map(OwnedFd::as_fd));
    let sent = answer::send(call.reply, &descriptors, answer);
    let Err((number, error)) = sent else {
        return worked;
    };
    answer::tell(&format!(
        "{}uml_net: answering on descriptor {number}: {}",
        outcome.log.text(),
        uml_core::error::system_text(&error)
    ));
    if outcome.result.is_ok_and(|device| device.is_some()) {
        // The device is gone by now: so is the need for what was there for its guest.
        if let Some((caller, privilege)) = who {
            clean(caller, privilege, &mut Log::default());
        }
    }
    false
}

/// Puts right what guests have left. Returns whether that could be done.
fn clean(caller: &Caller, privilege: &Privilege, log: &mut Log) -> bool {
    let opened = Session::open(caller, &Policy::default(), privilege, log).map(|_| ());
    if let Err(problem) = &opened {
        log.says(problem.text());
    }
    opened.is_ok()
}

/// The command line of people: help, version, checks. `words` begin with the program's name.
#[must_use]
pub fn serve_people(words: &[OsString], who: io::Result<(Caller, Privilege)>) -> ExitCode {
    let failed = |error: io::Error| {
        console::report("uml_net", &Problem::Raise(error));
        ExitCode::FAILURE
    };
    let (caller, privilege) = match who {
        Ok(who) => who,
        Err(error) => return failed(error),
    };
    // All else is read and done without privilege.
    let is_clean = matches!(words, [_, word] if word == "--clean");
    let mut log = Log::default();
    let cleaned = is_clean && clean(&caller, &privilege, &mut log);
    if let Err(error) = privilege.give_up() {
        return failed(error);
    }
    if is_clean {
        let told = console::raw(log.text().as_bytes()).is_ok();
        return if cleaned && told {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        };
    }
    let cli: Cli = match parse(words.iter().cloned(), USAGE) {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    match cli.check_policy {
        Some(path) => check_policy(&path),
        None => uml_core::cli::wrong("", USAGE),
    }
}

fn check_policy(path: &std::path::Path) -> ExitCode {
    match Policy::check(path) {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => {
            console::note(format_args!("uml_net: {}: {what}", shown(path)));
            ExitCode::FAILURE
        }
    }
}
