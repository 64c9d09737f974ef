//! What real guests, clients and switches have said, read as it was meant: `fixtures/wire`.

use std::{fs, path::Path};

use uml_core::wire::{
    mconsole::{self, Event, Notification, Piece},
    sockaddr::{Name, Sockaddr, SockaddrError},
    switch::{Oldest, Progress, Request, RequestError, V0_LEN, V1_LEN, V3_LEN, Version},
    vde::{Wish, description},
};

fn fixture(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/wire");
    fs::read(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn request(name: &str) -> (Request, usize, Vec<u8>) {
    let bytes = fixture(name);
    match Request::decode(&bytes, Oldest::V0) {
        Ok(Progress::Complete(request, used)) => (request, used, bytes),
        other => panic!("{name}: {other:?}"),
    }
}

#[test]
fn requests_to_a_switch() {
    for (name, version, length, kind) in [
        ("switch/v0.bin", Version::V0, V0_LEN, 0),
        ("switch/v1.bin", Version::V1, V1_LEN, 0),
        ("switch/v1-noise-in-name.bin", Version::V1, V1_LEN, 0),
        ("switch/v3-guest.bin", Version::V3, V3_LEN, 0),
        ("switch/v3-capture-type.bin", Version::V3, V3_LEN, 1),
    ] {
        let (request, used, bytes) = request(name);
        assert_eq!(
            (request.version, used, request.kind),
            (version, length, kind)
        );
        assert_eq!(request.encode()[..used], bytes[..used], "{name}");
        assert_eq!(request.mac.is_some(), version != Version::V3);
    }
    let (guest, ..) = request("switch/v3-guest.bin");
    assert!(matches!(guest.address.name(), Name::Abstract(_)));
    let (old, ..) = request("switch/v1.bin");
    assert_eq!(old.address.name(), Name::Path(Path::new("/tmp/uml.data")));
}

#[test]
fn requests_that_no_switch_takes() {
    for (name, error) in [
        ("switch/v2.bin", RequestError::Version2),
        (
            "switch/v3-bad-family.bin",
            RequestError::Address {
                kind: 0,
                source: SockaddrError::BadFamily { found: 2 },
            },
        ),
    ] {
        assert_eq!(Request::decode(&fixture(name), Oldest::V1), Err(error));
    }
}

#[test]
fn a_switchs_answer_is_its_data_socket() {
    let bytes: [u8; 110] = fixture("switch/v3-answer.bin").try_into().unwrap();
    let address = Sockaddr::decode(&bytes).unwrap();
    assert!(matches!(address.name(), Name::Abstract(_)));
    assert_eq!(address.encode(), bytes);
}

#[test]
fn requests_of_vdes_clients() {
    for (name, wish, text) in [
        ("vde/vde_plug.bin", Wish::Any, "vdeplug: user=root pid=4711"),
        (
            "vde/port-5.bin",
            Wish::Port(5),
            "vdeplug: user=root pid=4711",
        ),
        ("vde/port-0.bin", Wish::Port0, "qemu: user=me pid=1"),
    ] {
        let (request, used, bytes) = request(name);
        assert_eq!(request.version, Version::V3);
        assert_eq!(Wish::from_kind(request.kind), wish, "{name}");
        assert_eq!(description(&bytes[used..]), text, "{name}");
    }
    let (_, used, bytes) = request("vde/noisy-text.bin");
    assert!(description(&bytes[used..]).starts_with("\\x1b[2J\\x01\\x02"));
}

#[test]
fn a_consoles_requests() {
    for (name, command) in [
        ("mconsole/request-version.bin", "version"),
        ("mconsole/request-config.bin", "config ubda"),
    ] {
        let bytes = fixture(name);
        let request = mconsole::Request::decode(&bytes).unwrap();
        assert_eq!(request.command(), command.as_bytes());
        assert_eq!(request.encode().as_slice(), bytes, "byte for byte");
    }
}

#[test]
fn a_guests_replies() {
    for (name, err, more, start) in [
        ("mconsole/reply-version.bin", 0, false, "Linux (none) 6.1."),
        (
            "mconsole/reply-bad-command.bin",
            1,
            false,
            "Unknown command",
        ),
        ("mconsole/reply-config.bin", 0, false, "1610612736"),
        ("mconsole/reply-proc.bin", 0, true, "\n"),
        ("mconsole/reply-proc-2.bin", 0, true, "processor\t: 0\n"),
        ("mconsole/reply-sysrq.bin", 0, true, "sysrq: Show State\n"),
        ("mconsole/reply-sysrq-2.bin", 0, true, "task:init "),
    ] {
        let bytes = fixture(name);
        let piece = Piece::decode(&bytes).unwrap();
        assert_eq!((piece.err, piece.more), (err, more), "{name}");
        assert!(piece.text.starts_with(start.as_bytes()), "{name}");
        assert_eq!(piece.encode(), bytes, "{name}");
    }
    assert_eq!(Piece::decode(&fixture("mconsole/reply-v1.bin")), None);
}

#[test]
fn notifications_of_guests_and_watchdogs() {
    for (name, event, text) in [
        (
            "mconsole/notify-boot.bin",
            Event::Boot,
            "/tmp/uml/cap/mconsole",
        ),
        (
            "mconsole/notify-user.bin",
            Event::Message,
            "hello from the guest\n",
        ),
        (
            "mconsole/notify-panic.bin",
            Event::Panic,
            "Segfault with no mm",
        ),
        ("mconsole/notify-watchdog.bin", Event::Hang, ""),
    ] {
        let bytes = fixture(name);
        let notification = Notification::decode(&bytes).unwrap();
        assert_eq!(notification.event, event, "{name}");
        assert_eq!(notification.text, text.as_bytes(), "{name}");
    }
}
