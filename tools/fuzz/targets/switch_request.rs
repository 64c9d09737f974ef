//! What a client says on the switch's control socket: the answer is the same however the bytes come
//! in pieces, and no byte more is needed for it than the request has; what is accepted is written
//! again and read back; the switch's own reader, behind a real connection, says the same.
#![no_main]

use std::{io::Write as _, os::unix::net::UnixStream, time::Duration};

use libfuzzer_sys::fuzz_target;
use uml_core::wire::switch::{MAGIC, Oldest, Progress, Request, RequestError, Version};
use uml_switch::callers::{Callers, Dialect, Peer, Said};

/// How much of what a client says is read at all.
const READ: usize = 512;

fuzz_target!(|sent: &[u8]| {
    let sent = sent.get(..2 * READ).unwrap_or(sent);
    let mut answers = Vec::new();
    for oldest in [Oldest::V0, Oldest::V1] {
        let answer = pieces(sent, oldest);
        if let Some((_, Ok((request, used)))) = &answer {
            written_again(sent, request, *used);
        }
        listen(sent, oldest, answer.as_ref());
        answers.push(answer);
    }
    // Whether version 0 is taken makes no difference to the others.
    if sent.starts_with(&MAGIC.to_ne_bytes()) {
        assert_eq!(answers[0], answers[1]);
    }
});

type Answer = Result<(Request, usize), RequestError>;

/// The answer, and after how many bytes it was there: at every later byte it is the same.
fn pieces(sent: &[u8], oldest: Oldest) -> Option<(usize, Answer)> {
    let mut first: Option<(usize, Answer)> = None;
    for length in 0..=sent.len().min(READ) {
        let answer = match Request::decode(&sent[..length], oldest) {
            Ok(Progress::Partial) => {
                assert!(first.is_none(), "an answer that was taken back");
                continue;
            }
            Ok(Progress::Complete(request, used)) => Ok((request, used)),
            Err(error) => Err(error),
        };
        match &first {
            Some((_, before)) => assert_eq!(*before, answer),
            None => first = Some((length, answer)),
        }
    }
    if let Some((length, Ok((request, used)))) = &first {
        assert_eq!(length, used, "a request that waits for bytes behind it");
        assert!(oldest == Oldest::V0 || request.version != Version::V0);
    }
    first
}

fn written_again(sent: &[u8], request: &Request, used: usize) {
    let written = request.encode();
    assert_eq!(written[..used], sent[..used]);
    for text in [b"".as_slice(), b"user=me", &[0xff; 600]] {
        let with_text = [&written[..used], text].concat();
        assert_eq!(
            Request::decode(&with_text, Oldest::V0),
            Ok(Progress::Complete(*request, used))
        );
    }
    let address = request.address.to_string();
    assert!(!address.chars().any(char::is_control), "{address:?}");
}

/// The same through the switch's own reader, in pieces as long as the last byte says.
fn listen(sent: &[u8], oldest: Oldest, expected: Option<&(usize, Answer)>) {
    let length = sent.last().map_or(1, |byte| usize::from(byte % 128) + 1);
    for length in [READ * 2, length] {
        let (mut client, there) = UnixStream::pair().expect("a connection");
        there.set_nonblocking(true).expect("one that doesn't wait");
        let mut callers = Callers::default();
        let peer = Peer {
            pid: 1,
            uid: 1,
            gid: 1,
        };
        let (slot, generation) = callers.add(there, Dialect::Guest, peer, Duration::ZERO);
        let caller = callers.get_mut(slot, generation).expect("the caller");
        let mut said = Said::Partial;
        for piece in sent.chunks(length) {
            client.write_all(piece).expect("room for a piece");
            said = caller.listen(oldest);
            if !matches!(said, Said::Partial) {
                break;
            }
        }
        match (said, expected) {
            (Said::Partial, None) => {
                drop(client);
                assert!(matches!(caller.listen(oldest), Said::End));
            }
            (Said::Request(request, text), Some((_, Ok((wanted, used))))) => {
                assert_eq!(request, *wanted);
                assert!(sent[*used..].starts_with(&text));
                assert!(used + text.len() <= READ);
            }
            (Said::Rubbish(error), Some((_, Err(wanted)))) => assert_eq!(error, *wanted),
            (said, expected) => panic!("{said:?} instead of {expected:?}"),
        }
    }
}
