//! Every shape of reply.

use std::{
    fs,
    os::unix::net::{UnixDatagram, UnixListener},
    path::Path,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use testkit::{
    cmd::{Finished, run},
    fill_queue,
};

use crate::fake::{Fake, last, more, piece, stale_guest, tool};

/// The tool's answer to one command, with more patience than any guest here needs.
fn ask(dir: &Path, command: &str) -> Finished {
    ask_for(dir, command, "30")
}

/// The same with so many seconds of patience.
fn ask_for(dir: &Path, command: &str, patience: &str) -> Finished {
    run(tool()
        .args(["--timeout", patience, "--uml-dir"])
        .arg(dir)
        .args(["lab1", command]))
}

/// The answer to one command of a guest that answers everything with these datagrams.
fn answered_with(datagrams: Vec<Vec<u8>>) -> Finished {
    answered_for(datagrams, "30")
}

/// The same with so many seconds of patience.
fn answered_for(datagrams: Vec<Vec<u8>>, patience: &str) -> Finished {
    let dir = tempfile::tempdir().unwrap();
    let _guest = Fake::new(dir.path(), "lab1", move |_| datagrams.clone());
    ask_for(dir.path(), "version", patience)
}

#[track_caller]
fn assert_said(finished: &Finished, out: &str, err: &str, status: i32) {
    assert_eq!(
        (&*finished.out(), &*finished.err(), finished.code()),
        (out, err, status)
    );
}

#[test]
fn one_piece_and_chunks_are_joined() {
    assert_said(
        &answered_with(vec![last("Linux 6.1")]),
        "OK Linux 6.1\n",
        "",
        0,
    );
    let long = "a".repeat(511);
    let chunks = vec![more(&long), more("b"), last("c")];
    assert_said(&answered_with(chunks), &format!("OK {long}bc\n"), "", 0);
    assert_said(&answered_with(vec![last("")]), "OK \n", "", 0);
}

#[test]
fn the_error_number_of_any_piece_counts() {
    let only = vec![piece(-19, false, b"no device")];
    assert_said(&answered_with(only), "ERR no device\n", "", 237);
    let first = vec![piece(-2, true, b"no "), last("file")];
    assert_said(&answered_with(first), "ERR no file\n", "", 254);
    let later = vec![more("no "), piece(1, false, b"use")];
    assert_said(&answered_with(later), "ERR no use\n", "", 1);
    let whole_byte = vec![piece(-256, false, b"odd")];
    assert_said(&answered_with(whole_byte), "ERR odd\n", "", 1);
}

#[test]
fn a_lost_last_piece_is_said() {
    assert_said(
        &answered_for(vec![more("half of "), more("it")], "5"),
        "OK half of it\n",
        "uml_mconsole: the reply of guest 'lab1' is cut short: nothing came for 5 s (--timeout \
         SECONDS waits longer)\n",
        1,
    );
}

#[test]
fn silence_ends() {
    assert_said(
        &answered_for(vec![], "0.5"),
        "",
        "uml_mconsole: guest 'lab1' has not answered: nothing came for 0.5 s (--timeout SECONDS \
         waits longer)\n",
        1,
    );
}

#[test]
fn a_guest_that_goes_on_for_ever_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let _guest = Fake::with_socket(
        dir.path(),
        "lab1",
        Box::new(|_, socket, from| {
            while socket.send_to_addr(&more(""), from).is_ok() {
                thread::sleep(Duration::from_millis(20));
            }
            vec![]
        }),
    );
    let finished = run(tool()
        // The bounds are twelve times as far; the guest's pauses are shorter by far.
        .args(["--timeout", "2", "--uml-dir"])
        .arg(dir.path())
        .args(["lab1", "version"]));
    assert_said(
        &finished,
        "OK \n",
        "uml_mconsole: the reply of guest 'lab1' is cut short: it has gone on beyond all bounds\n",
        1,
    );
}

#[test]
fn a_guest_that_ends_while_it_answers_is_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lab1/mconsole");
    fs::create_dir(dir.path().join("lab1")).unwrap();
    let socket = UnixDatagram::bind(&path).unwrap();
    let guest = thread::spawn(move || {
        let (_, from) = socket.recv_from(&mut [0; 1024]).unwrap();
        socket.send_to_addr(&more("dying"), &from).unwrap();
    });
    let finished = run(tool()
        .args(["--timeout", "600", "--uml-dir"])
        .arg(dir.path())
        .args(["lab1", "sysrq c"]));
    guest.join().unwrap();
    assert_said(
        &finished,
        "OK dying\n",
        "uml_mconsole: the reply of guest 'lab1' is cut short: the guest has ended\n",
        1,
    );
}

#[test]
fn a_guest_that_ends_without_a_word_has_halted() {
    for command in ["halt", "reboot", "cad"] {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("lab1")).unwrap();
        let socket = UnixDatagram::bind(dir.path().join("lab1/mconsole")).unwrap();
        let guest = thread::spawn(move || socket.recv(&mut [0; 1024]).unwrap());
        let finished = run(tool()
            .args(["--timeout", "600", "--uml-dir"])
            .arg(dir.path())
            .args(["lab1", command]));
        guest.join().unwrap();
        assert_said(&finished, "OK \n", "", 0);
    }
}

#[test]
fn a_stranger_can_not_answer() {
    let dir = tempfile::tempdir().unwrap();
    let refused = Arc::new(Mutex::new(None));
    let _guest = {
        let refused = Arc::clone(&refused);
        Fake::with_socket(
            dir.path(),
            "lab1",
            Box::new(move |_, _, from| {
                let stranger = UnixDatagram::unbound().unwrap();
                let sent = stranger.send_to_addr(&last("I am the guest"), from);
                *refused.lock().unwrap() = sent.unwrap_err().raw_os_error();
                vec![last("the guest's own")]
            }),
        )
    };
    assert_said(&ask(dir.path(), "version"), "OK the guest's own\n", "", 0);
    assert_eq!(*refused.lock().unwrap(), Some(nix::libc::EPERM));
}

#[test]
fn the_second_of_two_replies_is_not_the_next_commands_answer() {
    let dir = tempfile::tempdir().unwrap();
    // What a guest of another version does: an error, and the command's answer all the same.
    let _guest = Fake::new(dir.path(), "lab1", |command| {
        let text = String::from_utf8_lossy(command).into_owned();
        vec![piece(-22, false, b"Version 3 only"), last(&text)]
    });
    assert_said(&ask(dir.path(), "one"), "ERR Version 3 only\n", "", 234);
    assert_said(&ask(dir.path(), "two"), "ERR Version 3 only\n", "", 234);
}

#[test]
fn plain_text_is_shown_as_it_is() {
    let complaint = "uml_mconsole: guest 'lab1' has answered in plain text: it doesn't speak \
                     version 2 of the protocol\n";
    let text = "ERR Version 1 mconsole clients are not supported";
    let finished = answered_with(vec![text.as_bytes().to_vec()]);
    assert_said(&finished, &format!("{text}\n"), complaint, 1);
    assert_said(&answered_with(vec![b"no\0".to_vec()]), "no\n", complaint, 1);
    assert_said(&answered_with(vec![vec![]]), "\n", complaint, 1);
}

#[test]
fn two_thousand_pieces_arrive_in_order_from_a_guest_that_does_not_wait() {
    let dir = tempfile::tempdir().unwrap();
    let text = |number: usize| format!("{number:07} {}\n", "x".repeat(500));
    let _guest = Fake::with_socket(
        dir.path(),
        "lab1",
        Box::new(move |_, socket, from| {
            // More than the ten datagrams that fit the queue of a client that is no peer: they
            // are sent without waiting, as a guest's kernel does.
            socket.set_nonblocking(true).unwrap();
            for number in 0..100 {
                socket.send_to_addr(&more(&text(number)), from).unwrap();
            }
            socket.set_nonblocking(false).unwrap();
            for number in 100..1999 {
                socket.send_to_addr(&more(&text(number)), from).unwrap();
            }
            vec![last("end")]
        }),
    );
    let finished = run(tool()
        .arg("--uml-dir")
        .arg(dir.path())
        .args(["lab1", "proc x"]));
    let expected: String = (0..1999).map(text).collect();
    assert_said(&finished, &format!("OK {expected}end\n"), "", 0);
}

#[test]
fn a_wrong_length_or_no_nul_changes_nothing() {
    let with = |len: u32, text: &[u8]| {
        let mut datagram: Vec<u8> = [0, 0, len].iter().flat_map(|n| n.to_ne_bytes()).collect();
        datagram.extend(text);
        vec![datagram]
    };
    assert_said(&answered_with(with(99_999, b"abc\0")), "OK abc\n", "", 0);
    assert_said(&answered_with(with(0, b"abc\0")), "OK abc\n", "", 0);
    assert_said(&answered_with(with(3, b"abc")), "OK abc\n", "", 0);
    assert_said(&answered_with(with(0, b"")), "OK \n", "", 0);
    let huge = vec![b'y'; 4000];
    let shown = format!("OK {}\n", "y".repeat(4000));
    assert_said(&answered_with(with(4000, &huge)), &shown, "", 0);
}

#[test]
fn escapes_are_raw_in_a_pipe() {
    let finished = answered_with(vec![last("\x1b[2Jred\r\n\x07")]);
    assert_said(&finished, "OK \x1b[2Jred\r\n\x07\n", "", 0);
}

#[test]
fn a_stale_socket_is_told_from_a_guest() {
    let dir = tempfile::tempdir().unwrap();
    let socket = stale_guest(dir.path(), "lab1");
    let stale = format!(
        "uml_mconsole: no guest named 'lab1' is running (stale socket {})\n",
        socket.display()
    );
    assert_said(&ask(dir.path(), "version"), "", &stale, 1);

    let no_console = format!(
        "uml_mconsole: '{}' is no management console's socket\n",
        socket.display()
    );
    fs::remove_file(&socket).unwrap();
    fs::write(&socket, "").unwrap();
    assert_said(&ask(dir.path(), "version"), "", &no_console, 1);
    fs::remove_file(&socket).unwrap();
    let _listener = UnixListener::bind(&socket).unwrap();
    assert_said(&ask(dir.path(), "version"), "", &no_console, 1);
}

#[test]
fn a_guest_that_takes_no_requests_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("lab1")).unwrap();
    let path = dir.path().join("lab1/mconsole");
    let _deaf = UnixDatagram::bind(&path).unwrap();
    assert!(fill_queue(&path) > 0);
    assert_said(
        &ask_for(dir.path(), "version", "0.5"),
        "",
        "uml_mconsole: guest 'lab1' takes no requests: its queue has been full for 0.5 s\n",
        1,
    );
}
