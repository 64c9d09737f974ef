//! Every guest at once: `--all` and `--list`.

use std::{fs, process::id};

use testkit::{cmd::run, until};

use crate::fake::{Fake, last, piece, stale_guest, tool};

#[test]
fn all_running_guests_answer_with_their_umid_before_each_line() {
    let dir = tempfile::tempdir().unwrap();
    let _b = Fake::new(dir.path(), "b", |_| vec![last("two\nlines\n")]);
    let _a = Fake::new(dir.path(), "a", |_| vec![last("one")]);
    stale_guest(dir.path(), "stale");
    let finished = run(tool()
        .arg("--uml-dir")
        .arg(dir.path())
        .args(["--all", "proc", "x"]));
    assert_eq!(finished.out(), "a: OK one\nb: OK two\nb: lines\nb: \n");
    assert_eq!((&*finished.err(), finished.code()), ("", 0));
}

#[test]
fn one_guest_that_fails_is_enough() {
    let dir = tempfile::tempdir().unwrap();
    let _a = Fake::new(dir.path(), "a", |_| vec![last("fine")]);
    let _b = Fake::new(dir.path(), "b", |_| vec![piece(-19, false, b"no")]);
    let finished = run(tool()
        .arg("--uml-dir")
        .arg(dir.path())
        .args(["--all", "remove", "ubd1"]));
    assert_eq!(finished.out(), "a: OK fine\nb: ERR no\n");
    assert_eq!(finished.code(), 237);
}

#[test]
fn silent_guests_are_waited_for_together() {
    let dir = tempfile::tempdir().unwrap();
    let guests: Vec<Fake> = (10..40)
        .map(|number| Fake::new(dir.path(), &format!("g{number}"), |_| vec![]))
        .collect();
    let finished = run(tool()
        .arg("--uml-dir")
        .arg(dir.path())
        // One after the other would take more than the patience of `run`.
        .args(["--timeout", "2", "--all", "version"]));
    assert_eq!((&*finished.out(), finished.code()), ("", 1));
    assert_eq!(finished.err().lines().count(), guests.len());
    for guest in guests {
        // The request is on its socket; its thread takes it when it comes to it.
        until("the request", || (!guest.heard().is_empty()).then_some(()));
        assert_eq!(guest.heard(), ["version"]);
    }
}

#[test]
fn all_of_none_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().display();
    let finished = run(tool()
        .arg("--uml-dir")
        .arg(dir.path())
        .args(["--all", "version"]));
    assert_eq!(
        finished.err(),
        format!("uml_mconsole: no guest is running below '{at}'\n")
    );
    assert_eq!((&*finished.out(), finished.code()), ("", 1));
    for command in ["quit", "switch a"] {
        let finished = run(tool().args(["--all", command]));
        assert_eq!((&*finished.out(), finished.code()), ("", 1));
        assert!(
            finished.err().contains("not for --all"),
            "{}",
            finished.err()
        );
    }
    let finished = run(tool().arg("--all"));
    assert_eq!(finished.code(), 1);
    assert!(finished.err().contains("Usage : "), "{}", finished.err());
}

#[test]
fn the_list_tells_what_the_guests_are() {
    let dir = tempfile::tempdir().unwrap();
    let alive = Fake::new(dir.path(), "alive", |command| match command {
        b"version" => vec![last("Linux (none) 6.1.0 #1 SMP x86_64")],
        b"config ubd0" => vec![last("/disk.img")],
        b"config con0" | b"config con1" => vec![last("null")],
        b"config con2" => vec![last("none")],
        b"config mem" => vec![last("65536K")],
        command if command.starts_with(b"config") => vec![last("")],
        _ => vec![piece(1, false, b"Unknown command")],
    });
    fs::write(alive.socket().with_file_name("pid"), format!("{}\n", id())).unwrap();
    let _silent = Fake::new(dir.path(), "silent", |_| vec![]);
    let stale = stale_guest(dir.path(), "stale");
    fs::write(stale.with_file_name("pid"), "1\n").unwrap();
    fs::create_dir(dir.path().join("no-guest")).unwrap();

    let mut list = tool();
    // The silent one is waited for; each of the other's answers must be there by then.
    list.args(["--timeout", "5", "--list", "--uml-dir"])
        .arg(dir.path());
    let finished = run(&mut list).success();
    let lines: Vec<Vec<String>> = finished
        .out()
        .lines()
        .map(|line| line.split_whitespace().map(str::to_owned).collect())
        .collect();
    assert_eq!(lines.len(), 4, "{}", finished.out());
    assert_eq!(lines[0].join(" "), "UMID PID STATE KERNEL UPTIME DEVICES");
    assert_eq!(
        lines[1][..4],
        ["alive", &id().to_string(), "alive", "6.1.0"]
    );
    assert_eq!(
        lines[1][5..],
        ["ubd0=/disk.img", "con0-1=null", "mem=65536K"]
    );
    assert_eq!(lines[2].join(" "), "silent - silent - -");
    assert_eq!(lines[3].join(" "), "stale - stale - -");

    let finished = run(list.arg("--json")).success();
    let entries: serde_json::Value = serde_json::from_slice(&finished.stdout).unwrap();
    assert_eq!(entries.as_array().unwrap().len(), 3);
    let alive = &entries[0];
    assert_eq!(alive["umid"], "alive");
    assert_eq!(alive["pid"], id());
    assert_eq!(alive["version"], "Linux (none) 6.1.0 #1 SMP x86_64");
    assert!(alive["uptime_seconds"].is_u64());
    assert_eq!(alive["devices"][0]["name"], "ubd0");
    assert_eq!(alive["devices"][0]["config"], "/disk.img");
    assert_eq!(entries[2]["state"], "stale");
    assert!(entries[2]["pid"].is_null());
}
