//! uml_mconsole: the same commands, with a guest that is a thread of the test.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::{
    fs,
    os::unix::{fs::symlink, net::UnixDatagram, process::ExitStatusExt as _},
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use conformance::{Sandbox, Transcript, differs, same, same_but_words};
use testkit::{cmd::Finished, until};
use uml_core::wire::mconsole::{Piece, Request};

const TOOL: &str = "uml_mconsole";

/// A guest below the sandbox's `.uml`, which is the tools' home: the reference tool warns of every
/// place in which it doesn't find a guest.
struct Fake {
    heard: Arc<Mutex<Vec<String>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Fake {
    fn new(
        sandbox: &Sandbox,
        umid: &str,
        answer: impl Fn(&[u8]) -> Vec<Vec<u8>> + Send + 'static,
    ) -> Self {
        let dir = sandbox.dir().join(".uml").join(umid);
        fs::create_dir_all(&dir).unwrap();
        let socket = UnixDatagram::bind(dir.join("mconsole")).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_millis(50)))
            .unwrap();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (log, end) = (Arc::clone(&heard), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            let mut buffer = [0; 1024];
            while !end.load(Ordering::Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut buffer) else {
                    continue;
                };
                let request = Request::decode(&buffer[..length]).unwrap();
                // Every byte of it, the zeros at its end included.
                assert_eq!(&buffer[..length], request.encode());
                let text = String::from_utf8_lossy(request.command()).into_owned();
                log.lock().unwrap().push(text);
                for datagram in answer(request.command()) {
                    // The client may be gone: some scenarios are about that.
                    let _ = socket.send_to_addr(&datagram, &from);
                }
            }
        });
        Self {
            heard,
            stop,
            thread: Some(thread),
        }
    }

    /// Records what it has heard.
    fn saw_requests(&self, sandbox: &mut Sandbox) {
        let heard = self.heard.lock().unwrap().clone();
        let lines: Vec<String> = heard.iter().map(|text| format!("{text:?}")).collect();
        sandbox.saw("requests", lines.join("\n"));
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let panicked = self.thread.take().is_some_and(|it| it.join().is_err());
        assert!(!panicked || thread::panicking(), "the fake guest panicked");
    }
}

fn piece(err: i32, more: bool, text: &str) -> Vec<u8> {
    let err = u32::from_ne_bytes(err.to_ne_bytes());
    Piece {
        err,
        more,
        text: text.as_bytes(),
    }
    .encode()
}

fn ok(_: &[u8]) -> Vec<Vec<u8>> {
    vec![piece(0, false, "done")]
}

fn command(sandbox: &Sandbox, args: &[&str]) -> Command {
    let mut command = Command::new(sandbox.binary());
    command.args(args).env("HOME", sandbox.dir());
    command
}

fn call(sandbox: &mut Sandbox, args: &[&str]) -> Finished {
    call_with_input(sandbox, args, "")
}

fn call_with_input(sandbox: &mut Sandbox, args: &[&str], input: &str) -> Finished {
    let mut command = command(sandbox, args);
    let label = format!("$ {TOOL} {}", args.join(" "));
    sandbox.run_command(&label, &mut command, input.as_bytes())
}

/// One command after the other to guest `lab1`, which answers so; then what it has heard.
fn commands(
    lines: &'static [&'static [&'static str]],
    answer: impl Fn(&[u8]) -> Vec<Vec<u8>> + Copy + Send + 'static,
) -> impl Fn(&mut Sandbox) {
    move |sandbox| {
        let guest = Fake::new(sandbox, "lab1", answer);
        for line in lines {
            call(sandbox, &[&["lab1"], *line].concat());
        }
        guest.saw_requests(sandbox);
    }
}

/// The status of each command of a transcript.
fn statuses(transcript: &Transcript) -> Vec<&str> {
    transcript
        .0
        .iter()
        .filter_map(|entry| entry.seen.strip_prefix("status ")?.lines().next())
        .collect()
}

#[test]
fn commands_answers_and_statuses() {
    same(
        TOOL,
        "commands and their words",
        commands(
            &[
                &["version"],
                &["proc", "uptime"],
                &["exec", "a  b", "-c", ""],
                &["version   "],
                &["config", "con1=fd:1"],
                &["config", "vec0:transport=tap,ifname=tap0"],
                &["config ubd1"],
                &["remove", "ubd1"],
                &["unknown to the client"],
                &["umlfs", "0"],
            ],
            ok,
        ),
    );
    same(
        TOOL,
        "answers",
        commands(
            &[
                &["0"],
                &["1"],
                &["-2"],
                &["-19"],
                &["chunks"],
                &["empty"],
                &["lines"],
            ],
            |command| match command {
                b"chunks" => vec![piece(0, true, &"x".repeat(511)), piece(0, false, "y")],
                b"empty" => vec![piece(1, false, "")],
                b"lines" => vec![piece(0, false, "\na\n\x1b[2Jb\t\n")],
                number => {
                    let err = std::str::from_utf8(number).unwrap().parse().unwrap();
                    vec![piece(err, false, "text")]
                }
            },
        ),
    );
    same(
        TOOL,
        "the error number of the last piece",
        commands(&[&["x"]], |_| {
            vec![piece(0, true, "a"), piece(-19, false, "b")]
        }),
    );
    same(TOOL, "no arguments", |sandbox| {
        call(sandbox, &[]);
    });
    same(TOOL, "local commands", |sandbox| {
        let guest = Fake::new(sandbox, "lab1", ok);
        let _other = Fake::new(sandbox, "lab2", ok);
        for line in [
            &["mconsole-version"][..],
            &["quit"],
            &["help"],
            &["helpme"],
            &["switch", "lab2"],
            &["umlfs", "99"],
            &["umlfs", "x"],
        ] {
            call(sandbox, &[&["lab1"], line].concat());
        }
        guest.saw_requests(sandbox);
    });
}

#[test]
fn a_command_of_the_longest_length() {
    same(TOOL, "511 bytes", |sandbox| {
        let guest = Fake::new(sandbox, "lab1", ok);
        call(sandbox, &["lab1", &"c".repeat(511)]);
        guest.saw_requests(sandbox);
    });
    differs(
        TOOL,
        "512 bytes",
        "mconsole-long-command",
        |sandbox| {
            let guest = Fake::new(sandbox, "lab1", ok);
            call(sandbox, &["lab1", &"c".repeat(512)]);
            guest.saw_requests(sandbox);
        },
        |reference, ours| {
            assert!(reference.contains(&"c".repeat(511)) && statuses(reference) == ["0"]);
            assert!(ours.contains("a guest takes 511 at most") && statuses(ours) == ["1"]);
        },
    );
}

#[test]
fn logs() {
    same(
        TOOL,
        "log",
        commands(
            &[
                &["log"],
                &["log", "a", "few", "words"],
                &["log", "a line\n"],
                &["logged"],
            ],
            ok,
        ),
    );
    same(TOOL, "log -f", |sandbox| {
        let guest = Fake::new(sandbox, "lab1", ok);
        sandbox.write("empty", b"");
        sandbox.write("short", b"x");
        sandbox.write("lines", "a line\n".repeat(300).as_bytes());
        sandbox.write("exact", &[b'y'; 506]);
        for file in ["empty", "short", "lines", "exact"] {
            call(sandbox, &["lab1", "log", "-f", file]);
        }
        call(sandbox, &["lab1", "log", &"z".repeat(1100)]);
        guest.saw_requests(sandbox);
    });
    same_but_words(TOOL, "log -f of no file", |sandbox| {
        let guest = Fake::new(sandbox, "lab1", ok);
        call(sandbox, &["lab1", "log", "-f", "no-such-file"]);
        guest.saw_requests(sandbox);
    });
}

#[test]
fn disk_names() {
    same(TOOL, "names of disks", |sandbox| {
        let guest = Fake::new(sandbox, "lab1", ok);
        fs::create_dir(sandbox.dir().join("sub")).unwrap();
        symlink("sub", sandbox.dir().join("link")).unwrap();
        for disk in [
            "ubd1=disk",
            "ubda=disk",
            "ubd1=./disk",
            "ubd1r=sub/../disk",
            "ubd1rsdtc=link/disk",
            "ubd1=new.cow,sub/disk",
            "ubd1=new.cow,sub/disk,serial",
            "ubd1=/etc/hostname",
            "ubd1=two words",
        ] {
            call(sandbox, &["lab1", "config", disk]);
        }
        guest.saw_requests(sandbox);
    });
    differs(
        TOOL,
        "colons and empty names",
        "mconsole-disk-names",
        commands(
            &[
                &["config", "ubd1=new.cow:disk"],
                &["config", "ubd1=disk,,serial"],
                &["config", "ubd=sync"],
            ],
            ok,
        ),
        |reference, ours| {
            assert!(reference.contains("sandbox/new.cow:disk\""));
            assert!(reference.contains("sandbox/disk,") && reference.contains("sandbox/,serial"));
            assert!(reference.contains("sandbox/sync"));
            assert!(ours.contains("sandbox/new.cow:/") && ours.contains("sandbox/disk,,serial"));
            assert!(ours.contains("\"config ubd=sync\""));
        },
    );
    differs(
        TOOL,
        "a disk in a folder that is not there",
        "mconsole-disk-folder",
        commands(&[&["config", "ubd1=nowhere/disk"]], ok),
        |reference, ours| {
            assert!(reference.contains("\"config ubd1=nowhere/disk\""));
            assert!(reference.contains("stderr: absolutize"));
            assert!(ours.contains("sandbox/nowhere/disk\"") && !ours.contains("stderr"));
        },
    );
}

#[test]
fn int() {
    same(TOOL, "int", |sandbox| {
        let guest = Fake::new(sandbox, "lab1", ok);
        let mut process = testkit::cmd::sleeper();
        let pid = process.id();
        fs::write(sandbox.dir().join(".uml/lab1/pid"), format!("{pid}\n")).unwrap();
        call(sandbox, &["lab1", "int"]);
        sandbox.saw("signal", format!("{:?}", process.wait().unwrap().signal()));
        guest.saw_requests(sandbox);
    });
    differs(
        TOOL,
        "int without a pid",
        "mconsole-int",
        commands(&[&["int"]], ok),
        |reference, ours| {
            assert!(!reference.contains("stderr") && statuses(reference) == ["0"]);
            assert!(
                ours.contains("stderr: uml_mconsole: no process id") && statuses(ours) == ["1"]
            );
        },
    );
}

#[test]
fn guests_that_are_not_there() {
    same_but_words(TOOL, "no such guest", |sandbox| {
        call(sandbox, &["no-such-guest", "version"]);
        call(sandbox, &["no-such-guest", "switch", "other"]);
    });
    same_but_words(TOOL, "a stale socket", |sandbox| {
        drop(Fake::new(sandbox, "lab1", ok));
        // A program that another test is just starting holds the socket a moment longer.
        let socket = sandbox.dir().join(".uml/lab1/mconsole");
        until("a stale socket", || {
            let connected = UnixDatagram::unbound().unwrap().connect(&socket);
            connected.is_err().then_some(())
        });
        call(sandbox, &["lab1", "version"]);
    });
    differs(
        TOOL,
        "a guest found by its path",
        "mconsole-warnings",
        |sandbox| {
            let guest = Fake::new(sandbox, "lab1", ok);
            call(sandbox, &[".uml/lab1/mconsole", "version"]);
            guest.saw_requests(sandbox);
        },
        |reference, ours| {
            assert!(reference.contains("Warning: couldn't stat file"));
            assert!(!ours.contains("stderr"));
            let without_words = |transcript: &Transcript| -> Vec<String> {
                transcript
                    .0
                    .iter()
                    .map(|entry| entry.seen.clone())
                    .collect()
            };
            assert_eq!(without_words(reference), without_words(ours));
        },
    );
    differs(
        TOOL,
        "help and log without a guest",
        "mconsole-local-status",
        |sandbox| {
            call(sandbox, &["no-such-guest", "help"]);
            call(sandbox, &["no-such-guest", "log", "text"]);
        },
        |reference, ours| {
            assert_eq!(statuses(reference), ["0", "0"]);
            assert_eq!(statuses(ours), ["1", "1"]);
        },
    );
    differs(
        TOOL,
        "a guest whose name begins with a dash",
        "mconsole-dash",
        |sandbox| {
            let _guest = Fake::new(sandbox, "-x", ok);
            call(sandbox, &["-x", "version"]);
        },
        |reference, ours| {
            assert!(reference.contains("OK done"));
            assert!(ours.contains("unexpected argument '-x' found") && statuses(ours) == ["1"]);
        },
    );
}

/// One command to a guest that answers so. The reference, which waits for ever, is given up after two
/// seconds; ours gives up by itself after a silence of so many: more than the guest may need where it
/// says something at all.
fn given_up(
    silence: &'static str,
    answer: impl Fn(&[u8]) -> Vec<Vec<u8>> + Copy + Send + 'static,
) -> impl Fn(&mut Sandbox) {
    move |sandbox| {
        let _guest = Fake::new(sandbox, "lab1", answer);
        let (limit, ours) = if sandbox.is_ours() {
            ("60", vec!["--timeout", silence])
        } else {
            ("2", vec![])
        };
        let mut command = Command::new("timeout");
        command
            .arg(limit)
            .arg(sandbox.binary())
            .args(ours)
            .args(["lab1", "version"])
            .env("HOME", sandbox.dir());
        sandbox.run_command("$ timeout uml_mconsole lab1 version", &mut command, b"");
    }
}

#[test]
fn replies_that_make_the_reference_hang_or_lie() {
    let hangs = |reference: &Transcript| assert_eq!(statuses(reference), ["124"]);
    differs(
        TOOL,
        "silence",
        "mconsole-hang",
        given_up("0.5", |_| vec![]),
        |reference, ours| {
            hangs(reference);
            assert!(ours.contains("nothing came for 0.5 s") && statuses(ours) == ["1"]);
        },
    );
    differs(
        TOOL,
        "a lost last piece",
        "mconsole-hang",
        given_up("5", |_| vec![piece(0, true, "half")]),
        |reference, ours| {
            hangs(reference);
            assert!(ours.contains("OK half") && ours.contains("is cut short"));
        },
    );
    differs(
        TOOL,
        "a plain text",
        "mconsole-plain",
        given_up("30", |_| {
            vec![b"ERR Version 1 mconsole clients are not supported\n".to_vec()]
        }),
        |reference, ours| {
            hangs(reference);
            assert!(ours.contains("Version 1") && ours.contains("in plain text"));
        },
    );
    differs(
        TOOL,
        "an error in the first of two pieces",
        "mconsole-first-error",
        commands(&[&["x"]], |_| {
            vec![piece(-19, true, "a"), piece(0, false, "b")]
        }),
        |reference, ours| {
            assert!(reference.contains("OK ab") && statuses(reference) == ["0"]);
            assert!(ours.contains("ERR ab") && statuses(ours) == ["237"]);
        },
    );
    differs(
        TOOL,
        "an error number that leaves no byte",
        "mconsole-status-256",
        commands(&[&["x"]], |_| vec![piece(-256, false, "a")]),
        |reference, ours| {
            assert!(reference.contains("ERR a") && statuses(reference) == ["0"]);
            assert!(ours.contains("ERR a") && statuses(ours) == ["1"]);
        },
    );
}

#[test]
fn another_processs_datagram_is_no_reply() {
    differs(
        TOOL,
        "a stranger's datagram",
        "mconsole-stranger",
        |sandbox| {
            let dir = sandbox.dir().join(".uml/lab1");
            fs::create_dir_all(&dir).unwrap();
            let guest = UnixDatagram::bind(dir.join("mconsole")).unwrap();
            let thread = thread::spawn(move || {
                let (_, from) = guest.recv_from(&mut [0; 1024]).unwrap();
                let stranger = UnixDatagram::unbound().unwrap();
                // The kernel refuses it where the client talks to the guest alone.
                let _ = stranger.send_to_addr(&piece(0, false, "a lie"), &from);
                let _ = guest.send_to_addr(&piece(0, false, "the truth"), &from);
            });
            call(sandbox, &["lab1", "version"]);
            thread.join().unwrap();
        },
        |reference, ours| {
            assert!(reference.contains("OK a lie"));
            assert!(ours.contains("OK the truth"));
        },
    );
}

#[test]
fn local_words_and_descriptors() {
    differs(
        TOOL,
        "words that begin like local commands",
        "mconsole-local-words",
        commands(&[&["quitx"], &["internals"], &["mconsole-versions"]], ok),
        |reference, ours| {
            assert!(!reference.contains("\"quitx\""));
            assert!(ours.contains("\"quitx\"\n  \"internals\"\n  \"mconsole-versions\""));
        },
    );
    differs(
        TOOL,
        "umlfs without a number",
        "mconsole-umlfs",
        commands(&[&["umlfs"]], ok),
        |reference, ours| {
            assert!(reference.contains("OK done") && statuses(reference) == ["0"]);
            assert!(ours.contains("ERR Failed to parse") && statuses(ours) == ["234"]);
        },
    );
}

#[test]
fn scripts() {
    let played = |script: &'static str| {
        move |sandbox: &mut Sandbox| {
            let answer = |command: &[u8]| {
                let err = if command == b"bad" { -19 } else { 0 };
                vec![piece(err, false, "done")]
            };
            let guest = Fake::new(sandbox, "lab1", answer);
            let other = Fake::new(sandbox, "lab2", answer);
            call_with_input(sandbox, &["lab1"], script);
            guest.saw_requests(sandbox);
            other.saw_requests(sandbox);
        }
    };
    differs(
        TOOL,
        "commands from standard input",
        "mconsole-script",
        played("version\nbad\nswitch lab2\nproc x\n"),
        |reference, ours| {
            assert!(reference.contains("(lab1) version\n  OK done\n  (lab1) bad\n  ERR done"));
            assert_eq!(statuses(reference), ["0"]);
            assert!(
                ours.contains(" 237\n  OK done\n  ERR done\n  Switched to 'lab2'\n  OK done\n")
            );
            assert_eq!(reference.0[1..], ours.0[1..], "the guests heard the same");
        },
    );
    differs(
        TOOL,
        "NAME: COMMAND, empty lines, remarks",
        "mconsole-address",
        played("lab2: version\n\n# remark\n"),
        |reference, ours| {
            assert!(
                reference.0[1]
                    .seen
                    .contains("\"lab2: version\"\n\"\"\n\"# remark\"")
            );
            assert!(ours.0[1].seen.is_empty());
            assert_eq!(ours.0[2].seen, "\"version\"");
        },
    );
}
