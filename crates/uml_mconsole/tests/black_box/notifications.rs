//! What guests tell of their own accord: `--notify` and `--wait-boot`.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader},
    os::unix::net::UnixDatagram,
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
};

use nix::{
    sys::{
        signal::{Signal, kill},
        stat::Mode,
    },
    unistd::{Pid, mkfifo},
};
use testkit::{PATIENCE, cmd, until};
use uml_core::wire::mconsole::{Event, Notification};

use crate::fake::{Fake, last, stale_guest, tool, until_stale};

/// The tool listening on a socket, and the lines it prints.
pub(crate) struct Listening {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Listening {
    pub(crate) fn start(command: &mut Command, socket: &Path) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        until("the notification socket", || {
            let connected = UnixDatagram::unbound().unwrap().connect(socket);
            connected.is_ok().then_some(())
        });
        Self { child, lines }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line
    }

    pub(crate) fn end(mut self) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        kill(pid, Signal::SIGTERM).unwrap();
        let status = cmd::wait_for(&mut self.child, PATIENCE).unwrap();
        assert_eq!(status.code(), Some(0));
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        // It has ended already, unless the test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn tell(socket: &Path, event: Event, text: &str) {
    let text = text.as_bytes();
    let datagram = Notification { event, text }.encode();
    send(socket, &datagram);
}

fn send(socket: &Path, datagram: &[u8]) {
    let sender = UnixDatagram::unbound().unwrap();
    assert_eq!(sender.send_to(datagram, socket).unwrap(), datagram.len());
}

/// A line without its time.
fn told(line: &str) -> &str {
    line.trim_end().split_once(' ').unwrap().1
}

#[test]
fn notifications_are_printed_with_time_and_umid() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("notify");
    let uml_dir = dir.path().join("uml");
    // This process is the guest, as far as its pid file tells.
    let guest = stale_guest(&uml_dir, "lab7");
    fs::write(guest.with_file_name("pid"), std::process::id().to_string()).unwrap();
    let mut listening = Listening::start(
        tool()
            .arg("--uml-dir")
            .arg(&uml_dir)
            .arg("--notify")
            .arg(&socket),
        &socket,
    );
    tell(&socket, Event::Message, "disk\nfull\x1b[2J");
    let line = listening.line();
    assert_eq!(told(&line), "lab7 message disk\\nfull\\u{1b}[2J");
    let time = line.split(' ').next().unwrap();
    assert_eq!(time.len(), "2026-01-02T03:04:05+00:00".len(), "{time}");

    tell(&socket, Event::Boot, "/home/u/.uml/lab8/mconsole");
    assert_eq!(
        told(&listening.line()),
        "lab8 boot /home/u/.uml/lab8/mconsole"
    );
    // The boot has said what the sender's name is.
    tell(&socket, Event::Panic, "Kernel panic - not syncing");
    assert_eq!(
        told(&listening.line()),
        "lab8 panic Kernel panic - not syncing"
    );
    // The old watchdog's layout: a magic number of eight bytes, 24 bytes in all.
    let old: Vec<u8> = [0xcafe_babe_u32, 0, 2, 2, 0, 0]
        .iter()
        .flat_map(|number| number.to_ne_bytes())
        .collect();
    send(&socket, &old);
    assert_eq!(told(&listening.line()), "lab8 hang");
    // A name can't forge a line.
    tell(&socket, Event::Boot, "/x/a\nb/mconsole");
    assert_eq!(told(&listening.line()), "a\\nb boot /x/a\\nb/mconsole");
    tell(&socket, Event::Boot, "/home/u/.uml/lab8/mconsole");
    let _ = listening.line();
    send(&socket, b"no notification at all");
    tell(&socket, Event::Other(9), "news");
    assert_eq!(told(&listening.line()), "lab8 9 news");
    listening.end();
    assert!(!socket.exists());
}

#[test]
fn a_command_runs_at_each_notification() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("notify");
    let mut command = tool();
    command
        .args(["--exec", "echo \"$UML_UMID/$UML_EVENT/$UML_TEXT\" >>told"])
        .arg("--json")
        .arg("--notify")
        .arg(&socket)
        .current_dir(dir.path());
    let mut listening = Listening::start(&mut command, &socket);
    // Nothing of it may be run.
    let text = "$(touch pwned) `touch pwned` \"; touch pwned";
    tell(&socket, Event::Boot, "/x/lab1/mconsole");
    tell(&socket, Event::Message, text);
    let boot: serde_json::Value = serde_json::from_str(&listening.line()).unwrap();
    assert_eq!(boot["umid"], "lab1");
    assert_eq!(boot["event"], "boot");
    assert_eq!(boot["pid"], std::process::id());
    let message: serde_json::Value = serde_json::from_str(&listening.line()).unwrap();
    assert_eq!(message["text"], text);
    let mut lines: Vec<String> = until("what the commands write", || {
        let told = fs::read_to_string(dir.path().join("told")).ok()?;
        let lines: Vec<String> = told.lines().map(str::to_owned).collect();
        (lines.len() == 2).then_some(lines)
    });
    // Both ran at once.
    lines.sort();
    assert_eq!(
        lines,
        [
            "lab1/boot//x/lab1/mconsole".to_owned(),
            format!("lab1/message/{text}")
        ]
    );
    listening.end();
    assert!(!dir.path().join("pwned").exists());
}

#[test]
fn it_ends_even_while_no_more_commands_may_run() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("notify");
    let gate = dir.path().join("gate");
    mkfifo(&gate, Mode::S_IRWXU).unwrap();
    // The commands read from it until the test lets go of it.
    let held = File::options().read(true).write(true).open(&gate).unwrap();
    let mut command = tool();
    command
        .args(["--exec", "exec <gate; echo >>started; read _", "--notify"])
        .arg(&socket)
        .current_dir(dir.path());
    let mut listening = Listening::start(&mut command, &socket);
    for number in 0..65 {
        tell(&socket, Event::Message, &number.to_string());
        assert!(listening.line().ends_with(&format!(" {number}\n")));
    }
    let started = dir.path().join("started");
    until("64 commands", || {
        (fs::read(&started).ok()?.len() == 64).then_some(())
    });
    listening.end();
    assert_eq!(fs::read(&started).unwrap().len(), 64);
    drop(held);
}

#[test]
fn a_socket_in_use_is_left_alone_and_a_stale_one_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("notify");
    let other = UnixDatagram::bind(&socket).unwrap();
    let finished = cmd::run(tool().arg("--notify").arg(&socket));
    assert_eq!(finished.code(), 1);
    assert_eq!(
        finished.err(),
        format!(
            "uml_mconsole: listening on '{}': Address already in use\n",
            socket.display()
        )
    );
    drop(other);
    until_stale(&socket);
    let file = dir.path().join("file");
    fs::write(&file, "mine").unwrap();
    assert_eq!(cmd::run(tool().arg("--notify").arg(&file)).code(), 1);
    assert_eq!(fs::read(&file).unwrap(), b"mine");

    let mut listening = Listening::start(tool().arg("--notify").arg(&socket), &socket);
    tell(&socket, Event::Boot, "/x/lab1/mconsole");
    assert_eq!(told(&listening.line()), "lab1 boot /x/lab1/mconsole");
    listening.end();
}

#[test]
fn waiting_for_a_boot_ends_when_the_console_answers() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = tool()
        .args(["--wait-boot", "lab1", "--uml-dir"])
        .arg(dir.path())
        .spawn()
        .unwrap();
    assert!(child.try_wait().unwrap().is_none());
    let guest = Fake::new(dir.path(), "lab1", |_| vec![last("Linux")]);
    let status = cmd::wait_for(&mut child, PATIENCE).unwrap();
    assert_eq!(status.code(), Some(0));
    // It asks again when a second is not enough for the answer.
    let mut heard = guest.heard();
    heard.dedup();
    assert_eq!(heard, ["version"]);
}

#[test]
fn waiting_for_a_boot_ends_with_the_right_notification() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("notify");
    let mut command = tool();
    command
        .args(["--wait-boot", "lab1", "--uml-dir"])
        .arg(dir.path())
        .arg("--notify")
        .arg(&socket);
    let mut listening = Listening::start(&mut command, &socket);
    tell(&socket, Event::Boot, "/x/lab2/mconsole");
    tell(&socket, Event::Message, "/x/lab1/mconsole");
    // More than the queue holds at a time: it has taken both off before it takes the last of these,
    // and waits on.
    let limit = fs::read_to_string("/proc/sys/net/unix/max_dgram_qlen").unwrap();
    let limit: usize = limit.trim().parse().unwrap();
    for _ in 0..limit + 2 {
        send(&socket, b"-");
    }
    assert!(listening.child.try_wait().unwrap().is_none());
    tell(&socket, Event::Boot, "/x/lab1/mconsole");
    let status = cmd::wait_for(&mut listening.child, PATIENCE).unwrap();
    assert_eq!(status.code(), Some(0));
    assert!(!socket.exists());
}

#[test]
fn waiting_for_a_boot_has_an_end() {
    let dir = tempfile::tempdir().unwrap();
    let finished = cmd::run(
        tool()
            .args(["--timeout", "0.3", "--wait-boot", "lab1", "--uml-dir"])
            .arg(dir.path()),
    );
    assert_eq!(
        finished.err(),
        "uml_mconsole: guest 'lab1' has not booted within 0.3 s\n"
    );
    assert_eq!(finished.code(), 1);
}
