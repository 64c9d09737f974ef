//! `uml_switch`, the reference and ours: command line, sockets, signals, standard input.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::{
    fs::{self, File},
    io::Write as _,
    mem,
    os::fd::AsRawFd as _,
    path::PathBuf,
    process::{Command, Stdio},
};

use conformance::{Sandbox, Transcript, differs, same, same_but_words};
use nix::{
    fcntl::OFlag,
    sys::{
        signal::{Signal, kill},
        socket::{AddressFamily, SockFlag, SockType, UnixAddr, bind, socket},
    },
    unistd::{Pid, pipe2},
};
use testkit::{
    cmd, pty,
    switch::{self, Plug, Switch, Version},
    until,
};

const TOOL: &str = "uml_switch";

fn start(sandbox: &Sandbox, args: &[&str]) -> Switch {
    Switch::start(sandbox.binary(), sandbox.dir(), args)
}

/// Ends an idle switch with SIGINT.
fn interrupt(switch: &Switch) {
    switch.wait_until_idle();
    switch.signal(Signal::SIGINT);
}

/// Records how a switch ended and all that it said.
fn saw_end(sandbox: &mut Sandbox, switch: &mut Switch) {
    let code = switch.wait();
    sandbox.saw("status", code);
    sandbox.saw("said", switch.log());
    sandbox.saw("complained", switch.errors());
}

/// Plugs one guest in, which proves that the switch serves this socket.
fn saw_service(sandbox: &mut Sandbox, control: &str) {
    let plug = Plug::new(&sandbox.dir().join(control), Version::V3);
    sandbox.saw("a reply of", plug.reply.unwrap().len());
}

/// Starts a switch, plugs a guest in, ends it with SIGINT.
fn serves(sandbox: &mut Sandbox, args: &[&str], control: &str) {
    let mut switch = start(sandbox, args);
    saw_service(sandbox, control);
    switch.wait_for("Disconnect");
    sandbox.saw_files();
    interrupt(&switch);
    saw_end(sandbox, &mut switch);
    sandbox.saw_files();
}

#[test]
fn wrong_command_lines() {
    for args in [
        &["-x"][..],
        &["-h"],
        &["-unix"],
        &["-tap"],
        &["word"],
        &["-unix", "ctl", "data"],
        &["-unix", "ctl", "data", "-compat-v0"],
    ] {
        same_but_words(TOOL, &format!("usage {args:?}"), |sandbox| {
            let said = sandbox.run(args);
            assert!(said.err().contains("[ -unix control-socket ]"));
            sandbox.saw_files();
        });
    }
}

#[test]
fn a_wrong_command_line_announces_nothing() {
    differs(
        TOOL,
        "an option that is taken before the one that is wrong",
        "switch-early-words",
        |sandbox| {
            sandbox.run(&["-compat-v0", "-unix", "ctl"]);
            sandbox.run(&["-hub", "-unix"]);
        },
        |reference, ours| {
            assert!(reference.contains("Control protocol 0 compatibility"));
            assert!(!ours.contains("compatibility") && !ours.contains("will be a hub"));
            assert!(ours.contains("status 1"), "{ours}");
        },
    );
}

#[test]
fn help_and_version_are_new() {
    differs(
        TOOL,
        "--help, --version",
        "help",
        |sandbox| {
            sandbox.run(&["--help"]);
            sandbox.run(&["--version"]);
        },
        |reference, ours| {
            assert!(!reference.contains("status 0"), "{reference}");
            assert!(!ours.contains("status 1"), "{ours}");
        },
    );
}

#[test]
fn what_each_option_says() {
    same(TOOL, "a control socket", |sandbox| {
        serves(sandbox, &["-unix", "ctl"], "ctl");
    });
    same(TOOL, "a hub", |sandbox| {
        serves(sandbox, &["-hub", "-unix", "ctl"], "ctl");
    });
    same(TOOL, "an option behind the socket", |sandbox| {
        serves(sandbox, &["-unix", "ctl", "-hub"], "ctl");
    });
    same(TOOL, "both sockets", |sandbox| {
        serves(sandbox, &["-compat-v0", "-unix", "ctl", "data"], "ctl");
    });
    same(TOOL, "both sockets, an option behind them", |sandbox| {
        serves(
            sandbox,
            &["-compat-v0", "-unix", "ctl", "data", "-hub"],
            "ctl",
        );
    });
    same(TOOL, "the last of several sockets", |sandbox| {
        serves(sandbox, &["-unix", "other", "-unix", "ctl"], "ctl");
    });
    same(TOOL, "a socket named as an option", |sandbox| {
        serves(sandbox, &["-unix", "-hub"], "-hub");
    });
    same(TOOL, "an absolute path", |sandbox| {
        let path = sandbox.dir().join("ctl").display().to_string();
        serves(sandbox, &["-unix", &path], "ctl");
    });
    same(TOOL, "a path of 107 bytes", |sandbox| {
        let mut switch = start(sandbox, &["-unix", &"p".repeat(107)]);
        sandbox.saw_files();
        interrupt(&switch);
        saw_end(sandbox, &mut switch);
        sandbox.saw_files();
    });
}

#[test]
fn a_word_twice() {
    same(TOOL, "-hub twice", |sandbox| {
        serves(sandbox, &["-hub", "-hub", "-unix", "ctl"], "ctl");
    });
}

/// Starts a switch that may refuse to, ends it, and records what it said and made.
fn tries(sandbox: &mut Sandbox, args: &[&str]) {
    let command = switch::command(sandbox.binary(), args);
    let mut switch = Switch::launch(sandbox.dir(), command, Stdio::null());
    until("an end or a socket", || {
        let served = switch.log().contains("attached to");
        (switch.try_wait().is_some() || served).then_some(())
    });
    sandbox.saw_files();
    if switch.try_wait().is_none() {
        interrupt(&switch);
    }
    saw_end(sandbox, &mut switch);
}

#[test]
fn a_path_that_is_too_long_is_refused() {
    differs(
        TOOL,
        "a path of 150 bytes",
        "switch-long-path",
        |sandbox| tries(sandbox, &["-unix", &"p".repeat(150)]),
        |reference, ours| {
            assert!(reference.contains("socket 0"), "another name: {reference}");
            assert!(ours.contains("status\n  1\n"), "{ours}");
            assert!(!ours.contains("socket 0"), "{ours}");
        },
    );
}

#[test]
fn modes_follow_the_umask() {
    for umask in ["022", "077", "000"] {
        same(TOOL, &format!("modes with umask {umask}"), |sandbox| {
            let mut command = Command::new("sh");
            let script = format!("umask {umask}; exec stdbuf -oL \"$@\"");
            command
                .args(["-c", &script, "sh"])
                .arg(sandbox.binary())
                .args(["-compat-v0", "-unix", "ctl", "data"]);
            let mut switch = Switch::launch(sandbox.dir(), command, Stdio::null());
            switch.wait_for("attached to");
            sandbox.saw_files();
            sandbox.saw("status", switch.stop(Signal::SIGINT));
            sandbox.saw_files();
        });
    }
}

#[test]
fn sockets_that_cannot_be_made() {
    for path in ["missing/ctl", "folder"] {
        same_but_words(TOOL, &format!("-unix {path}"), |sandbox| {
            fs::create_dir(sandbox.dir().join("folder")).unwrap();
            sandbox.run(&["-unix", path]);
            sandbox.run(&["-daemon", "-unix", path]);
            sandbox.saw_files();
        });
    }
}

#[test]
fn a_file_in_the_way_is_kept() {
    differs(
        TOOL,
        "a regular file under the socket's name",
        "switch-file-in-the-way",
        |sandbox| {
            sandbox.write("ctl", b"precious");
            tries(sandbox, &["-unix", "ctl"]);
        },
        |reference, ours| {
            assert!(reference.contains("ctl socket"), "{reference}");
            assert!(ours.contains("ctl file 0644 length 8"), "{ours}");
        },
    );
}

#[test]
fn the_socket_of_a_dead_switch_is_replaced() {
    same(TOOL, "left by SIGKILL", |sandbox| {
        let mut first = start(sandbox, &["-compat-v0", "-unix", "ctl", "data"]);
        first.stop(Signal::SIGKILL);
        sandbox.saw_files();
        serves(sandbox, &["-compat-v0", "-unix", "ctl", "data"], "ctl");
    });
    same(TOOL, "left by anybody", |sandbox| {
        // Nobody ever listens there: a child of another test may have the socket for a moment.
        let flags = SockFlag::SOCK_CLOEXEC;
        let left = socket(AddressFamily::Unix, SockType::Stream, flags, None).unwrap();
        let path = UnixAddr::new(&sandbox.dir().join("ctl")).unwrap();
        bind(left.as_raw_fd(), &path).unwrap();
        drop(left);
        serves(sandbox, &["-unix", "ctl"], "ctl");
    });
}

#[test]
fn the_socket_of_a_live_switch_is_not() {
    same_but_words(TOOL, "a second switch", |sandbox| {
        let mut switch = start(sandbox, &["-unix", "ctl"]);
        for args in [&["-unix", "ctl"][..], &["-daemon", "-unix", "ctl"]] {
            let refused = sandbox.run(args);
            let words = refused.err();
            assert!(
                words.contains("The control socket 'ctl' has another server attached to it"),
                "{words}"
            );
        }
        saw_service(sandbox, "ctl");
        sandbox.saw_files();
        sandbox.saw("status", switch.stop(Signal::SIGINT));
    });
}

#[test]
fn signals() {
    same(TOOL, "SIGINT before anybody came", |sandbox| {
        let mut switch = start(sandbox, &["-unix", "ctl"]);
        interrupt(&switch);
        saw_end(sandbox, &mut switch);
        sandbox.saw_files();
    });
    for signal in [Signal::SIGTERM, Signal::SIGHUP] {
        differs(
            TOOL,
            &format!("{signal}"),
            "switch-signals",
            |sandbox| {
                let mut switch = start(sandbox, &["-compat-v0", "-unix", "ctl", "data"]);
                saw_service(sandbox, "ctl");
                sandbox.saw("status", switch.stop(signal));
                sandbox.saw_files();
            },
            |reference, ours| {
                assert!(reference.contains("ctl socket"), "{reference}");
                assert!(!ours.contains("socket 0"), "{ours}");
            },
        );
    }
    differs(
        TOOL,
        "the log after SIGTERM where standard output is no terminal",
        "switch-log-lost",
        |sandbox| {
            let mut command = Command::new(sandbox.binary());
            command.args(["-unix", "ctl"]);
            let mut switch = Switch::launch(sandbox.dir(), command, Stdio::null());
            until("the control socket", || {
                sandbox.dir().join("ctl").exists().then_some(())
            });
            switch.stop(Signal::SIGTERM);
            sandbox.saw("said", switch.log());
        },
        |reference, ours| {
            assert!(!reference.contains("attached"), "{reference}");
            assert!(ours.contains("attached"), "{ours}");
        },
    );
}

#[test]
fn signals_that_were_ignored_before() {
    same(TOOL, "as under nohup, in the background", |sandbox| {
        let mut command = Command::new("sh");
        command
            .args(["-c", "trap '' HUP INT; exec stdbuf -oL \"$@\"", "sh"])
            .arg(sandbox.binary())
            .args(["-unix", "ctl"]);
        let mut switch = Switch::launch(sandbox.dir(), command, Stdio::null());
        switch.wait_for("attached to");
        switch.signal(Signal::SIGHUP);
        saw_service(sandbox, "ctl");
        switch.wait_for("Disconnect");
        interrupt(&switch);
        saw_end(sandbox, &mut switch);
        sandbox.saw_files();
    });
}

/// Starts a switch on a terminal, types, and records how it ends.
fn typed(sandbox: &mut Sandbox, keys: &[u8]) {
    let mut terminal = pty::open();
    let command = switch::command(sandbox.binary(), &["-unix", "ctl"]);
    let mut switch = Switch::launch(sandbox.dir(), command, Stdio::from(terminal.slave));
    switch.wait_for("attached to");
    terminal.master.write_all(keys).unwrap();
    saw_end(sandbox, &mut switch);
    sandbox.saw_files();
}

#[test]
fn standard_input() {
    same(TOOL, "the end of input on a terminal", |sandbox| {
        typed(sandbox, b"\x04");
    });
    same(TOOL, "words on a terminal, then the end", |sandbox| {
        typed(sandbox, b"hello\n\x04");
    });
    same(TOOL, "a pipe that is closed", |sandbox| {
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC).unwrap();
        let command = switch::command(sandbox.binary(), &["-unix", "ctl"]);
        let mut switch = Switch::launch(sandbox.dir(), command, Stdio::from(reader));
        switch.wait_for("attached to");
        saw_service(sandbox, "ctl");
        switch.wait_for("Disconnect");
        File::from(writer).write_all(b"hello\n").unwrap();
        saw_service(sandbox, "ctl");
        switch.wait_for_times("Disconnect", 2);
        interrupt(&switch);
        saw_end(sandbox, &mut switch);
    });
}

#[test]
fn no_standard_input_at_all() {
    differs(
        TOOL,
        "standard input is closed",
        "switch-stdin-closed",
        |sandbox| {
            let mut command = Command::new("sh");
            command
                .args(["-c", "exec stdbuf -oL \"$@\" <&-", "sh"])
                .arg(sandbox.binary())
                .args(["-unix", "ctl"]);
            let mut switch = Switch::launch(sandbox.dir(), command, Stdio::null());
            switch.wait_for("attached to");
            let address = switch::fresh_address();
            let _data = switch::bind(&address);
            let mut connection = switch::connect(&sandbox.dir().join("ctl"));
            connection
                .write_all(&switch::request(Version::V3, 0, &address))
                .unwrap();
            let complained = until("a complaint or a new port", || {
                let served = switch.log().contains("New connection");
                let complained = !switch.errors().is_empty();
                (served || complained).then_some(complained)
            });
            sandbox.saw("complained", complained);
            sandbox.saw("status", switch.stop(Signal::SIGINT));
        },
        |reference, ours| {
            assert!(reference.contains("complained\n  true"), "{reference}");
            assert!(ours.contains("complained\n  false"), "{ours}");
        },
    );
}

/// A switch in the background, ended with the test.
struct Daemon(Pid);

impl Daemon {
    /// Runs `-daemon` to the parent's end and finds the child.
    fn start(sandbox: &mut Sandbox, args: &[&str]) -> Self {
        let mark = format!("SWITCH_OF={}", sandbox.dir().display());
        let (name, value) = mark.split_once('=').unwrap();
        let mut command = Command::new(sandbox.binary());
        command
            .args(args)
            .env(name, value)
            .current_dir(sandbox.dir())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut parent = command.spawn().unwrap();
        let status = cmd::wait_for(&mut parent, testkit::PATIENCE).unwrap();
        sandbox.saw("the parent's status", status);
        // Once the parent is gone there is one left.
        let found = switch::processes_with(&mark);
        assert_eq!(found.len(), 1, "{found:?}");
        Self(found[0])
    }

    fn stop(self, signal: Signal) {
        kill(self.0, signal).unwrap();
        until("the end of the switch", || {
            // Ended, or ended and not waited for where nobody adopts it.
            let pid = self.0.as_raw().unsigned_abs();
            matches!(cmd::state(pid), None | Some('Z')).then_some(())
        });
        // Its number may be another process's by now.
        mem::forget(self);
    }

    fn proc(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{name}", self.0))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = kill(self.0, Signal::SIGKILL);
    }
}

#[test]
fn in_the_background() {
    same(TOOL, "-daemon", |sandbox| {
        let path = sandbox.dir().join("ctl").display().to_string();
        let args = ["-daemon", "-hub", "-unix", &path];
        let daemon = Daemon::start(sandbox, &args);
        // No waiting: the parent ends when the socket is bound.
        saw_service(sandbox, "ctl");
        let words = fs::read(daemon.proc("cmdline")).unwrap();
        sandbox.saw("its command line", String::from_utf8_lossy(&words));
        let stat = fs::read_to_string(daemon.proc("stat")).unwrap();
        let session = stat.split(' ').nth(5).unwrap() == daemon.0.to_string();
        sandbox.saw("it leads a session", session);
        sandbox.saw(
            "its folder",
            fs::read_link(daemon.proc("cwd")).unwrap().display(),
        );
        daemon.stop(Signal::SIGINT);
        sandbox.saw_files();
    });
}

#[test]
fn in_the_background_by_a_relative_path() {
    differs(
        TOOL,
        "-daemon with a relative path, ended",
        "switch-daemon-relative",
        |sandbox| {
            let daemon = Daemon::start(sandbox, &["-daemon", "-unix", "ctl"]);
            saw_service(sandbox, "ctl");
            daemon.stop(Signal::SIGINT);
            sandbox.saw_files();
        },
        |reference, ours| {
            assert!(reference.contains("ctl socket"), "{reference}");
            assert!(!ours.contains("ctl socket"), "{ours}");
        },
    );
}

#[test]
fn in_the_background_without_the_terminal() {
    differs(
        TOOL,
        "-daemon on a terminal",
        "switch-daemon-terminal",
        |sandbox| {
            let pty::Terminal {
                master: _master,
                slave: seen,
                ..
            } = pty::open();
            let mut command = Command::new(sandbox.binary());
            command
                .args(["-daemon", "-unix", "ctl"])
                .env("SWITCH_OF_TERMINAL", sandbox.dir())
                .current_dir(sandbox.dir())
                .stdin(seen.try_clone().unwrap())
                .stdout(seen.try_clone().unwrap())
                .stderr(seen.try_clone().unwrap());
            let mut parent = command.spawn().unwrap();
            drop(command);
            cmd::wait_for(&mut parent, testkit::PATIENCE).unwrap();
            let mark = format!("SWITCH_OF_TERMINAL={}", sandbox.dir().display());
            let daemon = Daemon(switch::processes_with(&mark)[0]);
            let held = fs::read_dir(daemon.proc("fd"))
                .unwrap()
                .filter_map(|entry| fs::read_link(entry.unwrap().path()).ok())
                .filter(|target| target.starts_with("/dev/pts"))
                .count();
            sandbox.saw("descriptors of the terminal", held);
            daemon.stop(Signal::SIGINT);
        },
        |reference, ours| {
            let held = |transcript: &Transcript| transcript.0[0].seen.clone();
            assert_eq!(held(reference), "3");
            assert_eq!(held(ours), "0");
        },
    );
}
