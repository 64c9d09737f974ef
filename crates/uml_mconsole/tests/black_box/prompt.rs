//! The prompt, on a terminal.

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    os::unix::process::ExitStatusExt as _,
    path::Path,
    process::{Child, Command},
    sync::{Arc, Mutex},
    thread,
};

use nix::{
    sys::{
        signal::{Signal, kill},
        termios::{LocalFlags, tcgetattr},
    },
    unistd::Pid,
};
use testkit::{PATIENCE, bins::installed, cmd, pty, until};

use crate::fake::{Fake, last, tool};

const CTRL_C: &str = "\x03";
const CTRL_D: &str = "\x04";

/// The tool on a terminal of its own.
struct Session {
    child: Child,
    keyboard: File,
    screen: Arc<Mutex<Vec<u8>>>,
    /// How much of the screen has been looked at.
    seen: usize,
}

impl Session {
    fn start(dir: &Path, args: &[&str]) -> Self {
        let pty::Terminal { master, slave, .. } = pty::open();
        // It makes the terminal the controlling one, so that ctrl-C is a signal.
        let mut command = Command::new(installed("setsid", "util-linux"));
        command
            .args(["--ctty", "--wait"])
            .arg(tool().get_program())
            .args(["--uml-dir"])
            .arg(dir)
            .args(args)
            .env("HOME", dir)
            .env("XDG_STATE_HOME", dir.join("state"))
            .env("TERM", "xterm")
            .stdin(slave.try_clone().unwrap())
            .stdout(slave.try_clone().unwrap())
            .stderr(slave);
        let child = command.spawn().unwrap();
        // Only the child holds the terminal's other end now.
        drop(command);
        let keyboard = master;
        let screen = Arc::new(Mutex::new(Vec::new()));
        let mut reader = keyboard.try_clone().unwrap();
        let shared = Arc::clone(&screen);
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length) = reader.read(&mut buffer) {
                if length == 0 {
                    break;
                }
                shared.lock().unwrap().extend(&buffer[..length]);
            }
        });
        Self {
            child,
            keyboard,
            screen,
            seen: 0,
        }
    }

    fn types(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits for text on the screen, behind what was waited for before.
    #[track_caller]
    fn shows(&mut self, text: &str) {
        self.seen = until(&format!("'{text}' on the terminal"), || {
            let screen = self.screen.lock().unwrap();
            let new = &screen[self.seen..];
            let at = new
                .windows(text.len())
                .position(|window| window == text.as_bytes());
            at.map(|at| self.seen + at + text.len())
        });
    }

    #[track_caller]
    fn ends(mut self) {
        let status = cmd::wait_for(&mut self.child, PATIENCE).unwrap();
        assert_eq!(status.code(), Some(0));
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn commands_are_asked_for_and_answered() {
    let dir = tempfile::tempdir().unwrap();
    let _one = Fake::new(dir.path(), "lab1", |_| vec![last("one \x1b[2J")]);
    let _two = Fake::new(dir.path(), "lab2", |_| vec![last("two")]);
    let mut session = Session::start(dir.path(), &["lab1"]);
    session.shows("(lab1) ");
    session.types("version\r");
    session.shows("OK one \\u{1b}[2J\r\n");
    session.shows("(lab1) ");
    session.types("lab2: version\r");
    session.shows("OK two\r\n");
    session.shows("(lab2) ");
    session.types("switch lab1\r");
    session.shows("Switched to 'lab1'\r\n");
    session.shows("(lab1) ");
    session.types("quit\r");
    session.ends();
    let history = fs::read_to_string(dir.path().join("state/uml_mconsole/history")).unwrap();
    assert!(
        history.contains("lab2: version\nswitch lab1\n"),
        "{history}"
    );
}

#[test]
fn history_is_kept_for_the_next_time() {
    let dir = tempfile::tempdir().unwrap();
    let guest = Fake::new(dir.path(), "lab1", |_| vec![last("ok")]);
    let mut session = Session::start(dir.path(), &["lab1"]);
    session.shows("(lab1) ");
    session.types("proc uptime\r");
    session.shows("OK ok");
    session.shows("(lab1) ");
    session.types(CTRL_D);
    session.ends();
    let mut session = Session::start(dir.path(), &["lab1"]);
    session.shows("(lab1) ");
    session.types("\x1b[A\r");
    session.shows("OK ok");
    // Between two prompts the key means something else.
    session.shows("(lab1) ");
    session.types(CTRL_D);
    session.ends();
    assert_eq!(guest.heard(), ["proc uptime", "proc uptime"]);
}

#[test]
fn tab_completes() {
    let dir = tempfile::tempdir().unwrap();
    let guest = Fake::new(dir.path(), "lab1", |_| vec![last("ok")]);
    let disk = fs::canonicalize(dir.path())
        .unwrap()
        .join("the-only-disk.img");
    fs::write(&disk, "").unwrap();
    let mut session = Session::start(dir.path(), &["lab1"]);
    session.shows("(lab1) ");
    let start = disk.display().to_string().replace("only-disk.img", "on");
    session.types(&format!("config ubd1={start}\t\r"));
    session.shows("OK ok");
    session.shows("(lab1) ");
    session.types("vers\t\r");
    session.shows("OK ok");
    session.shows("(lab1) ");
    session.types(CTRL_D);
    session.ends();
    assert_eq!(
        guest.heard(),
        [format!("config ubd1={}", disk.display()), "version".into()]
    );
}

#[test]
fn ctrl_c_ends_the_wait_and_not_the_program() {
    let dir = tempfile::tempdir().unwrap();
    let guest = Fake::new(dir.path(), "lab1", |command| match command {
        b"hang" => vec![],
        _ => vec![last("ok")],
    });
    let mut session = Session::start(dir.path(), &["--timeout", "600", "lab1"]);
    session.shows("(lab1) ");
    session.types("half a li");
    session.shows("half a li");
    session.types(CTRL_C);
    session.shows("(lab1) ");
    session.types("hang\r");
    until("the request", || (guest.heard() == ["hang"]).then_some(()));
    session.types(CTRL_C);
    session.shows("guest 'lab1' has not answered: interrupted\r\n");
    session.shows("(lab1) ");
    session.types("version\r");
    session.shows("OK ok");
    session.shows("(lab1) ");
    session.types(CTRL_D);
    session.ends();
}

#[test]
fn several_lines_may_be_pasted() {
    let dir = tempfile::tempdir().unwrap();
    let guest = Fake::new(dir.path(), "lab1", |_| vec![last("ok")]);
    let mut session = Session::start(dir.path(), &["lab1"]);
    session.shows("(lab1) ");
    session.types("one\rtwo\rthree\r");
    for _ in 0..3 {
        session.shows("OK ok");
    }
    session.shows("(lab1) ");
    session.types(CTRL_D);
    session.ends();
    assert_eq!(guest.heard(), ["one", "two", "three"]);
}

#[test]
fn a_guest_that_is_not_there_is_said_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let _guest = Fake::new(dir.path(), "lab1", |_| vec![last("ok")]);
    let mut session = Session::start(dir.path(), &["no-such"]);
    session.shows("no guest 'no-such'");
    session.shows("(no-such) ");
    session.types("switch lab1\r");
    session.shows("(lab1) ");
    session.types(CTRL_D);
    session.ends();
}

#[test]
fn a_signal_that_ends_it_leaves_the_terminal_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let pty::Terminal {
        master: _master,
        slave,
        ..
    } = pty::open();
    let before = tcgetattr(&slave).unwrap();
    // It leads no session: with its leader, a terminal gets its first settings back anyhow.
    let mut child = tool()
        .arg("--uml-dir")
        .arg(dir.path())
        .arg("lab1")
        .env("TERM", "xterm")
        .stdin(slave.try_clone().unwrap())
        .stdout(slave.try_clone().unwrap())
        .stderr(slave.try_clone().unwrap())
        .spawn()
        .unwrap();
    until("the prompt", || {
        let now = tcgetattr(&slave).unwrap();
        (!now.local_flags.contains(LocalFlags::ICANON)).then_some(())
    });
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
    kill(pid, Signal::SIGTERM).unwrap();
    let status = cmd::wait_for(&mut child, PATIENCE).unwrap();
    assert_eq!(status.signal(), Some(15));
    assert_eq!(tcgetattr(&slave).unwrap(), before);
}
