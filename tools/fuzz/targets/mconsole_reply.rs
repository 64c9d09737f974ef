//! A guest's reply, and a client's request: no panic, and what is accepted comes back from what was
//! written.
#![no_main]

use libfuzzer_sys::fuzz_target;
use uml_core::wire::mconsole::{Piece, Request};

fuzz_target!(|datagram: &[u8]| {
    let more = datagram.get(4..8).map(|word| word == 1_u32.to_ne_bytes());
    let is_piece = datagram.len() >= 12 && (more == Some(true) || datagram[4..8] == [0; 4]);
    assert_eq!(Piece::decode(datagram).is_some(), is_piece);
    if let Some(piece) = Piece::decode(datagram) {
        assert_eq!(Some(piece.more), more);
        let end = piece.text.len() + 12;
        assert_eq!(&datagram[12..end], piece.text);
        assert!(datagram.get(end).is_none_or(|byte| *byte == 0));
        let written = piece.encode();
        let again = Piece::decode(&written).expect("our own reply is one");
        assert_eq!((again.err, again.more), (piece.err, piece.more));
        assert!(piece.text.starts_with(again.text));
    }
    if let Ok(request) = Request::decode(datagram) {
        let again = Request::decode(&request.encode()).expect("our own request is one");
        assert_eq!(again.command(), request.command());
    }
});
