//! One command: where the guest is found, what it is sent, what is done without it.

use std::{
    fs,
    io::IoSliceMut,
    os::{
        fd::{AsRawFd as _, RawFd},
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixDatagram},
    },
    path::Path,
    process::{Command, Stdio},
};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, UnixAddr, recvmsg};
use testkit::cmd::run;

use crate::fake::{Fake, last, piece, stale_guest, tool};

const LOCAL_HELP: &str = "\
Additional local mconsole commands:
    quit - Quit mconsole
    switch <socket-name> - Switch control to the given machine
    log -f <filename> - use contents of <filename> as UML log messages
    mconsole-version - version of this mconsole program
    int  - Interrupt UML session
";

fn ok_guest(dir: &Path) -> Fake {
    Fake::new(dir, "lab1", |_| vec![last("ok")])
}

fn at(dir: &Path) -> Command {
    let mut command = tool();
    command.arg("--uml-dir").arg(dir).arg("lab1");
    command
}

#[test]
fn without_arguments_the_old_usage_is_shown() {
    let finished = run(&mut tool());
    assert_eq!(
        finished.err(),
        "Usage : uml_mconsole socket-name [command]\n"
    );
    assert_eq!((finished.code(), &*finished.out()), (1, ""));
}

#[test]
fn a_misspelt_option_is_no_guest() {
    let finished = run(tool().args(["--timout", "5", "lab1", "version"]));
    assert_eq!(
        finished.err(),
        "unexpected argument '--timout' found\nUsage : uml_mconsole socket-name [command]\n"
    );
    assert_eq!((finished.code(), &*finished.out()), (1, ""));
}

#[test]
fn a_guest_is_found_by_umid_and_by_path() {
    let home = tempfile::tempdir().unwrap();
    let guest = Fake::new(&home.path().join(".uml"), "lab1", |_| vec![last("ok")]);
    let by_umid = run(tool().env("HOME", home.path()).args(["lab1", "version"])).success();
    assert_eq!((&*by_umid.out(), &*by_umid.err()), ("OK ok\n", ""));
    let by_path = run(tool().arg(guest.socket()).arg("version")).success();
    assert_eq!((&*by_path.out(), &*by_path.err()), ("OK ok\n", ""));
    let here = run(tool()
        .current_dir(home.path().join(".uml/lab1"))
        .args(["./mconsole", "version"]));
    assert_eq!(here.success().out(), "OK ok\n");
}

#[test]
fn all_places_are_named_when_there_is_no_guest() {
    let home = tempfile::tempdir().unwrap();
    let finished = run(tool().env("HOME", home.path()).args(["no-such", "version"]));
    assert_eq!((finished.code(), &*finished.out()), (1, ""));
    assert_eq!(
        finished.err(),
        format!(
            "uml_mconsole: no guest 'no-such': looked for '{}/.uml/no-such/mconsole' (No such \
             file or directory), '/tmp/uml/no-such/mconsole' (No such file or directory), \
             'no-such' (No such file or directory)\n",
            home.path().display()
        )
    );
}

#[test]
fn words_are_joined_by_one_space_and_options_behind_the_guest_are_the_commands() {
    let dir = tempfile::tempdir().unwrap();
    let guest = ok_guest(dir.path());
    for words in [
        &["exec", "a  b", "--timeout", "-x", ""][..],
        &["config", "con1=fd:1"],
        &["--json"],
    ] {
        let _ = run(at(dir.path()).args(words)).success();
    }
    assert_eq!(
        guest.heard(),
        ["exec a  b --timeout -x", "config con1=fd:1", "--json"]
    );
}

#[test]
fn disk_names_are_made_absolute() {
    let dir = tempfile::tempdir().unwrap();
    let guest = ok_guest(dir.path());
    let here = fs::canonicalize(dir.path()).unwrap();
    let _ = run(at(dir.path())
        .current_dir(dir.path())
        .args(["config", "ubd1r=new.cow,lab1/disk"]))
    .success();
    let h = here.display();
    assert_eq!(
        guest.heard(),
        [format!("config ubd1r={h}/new.cow,{h}/lab1/disk")]
    );
}

#[test]
fn a_command_that_does_not_fit_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let guest = ok_guest(dir.path());
    let _ = run(at(dir.path()).arg("a".repeat(511))).success();
    let finished = run(at(dir.path()).arg("a".repeat(512)));
    assert_eq!(finished.code(), 1);
    assert_eq!(
        finished.err(),
        "uml_mconsole: not sent: the command is 512 bytes long: a guest takes 511 at most\n"
    );
    assert_eq!(guest.heard(), ["a".repeat(511)]);
}

#[test]
fn local_commands_need_no_guest() {
    let version = run(tool().args(["no-such", "mconsole-version"])).success();
    assert_eq!(version.out(), "uml_mconsole client version 2\n");
    let quit = run(tool().args(["no-such", "quit"])).success();
    assert_eq!((&*quit.out(), &*quit.err()), ("", ""));
}

#[test]
fn a_full_disk_behind_standard_output_is_said() {
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let output = tool()
        .args(["no-such", "mconsole-version"])
        .stdout(full)
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "uml_mconsole: writing to 'standard output': No space left on device\n"
    );
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn help_adds_the_local_commands() {
    let dir = tempfile::tempdir().unwrap();
    let _guest = Fake::new(dir.path(), "lab1", |_| vec![last("Commands:\n    go\n")]);
    let finished = run(at(dir.path()).arg("help")).success();
    assert_eq!(
        finished.out(),
        format!("OK Commands:\n    go\n\n{LOCAL_HELP}")
    );
}

#[test]
fn switch_says_whether_the_guest_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let _guest = ok_guest(dir.path());
    let finished = run(at(dir.path()).args(["switch", "lab1"])).success();
    assert_eq!(finished.out(), "Switched to 'lab1'\n");
    let finished = run(at(dir.path()).args(["switch", "lab2"]));
    assert_eq!((finished.code(), &*finished.out()), (1, ""));
    assert!(
        finished.err().contains("no guest 'lab2'"),
        "{}",
        finished.err()
    );
}

#[test]
fn log_goes_in_pieces_with_a_last_newline() {
    let dir = tempfile::tempdir().unwrap();
    let guest = ok_guest(dir.path());
    let finished = run(at(dir.path()).args(["log", "hello", "there"])).success();
    assert_eq!(finished.out(), "OK ok\nOK ok\n");
    let file = dir.path().join("text");
    fs::write(&file, "z".repeat(1199) + "\n").unwrap();
    let finished = run(at(dir.path()).args(["log", "-f"]).arg(&file)).success();
    assert_eq!(finished.out(), "OK ok\nOK ok\nOK ok\n");
    assert_eq!(
        guest.heard(),
        [
            "log hello there".to_owned(),
            "log \n".to_owned(),
            format!("log {}", "z".repeat(506)),
            format!("log {}", "z".repeat(506)),
            format!("log {}\n", "z".repeat(187)),
        ]
    );
}

#[test]
fn log_stops_at_the_first_error() {
    let dir = tempfile::tempdir().unwrap();
    let guest = Fake::new(dir.path(), "lab1", |command| {
        let full = command.ends_with(b"b");
        vec![piece(if full { -28 } else { 0 }, false, b"log")]
    });
    let text = "a".repeat(506) + &"b".repeat(506) + &"c".repeat(506);
    let finished = run(at(dir.path()).args(["log", &text]));
    assert_eq!(
        (&*finished.out(), finished.code()),
        ("OK log\nERR log\n", 228)
    );
    assert_eq!(guest.heard().len(), 2);

    let finished = run(at(dir.path()).args(["log", "-f", "/no/such/file"]));
    assert_eq!(
        finished.err(),
        "uml_mconsole: opening file '/no/such/file': No such file or directory\n"
    );
    assert_eq!((&*finished.out(), finished.code()), ("", 1));
}

#[test]
fn int_signals_the_process_beside_the_socket() {
    let dir = tempfile::tempdir().unwrap();
    let guest = ok_guest(dir.path());
    let finished = run(at(dir.path()).arg("int"));
    assert_eq!((&*finished.out(), finished.code()), ("", 1));
    assert!(
        finished.err().contains("no process id of guest 'lab1'"),
        "{}",
        finished.err()
    );

    let mut process = testkit::cmd::sleeper();
    fs::write(
        guest.socket().with_file_name("pid"),
        format!("{}\n", process.id()),
    )
    .unwrap();
    let finished = run(at(dir.path()).arg("int")).success();
    assert_eq!((&*finished.out(), &*finished.err()), ("", ""));
    let status = process.wait().unwrap();
    assert_eq!(
        std::os::unix::process::ExitStatusExt::signal(&status),
        Some(2)
    );
    assert!(guest.heard().is_empty());
}

#[test]
fn int_signals_nobody_when_the_guest_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let socket = stale_guest(dir.path(), "lab1");
    // A process id that now is somebody else's.
    let mut process = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
    fs::write(socket.with_file_name("pid"), process.id().to_string()).unwrap();
    let finished = run(at(dir.path()).arg("int"));
    assert_eq!(finished.code(), 1);
    drop(process.stdin.take());
    assert!(process.wait().unwrap().success());
}

#[test]
fn umlfs_passes_a_descriptor() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("lab1")).unwrap();
    let guest = UnixDatagram::bind(dir.path().join("lab1/mconsole")).unwrap();
    let receiver = std::thread::spawn(move || {
        let mut request = [0; 1024];
        let mut parts = [IoSliceMut::new(&mut request)];
        let mut control = nix::cmsg_space!([RawFd; 1]);
        let received = recvmsg::<UnixAddr>(
            guest.as_raw_fd(),
            &mut parts,
            Some(&mut control),
            MsgFlags::MSG_CMSG_CLOEXEC,
        )
        .unwrap();
        let passed = received.cmsgs().unwrap().next();
        let Some(ControlMessageOwned::ScmRights(descriptors)) = passed else {
            panic!("no descriptor");
        };
        let name = fs::read_link(format!("/proc/self/fd/{}", descriptors[0])).unwrap();
        nix::unistd::close(descriptors[0]).unwrap();
        let address = received.address.unwrap();
        let client = SocketAddr::from_abstract_name(address.as_abstract().unwrap()).unwrap();
        guest.send_to_addr(&last("mounted"), &client).unwrap();
        name
    });
    // `run` gives it /dev/null as descriptor 0.
    let finished = run(at(dir.path()).args(["umlfs", "0"])).success();
    assert_eq!(finished.out(), "OK mounted\n");
    assert_eq!(receiver.join().unwrap(), Path::new("/dev/null"));
}

#[test]
fn umlfs_passes_no_descriptor_that_is_not_there() {
    let dir = tempfile::tempdir().unwrap();
    let guest = ok_guest(dir.path());
    // 3 would be the first number of a socket of the client's own.
    for (descriptor, out, status) in [
        ("77", "ERR Failed to send FUSE file descriptor\n", 247),
        ("3", "ERR Failed to send FUSE file descriptor\n", 247),
        ("x", "ERR Failed to parse file descriptor\n", 234),
        ("-1", "ERR Failed to parse file descriptor\n", 234),
    ] {
        let finished = run(at(dir.path()).args(["umlfs", descriptor]));
        assert_eq!((&*finished.out(), finished.code()), (out, status));
    }
    assert!(guest.heard().is_empty());
}
