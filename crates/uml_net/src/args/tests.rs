use std::os::unix::ffi::OsStringExt as _;

use proptest::prelude::*;

use super::*;

fn parse(words: &str) -> Call {
    Call::parse(&words.split(' ').map(OsString::from).collect::<Vec<_>>())
}

fn add(device: &str, address: [u8; 4], netmask: Option<[u8; 4]>) -> GuestAddress {
    GuestAddress {
        device: device.parse().unwrap(),
        address: address.into(),
        netmask: netmask.map(Ipv4Addr::from),
    }
}

#[track_caller]
fn understood(words: &str, reply: Reply, request: Request) {
    let expected = Call {
        reply,
        request: Ok(request),
    };
    assert_eq!(parse(words), expected, "{words}");
}

#[test]
fn tuntap_up_in_each_version() {
    let gate = Ipv4Addr::new(10, 0, 0, 1);
    let up = || Request::TapUp { gate };
    understood("4 tuntap up 10.0.0.1", Reply::Message(1), up());
    understood("3 tuntap up x 10.0.0.1", Reply::MessageThenCount, up());
    understood("2 tuntap up x 17 10.0.0.1", Reply::Message(17), up());
    for words in ["1 tuntap up 10.0.0.1", "0 tuntap up", "tuntap up 10.0.0.1"] {
        let call = parse(words);
        assert!(matches!(call.request, Err(BadCall::Handler { .. })));
        assert_eq!(call.reply, Reply::Unknown);
    }
}

#[test]
fn addresses_in_each_version() {
    let mask = Some([255, 255, 255, 0]);
    for words in [
        "4 add tap0 10.0.0.2 255.255.255.0",
        "4 tuntap add tap0 10.0.0.2 255.255.255.0",
    ] {
        understood(
            words,
            Reply::Counted,
            Request::Add(add("tap0", [10, 0, 0, 2], mask)),
        );
    }
    understood(
        "4 del tap0 10.0.0.2 255.255.255.0",
        Reply::Counted,
        Request::Delete(add("tap0", [10, 0, 0, 2], mask)),
    );
    understood(
        "3 tuntap add tap0 10.0.0.2",
        Reply::Counted,
        Request::Add(add("tap0", [10, 0, 0, 2], None)),
    );
    understood(
        "2 tuntap del x tap0 10.0.0.2",
        Reply::Errors,
        Request::Delete(add("tap0", [10, 0, 0, 2], None)),
    );
    for words in [
        "3 add tap0 10.0.0.2 255.0.0.0",
        "del tap0 10.0.0.2 255.0.0.0",
    ] {
        assert!(matches!(parse(words).request, Err(BadCall::Handler { .. })));
    }
}

#[test]
fn slip_in_each_version() {
    let gate = Ipv4Addr::new(10, 0, 0, 1);
    let up = |line| Request::SlipUp { line, gate };
    understood("4 slip up 10.0.0.1", Reply::Counted, up(0));
    understood("3 slip up 5 10.0.0.1", Reply::Counted, up(5));
    understood("4 slip down", Reply::Counted, Request::SlipDown { line: 0 });
    // The name given is not looked at: anybody could take any device down with it.
    understood(
        "4 slip down eth0",
        Reply::Counted,
        Request::SlipDown { line: 0 },
    );
    for words in [
        "2 slip up 5 10.0.0.1",
        "0 slip up 5 10.0.0.1",
        "slip up 5 10.0.0.1",
    ] {
        understood(words, Reply::Errors, up(5));
    }
    understood(
        "1 slip down 5",
        Reply::Errors,
        Request::SlipDown { line: 5 },
    );
}

#[test]
fn ethertap_is_answered_in_each_version() {
    for (words, reply) in [
        ("4 ethertap tap0 5 10.0.0.1", Reply::ByteThenCounted),
        ("3 ethertap tap0 5", Reply::ByteThenCounted),
        ("2 ethertap tap0 5 6 10.0.0.1", Reply::Byte(6)),
        ("1 ethertap tap0 5 6", Reply::Byte(6)),
        ("1 ethertap tap0", Reply::Errors),
        ("ethertap tap0 5", Reply::Errors),
    ] {
        let call = parse(words);
        assert_eq!((call.reply, call.request), (reply, Err(BadCall::Ethertap)));
    }
}

#[test]
fn bad_calls_say_what_is_wrong() {
    for (words, text) in [
        (
            "4",
            "uml_net : bad argument list - if you're running uml_net by\nhand, don't bother.  uml_net is run automatically by UML when\nnecessary.",
        ),
        (
            "5 tuntap up",
            "Version mismatch - requested version 5, uml_net supports up to version 4",
        ),
        (
            "-4 tuntap up",
            "Version mismatch - requested version -4, uml_net supports up to version 4",
        ),
        (
            "4x tuntap up",
            "Version mismatch - requested version 4x, uml_net supports up to version 4",
        ),
        (
            "99999999999 tuntap up",
            "Version mismatch - requested version 99999999999, uml_net supports up to version 4",
        ),
        ("4 \u{1b}foo x", "Unknown transport : '\\x1bfoo'"),
        ("1 tuntap up", "No version #1 handler for 'tuntap'"),
        ("4 tuntap up", "Too few arguments to tuntap_up"),
        ("4 tuntap foo", "Bad tuntap op : 'foo'"),
        ("4 tuntap", "Too few arguments to tuntap"),
        ("4 slip foo", "Bad slip op : 'foo'"),
        ("4 tuntap up 1.2.3", "'1.2.3' is no IPv4 address"),
        ("4 tuntap up 010.0.0.1", "'010.0.0.1' is no IPv4 address"),
        ("4 add tap0 1.2.3.4", "Too few arguments to add"),
        (
            "4 add tap0 1.2.3.4 255.0.255.0",
            "'255.0.255.0' is no netmask",
        ),
        (
            "4 add ../x 1.2.3.4 255.0.0.0",
            "device name '../x' holds '/': '/', ':', '%', white space and control characters are not allowed",
        ),
        ("2 tuntap up x -1 1.2.3.4", "'-1' is no descriptor"),
        (
            "2 tuntap up x 4294967295 1.2.3.4",
            "'4294967295' is no descriptor",
        ),
    ] {
        let error = parse(words).request.unwrap_err();
        assert_eq!(error.to_string(), text, "{words}");
    }
}

#[test]
fn long_arguments_are_shown_short() {
    let words = [OsString::from("4"), OsString::from_vec(vec![b'\n'; 4096])];
    let text = Call::parse(&words).request.unwrap_err().to_string();
    assert!(text.len() < 200 && text.ends_with("...'"), "{text}");
}

#[test]
fn device_names_are_checked() {
    let call = |name: &[u8]| {
        let words = [b"4", b"add".as_slice(), name, b"1.2.3.4", b"255.0.0.0"];
        Call::parse(&words.map(|word| OsString::from_vec(word.to_vec()))).request
    };
    assert!(call(b"abcdefghijklmno").is_ok());
    assert_eq!(
        call(b"abcdefghijklmnop").unwrap_err().to_string(),
        "device name 'abcdefghijklmnop' is 16 bytes long, 15 are allowed"
    );
    assert_eq!(
        call(b"t\xff").unwrap_err().to_string(),
        "'t\\xff' is no device name"
    );
    for name in [b"".as_slice(), b"..", b"a/b", b"%s", b"all", b"a\nb"] {
        assert!(matches!(call(name), Err(BadCall::Device(_))));
    }
}

#[test]
fn netmasks_of_every_length() {
    for length in 0..=32_u32 {
        let bits = u32::MAX.checked_shl(32 - length).unwrap_or(0);
        let words = format!("4 add tap0 1.2.3.4 {}", Ipv4Addr::from_bits(bits));
        assert!(parse(&words).request.is_ok(), "{words}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read(words in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..8)) {
        let words: Vec<OsString> = words.into_iter().map(OsString::from_vec).collect();
        let call = Call::parse(&words);
        if let Err(error) = call.request {
            prop_assert!(!error.to_string().is_empty());
        }
    }

    #[test]
    fn words_of_the_protocol_in_any_order_are_read(
        words in prop::collection::vec(
            prop::sample::select(vec!["0", "1", "2", "3", "4", "tuntap", "slip", "ethertap", "up",
                "down", "add", "del", "tap0", "10.0.0.1", "255.0.0.0", "", "17"]),
            0..8,
        )
    ) {
        let words: Vec<OsString> = words.into_iter().map(OsString::from).collect();
        let _ = Call::parse(&words);
    }
}
