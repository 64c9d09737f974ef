//! The arguments of the network helper, which runs with privilege for anybody: words that end at NUL
//! bytes, as `/proc/PID/cmdline` has them. What is understood is one of the calls of the protocol's
//! table, and comes back from its own words; what isn't is told in a short text without control
//! characters. The people's options are read too.
#![no_main]

use std::{ffi::OsString, os::unix::ffi::OsStringExt as _};

use libfuzzer_sys::fuzz_target;
use uml_net::{
    args::{BadCall, Call, GuestAddress, Reply, Request},
    cli::{self, Cli},
};

fuzz_target!(|bytes: &[u8]| {
    let bytes = bytes.strip_suffix(b"\0").unwrap_or(bytes);
    let words: Vec<OsString> = bytes
        .split(|byte| *byte == 0)
        .map(|word| OsString::from_vec(word.to_vec()))
        .collect();
    if cli::is_for_people(&words) {
        let program = OsString::from("uml_net");
        // A wrong option is an error, not a panic.
        let _ = uml_core::cli::command::<Cli>()
            .try_get_matches_from([program].into_iter().chain(words.iter().cloned()));
    }
    let call = Call::parse(&words);
    assert_eq!(call, Call::parse(&words));
    assert!(call.descriptor().is_none_or(|number| number > 2));
    match &call.request {
        Ok(request) => {
            let written = write(call.reply, request);
            let again: Vec<OsString> = written.split(' ').map(OsString::from).collect();
            assert_eq!(Call::parse(&again), call, "{written}");
        }
        Err(error) => {
            let text = error.to_string();
            assert!(!text.is_empty() && text.len() < 400, "{text}");
            let multi_line = *error == BadCall::TooShort;
            assert!(
                text.chars()
                    .all(|c| !c.is_control() || (c == '\n' && multi_line)),
                "{text:?}"
            );
        }
    }
});

/// The words of a call, in the version that answers so.
fn write(reply: Reply, request: &Request) -> String {
    match (reply, request) {
        (Reply::Message(1), Request::TapUp { gate }) => format!("4 tuntap up {gate}"),
        (Reply::Message(number), Request::TapUp { gate }) => {
            format!("2 tuntap up x {number} {gate}")
        }
        (Reply::MessageThenCount, Request::TapUp { gate }) => format!("3 tuntap up x {gate}"),
        (_, Request::Add(guest)) => write_address(reply, "add", guest),
        (_, Request::Delete(guest)) => write_address(reply, "del", guest),
        (Reply::Counted, Request::SlipUp { line, gate }) => format!("3 slip up {line} {gate}"),
        (Reply::Errors, Request::SlipUp { line, gate }) => format!("slip up {line} {gate}"),
        (Reply::Counted, Request::SlipDown { line }) => format!("3 slip down {line}"),
        (Reply::Errors, Request::SlipDown { line }) => format!("slip down {line}"),
        _ => panic!("not in the protocol: {request:?} answered by {reply:?}"),
    }
}

fn write_address(reply: Reply, op: &str, guest: &GuestAddress) -> String {
    let GuestAddress {
        device, address, ..
    } = guest;
    match (reply, guest.netmask) {
        (Reply::Counted, Some(netmask)) => format!("4 {op} {device} {address} {netmask}"),
        (Reply::Counted, None) => format!("3 tuntap {op} {device} {address}"),
        (Reply::Errors, None) => format!("2 tuntap {op} x {device} {address}"),
        _ => panic!("not in the protocol: {op} {guest:?} answered by {reply:?}"),
    }
}
