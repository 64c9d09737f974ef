//! Commands: those that are carried out here, and those that go to the guest.

use std::{
    env,
    ffi::{OsStr, OsString},
    fs::{self, File},
    io::Read,
    os::{fd::RawFd, unix::ffi::OsStrExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use uml_core::{IoError, error::chain};

use crate::{
    absolute::absolute,
    guests::Places,
    interrupt::Interrupt,
    log::Requests,
    session::{End, Session, SessionError},
    show::Outcome,
};

/// What `help` adds to the guest's own text.
const LOCAL_HELP: &str = "\
Additional local mconsole commands:
    quit - Quit mconsole
    switch <socket-name> - Switch control to the given machine
    log -f <filename> - use contents of <filename> as UML log messages
    mconsole-version - version of this mconsole program
    int  - Interrupt UML session
";

/// What `mconsole-version` answers.
const CLIENT_VERSION: &str = "uml_mconsole client version 2\n";

/// A command, sorted by who carries it out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// `quit`: nothing more is to be done.
    Quit,
    /// `help`: the guest's text and our own.
    Help(Vec<u8>),
    /// `switch NAME`: talk to another guest from now on.
    Switch(OsString),
    /// `log TEXT`.
    Log(Vec<u8>),
    /// `log -f FILE`.
    LogFile(PathBuf),
    /// `mconsole-version`.
    ClientVersion,
    /// `int`: SIGINT to the guest's process.
    Interrupt,
    /// `umlfs FD`: a request with an open descriptor; `None` when FD is no number.
    PassDescriptor(Vec<u8>, Option<RawFd>),
    /// Everything else is the guest's.
    Guest(Vec<u8>),
}

impl Command {
    /// Sorts a command line. White space at its end doesn't count.
    ///
    /// A guest takes every word that begins with a command's name for that command; `log` and
    /// `help` are the guest's too, and are told the same way.
    #[must_use]
    pub fn parse(line: &[u8]) -> Self {
        let line = line.trim_ascii_end();
        let end = line.iter().position(u8::is_ascii_whitespace);
        let (word, rest) = line.split_at(end.unwrap_or(line.len()));
        let rest = rest.trim_ascii_start();
        match word {
            b"quit" => Self::Quit,
            b"switch" => Self::Switch(os(rest)),
            b"mconsole-version" => Self::ClientVersion,
            b"int" => Self::Interrupt,
            b"umlfs" => {
                let number = std::str::from_utf8(rest).ok().and_then(|n| n.parse().ok());
                Self::PassDescriptor(line.to_vec(), number.filter(|fd| *fd >= 0))
            }
            _ if word.starts_with(b"help") => Self::Help(line.to_vec()),
            _ if word.starts_with(b"log") => {
                let text = line[b"log".len()..].trim_ascii_start();
                match text.strip_prefix(b"-f") {
                    Some(file) => Self::LogFile(os(file.trim_ascii_start()).into()),
                    None => Self::Log(text.to_vec()),
                }
            }
            _ => Self::Guest(line.to_vec()),
        }
    }

    /// Carries the command out.
    pub fn carry_out(&self, context: &mut Context) -> Outcome {
        match self {
            Self::Quit => Outcome::default(),
            Self::ClientVersion => Outcome::done(CLIENT_VERSION),
            Self::Switch(name) => context.switch(name),
            Self::Help(line) => {
                let mut outcome = context.with_session(|session| simple(session, line));
                outcome.output.extend_from_slice(LOCAL_HELP.as_bytes());
                outcome
            }
            Self::Log(text) => context.with_session(|session| Ok(log(session, text.as_slice()))),
            Self::LogFile(path) => context.with_session(|session| Ok(log_file(session, path))),
            Self::Interrupt => context.with_session(interrupt),
            Self::PassDescriptor(line, descriptor) => {
                context.with_session(|session| pass(session, line, *descriptor))
            }
            Self::Guest(line) => context.with_session(|session| {
                let here = env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
                simple(session, &absolute(line, &here))
            }),
        }
    }
}

/// The guest that commands go to, and how.
#[derive(Debug, Clone)]
pub struct Context {
    places: Places,
    guest: OsString,
    timeout: Duration,
    interrupt: Option<Arc<Interrupt>>,
}

impl Context {
    /// Commands go to this guest, which is looked for when the first one needs it.
    #[must_use]
    pub fn new(places: Places, guest: OsString, timeout: Duration) -> Self {
        Self {
            places,
            guest,
            timeout,
            interrupt: None,
        }
    }

    /// The same; waiting for an answer ends when the user says so.
    #[must_use]
    pub fn interrupted_by(mut self, interrupt: &Arc<Interrupt>) -> Self {
        self.interrupt = Some(Arc::clone(interrupt));
        self
    }

    /// Where guests are looked for.
    #[must_use]
    pub fn places(&self) -> &Places {
        &self.places
    }

    /// The guest that commands go to, as it was asked for.
    #[must_use]
    pub fn guest(&self) -> &OsStr {
        &self.guest
    }

    fn with_session(&self, act: impl FnOnce(&Session) -> Result<Outcome, SessionError>) -> Outcome {
        let guest = match self.places.find(&self.guest) {
            Ok(guest) => guest,
            Err(error) => return Outcome::failed(chain(&error)),
        };
        let session = Session::new(guest, self.timeout).interrupted_by(self.interrupt.as_ref());
        act(&session).unwrap_or_else(|error| Outcome::failed(chain(&error)))
    }

    /// Makes this guest the one that commands go to, if it is there.
    pub fn switch(&mut self, name: &OsStr) -> Outcome {
        match self.places.find(name) {
            Ok(_) => {
                name.clone_into(&mut self.guest);
                Outcome::done([b"Switched to '", name.as_bytes(), b"'\n"].concat())
            }
            Err(error) => Outcome::failed(chain(&error)),
        }
    }
}

fn os(bytes: &[u8]) -> OsString {
    OsStr::from_bytes(bytes).to_owned()
}

/// One request; for those after which a guest ends, that it has is an answer too.
fn simple(session: &Session, command: &[u8]) -> Result<Outcome, SessionError> {
    let reply = session.request(command)?;
    let is_end = [&b"halt"[..], b"reboot", b"cad"]
        .iter()
        .any(|word| command.starts_with(word));
    if is_end && reply.end == End::Gone && reply.err == 0 {
        return Ok(Outcome::done([b"OK ", &*reply.text, b"\n"].concat()));
    }
    Ok(Outcome::of(&reply, session.guest()))
}

/// All requests of a text, up to the first that fails.
fn log(session: &Session, text: impl Read) -> Outcome {
    let mut all = Outcome::default();
    for request in Requests::new(text) {
        let request = match request {
            Ok(request) => request,
            Err(error) => {
                all.complaint = Some(format!("reading file: {}", chain(&error)));
                all.status = 1;
                break;
            }
        };
        let one = simple(session, &request).unwrap_or_else(|error| Outcome::failed(chain(&error)));
        all.output.extend_from_slice(&one.output);
        all.complaint = one.complaint;
        all.status = one.status;
        if all.status != 0 {
            break;
        }
    }
    all
}

fn log_file(session: &Session, path: &Path) -> Outcome {
    match File::open(path).map_err(IoError::at("opening file", path)) {
        Ok(file) => log(session, file),
        Err(error) => Outcome::failed(chain(&error)),
    }
}

/// SIGINT to the process whose id the guest has left beside its socket, if the guest is there:
/// otherwise the id may be another process's by now.
fn interrupt(session: &Session) -> Result<Outcome, SessionError> {
    session.check()?;
    let guest = session.guest();
    let outcome = match guest.pid() {
        Ok(pid) => match kill(Pid::from_raw(pid), Signal::SIGINT) {
            Ok(()) => Outcome::default(),
            Err(errno) => Outcome::failed(format!(
                "sending SIGINT to process {pid} of guest '{}': {}",
                guest.name,
                errno.desc()
            )),
        },
        Err(error) => Outcome::failed(format!(
            "no process id of guest '{}' beside its socket, no signal sent: {}: {}",
            guest.name,
            guest.pid_file().display(),
            chain(&error)
        )),
    };
    Ok(outcome)
}

/// Sends a request with an open descriptor of this process.
fn pass(
    session: &Session,
    line: &[u8],
    descriptor: Option<RawFd>,
) -> Result<Outcome, SessionError> {
    let local = |text: &str, errno: nix::errno::Errno| Outcome {
        output: format!("ERR {text}\n").into_bytes(),
        complaint: None,
        // As a guest's own negated error number would end up.
        status: (errno as i32).wrapping_neg().to_le_bytes()[0],
    };
    let Some(descriptor) = descriptor else {
        return Ok(local(
            "Failed to parse file descriptor",
            nix::errno::Errno::EINVAL,
        ));
    };
    let refused = local(
        "Failed to send FUSE file descriptor",
        nix::errno::Errno::EBADF,
    );
    // Looked at while no socket of ours is open that could have this number.
    if fs::symlink_metadata(format!("/proc/self/fd/{descriptor}")).is_err() {
        return Ok(refused);
    }
    match session.request_with(line, descriptor) {
        Ok(reply) => Ok(Outcome::of(&reply, session.guest())),
        Err(SessionError::Descriptor { .. }) => Ok(refused),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_commands_are_whole_words() {
        assert_eq!(Command::parse(b"quit now"), Command::Quit);
        assert_eq!(
            Command::parse(b"quitx"),
            Command::Guest(b"quitx".to_vec()),
            "a guest may know a command that begins like one of ours"
        );
        assert_eq!(
            Command::parse(b"switch  lab2 "),
            Command::Switch("lab2".into())
        );
        assert_eq!(
            Command::parse(b"internals"),
            Command::Guest(b"internals".to_vec())
        );
        assert_eq!(Command::parse(b"mconsole-version"), Command::ClientVersion);
    }

    #[test]
    fn log_and_help_are_told_as_a_guest_tells_them() {
        assert_eq!(Command::parse(b"help "), Command::Help(b"help".to_vec()));
        assert_eq!(Command::parse(b"helpme"), Command::Help(b"helpme".to_vec()));
        assert_eq!(Command::parse(b"log"), Command::Log(Vec::new()));
        assert_eq!(Command::parse(b"log\t a b "), Command::Log(b"a b".to_vec()));
        assert_eq!(Command::parse(b"logfoo"), Command::Log(b"foo".to_vec()));
        assert_eq!(
            Command::parse(b"log -f a b"),
            Command::LogFile("a b".into())
        );
        assert_eq!(Command::parse(b"log -fa"), Command::LogFile("a".into()));
    }

    #[test]
    fn descriptors_are_numbers() {
        let descriptor = |line: &[u8]| match Command::parse(line) {
            Command::PassDescriptor(_, descriptor) => descriptor,
            other => panic!("{other:?}"),
        };
        assert_eq!(descriptor(b"umlfs 7"), Some(7));
        assert_eq!(descriptor(b"umlfs"), None);
        assert_eq!(descriptor(b"umlfs -1"), None);
        assert_eq!(descriptor(b"umlfs x"), None);
    }
}
