//! A guest's reply, and a client's request: no panic, and what is accepted comes back from what was
//! written.
#![no_main]

use libfuzzer_sys::fuzz_target;
use uml_core::wire::mconsole::{Piece, Request};

fuzz_target!(|datagram: &[u8]| {
    if let Some(piece) = Piece::decode(datagram) {
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
