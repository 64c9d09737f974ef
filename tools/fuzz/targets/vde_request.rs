//! What VDE's clients say beyond a guest: the port that they wish for, in the request's type, and a
//! text behind it. A wish comes back from its own type; the text is shown on one line, without any
//! power over a terminal, and no further than its end.
#![no_main]

use libfuzzer_sys::fuzz_target;
use uml_core::wire::{
    switch::{Oldest, Progress, Request},
    vde::{MAX_DESCRIPTION, Wish, description},
};

fuzz_target!(|sent: &[u8]| {
    let (kind, text) = match Request::decode(sent, Oldest::V1) {
        Ok(Progress::Complete(request, used)) => (request.kind, &sent[used..]),
        // No request: the bytes are a type and a text all the same.
        _ => match sent.split_first_chunk::<4>() {
            Some((kind, text)) => (u32::from_ne_bytes(*kind), text),
            None => (0, sent),
        },
    };
    wish(kind);
    shown(text);
});

fn wish(kind: u32) {
    let wish = Wish::from_kind(kind);
    assert_eq!(Wish::from_kind(wish.to_kind()), wish);
    match wish {
        Wish::Any => assert_eq!(kind, 0),
        Wish::Port(number) => {
            assert!((1..1 << 24).contains(&number));
            assert_eq!(wish.to_kind(), kind);
        }
        Wish::Port0 => assert_eq!(kind & 0xff, 1),
        Wish::Unknown(unknown) => assert_eq!(unknown, kind),
    }
}

fn shown(text: &[u8]) {
    let shown = description(text);
    assert!(shown.len() <= 4 * MAX_DESCRIPTION);
    assert!(shown.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
    let end = |byte: &u8| matches!(byte, 0 | b'\n' | b'\r');
    let line = text.split(end).next().unwrap_or_default();
    let kept = line.get(..MAX_DESCRIPTION).unwrap_or(line);
    assert_eq!(shown, kept.escape_ascii().to_string());
    for behind in [b"\0more".as_slice(), b"\nmore", b"\r"] {
        assert_eq!(description(&[line, behind].concat()), shown);
    }
}
