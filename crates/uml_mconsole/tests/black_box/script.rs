//! Commands on a standard input that is no terminal.

use testkit::cmd::{Finished, run_with_input};

use crate::fake::{Fake, last, piece, tool};

/// Two guests that name themselves and fail what begins with `bad`.
fn played(args: &[&str], script: &str) -> (Finished, Vec<String>, Vec<String>) {
    let dir = tempfile::tempdir().unwrap();
    let guest = |umid: &'static str| {
        Fake::new(dir.path(), umid, move |command| {
            if command.starts_with(b"bad") {
                return vec![piece(-19, false, b"no")];
            }
            let text = format!("{umid}: {}", String::from_utf8_lossy(command));
            vec![last(&text)]
        })
    };
    let (one, two) = (guest("lab1"), guest("lab2"));
    let finished = run_with_input(
        tool()
            .args(args)
            .arg("--uml-dir")
            .arg(dir.path())
            .arg("lab1"),
        script.as_bytes(),
    );
    (finished, one.heard(), two.heard())
}

#[test]
fn each_line_is_a_command() {
    let (finished, heard, _) = played(
        &[],
        "version\n\n# a remark\n  proc uptime  \nmconsole-version",
    );
    assert_eq!(
        finished.out(),
        "OK lab1: version\nOK lab1: proc uptime\numl_mconsole client version 2\n"
    );
    assert_eq!((&*finished.err(), finished.code()), ("", 0));
    assert_eq!(heard, ["version", "proc uptime"]);
}

#[test]
fn the_first_failure_is_the_status_in_the_end() {
    let (finished, heard, _) = played(&[], "bad 1\nswitch nowhere\nversion\n");
    assert_eq!(finished.out(), "ERR no\nOK lab1: version\n");
    assert!(
        finished.err().contains("no guest 'nowhere'"),
        "{}",
        finished.err()
    );
    assert_eq!(finished.code(), 237);
    assert_eq!(heard.len(), 2);
}

#[test]
fn a_script_may_stop_at_the_first_error() {
    let (finished, heard, _) = played(&["--stop-on-error"], "one\nbad 2\nthree\n");
    assert_eq!(finished.out(), "OK lab1: one\nERR no\n");
    assert_eq!(finished.code(), 237);
    assert_eq!(heard, ["one", "bad 2"]);
}

#[test]
fn scripts_switch_guests_and_quit() {
    let (finished, one, two) = played(
        &[],
        "a\nswitch lab2\nb\nlab1: c\nd\nlab2:\ne\nnowhere: f\ng\nquit\nh\n",
    );
    assert_eq!(
        finished.out(),
        "OK lab1: a\nSwitched to 'lab2'\nOK lab2: b\nOK lab1: c\nOK lab1: d\n\
         Switched to 'lab2'\nOK lab2: e\nOK lab2: g\n"
    );
    assert_eq!(finished.code(), 1);
    assert_eq!(one, ["a", "c", "d"]);
    assert_eq!(two, ["b", "e", "g"]);
}

#[test]
fn a_script_may_hold_anything() {
    let (finished, heard, _) = played(&[], "log \u{e4}\nx\0y\nversion\n");
    assert_eq!(
        finished.out(),
        "OK lab1: log \u{e4}\nOK lab1: log \n\nOK lab1: version\n"
    );
    assert_eq!(
        finished.err(),
        "uml_mconsole: not sent: the command holds a NUL byte at offset 1\n"
    );
    assert_eq!(finished.code(), 1);
    assert_eq!(heard.len(), 3);

    let (finished, ..) = played(&[], &"x".repeat(2 << 20));
    assert_eq!(finished.code(), 1);
    assert_eq!(
        finished.err(),
        "uml_mconsole: a line of the script is longer than 1048576 bytes\n"
    );
}
