use proptest::prelude::*;

use super::*;

/// The bytes of 32-bit numbers in the host's order.
fn words(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|n| n.to_ne_bytes()).collect()
}

#[test]
fn a_request_has_its_numbers_its_text_and_zeros() {
    let bytes = Request::new(b"version").unwrap().encode();
    let mut expected = words(&[0xcafe_babe, 2, 7]);
    expected.extend(b"version");
    expected.resize(524, 0);
    assert_eq!(bytes.as_slice(), expected);
}

#[test]
fn the_longest_command_keeps_its_nul() {
    let bytes = Request::new(&[b'a'; 511]).unwrap().encode();
    assert_eq!(bytes[8..12], 511_u32.to_ne_bytes());
    assert_eq!(bytes[522..], [b'a', 0]);
    assert_eq!(
        Request::new(&[b'a'; 512]),
        Err(CommandError::TooLong { found: 512 })
    );
}

#[test]
fn a_nul_in_a_command_is_refused() {
    assert_eq!(
        Request::new(b"log a\0b"),
        Err(CommandError::HoldsNul { at: 5 })
    );
}

#[test]
fn requests_that_are_none_say_why() {
    assert_eq!(
        Request::decode(b"short"),
        Err(RequestError::Truncated { need: 12, found: 5 })
    );
    assert_eq!(
        Request::decode(&words(&[1, 2, 0])),
        Err(RequestError::BadMagic { found: 1 })
    );
    assert_eq!(
        Request::decode(&words(&[MAGIC, 1, 0])),
        Err(RequestError::BadVersion { found: 1 })
    );
    assert_eq!(
        Request::decode(&words(&[MAGIC, 2, 512])),
        Err(CommandError::TooLong { found: 512 }.into())
    );
    assert_eq!(
        Request::decode(&words(&[MAGIC, 2, 1])),
        Err(RequestError::Truncated {
            need: 13,
            found: 12
        })
    );
}

#[test]
fn a_piece_is_read_up_to_its_nul_whatever_its_length_says() {
    for len in [0, 3, 4, 9999, u32::MAX] {
        let mut bytes = words(&[0, 0, len]);
        bytes.extend(b"abc\0");
        let piece = Piece::decode(&bytes).unwrap();
        assert_eq!((piece.err, piece.more, piece.text), (0, false, &b"abc"[..]));
    }
    let mut bytes = words(&[0xffff_ffed, 1, 3]);
    bytes.extend(b"abc");
    let piece = Piece::decode(&bytes).unwrap();
    assert_eq!(
        (piece.err, piece.more, piece.text),
        (4_294_967_277, true, &b"abc"[..])
    );
    assert_eq!(Piece::decode(&words(&[0, 0, 0])).unwrap().text, b"");
}

#[test]
fn plain_text_is_no_piece() {
    assert_eq!(Piece::decode(b""), None);
    assert_eq!(Piece::decode(b"hi"), None);
    assert_eq!(
        Piece::decode(b"ERR Version 1 mconsole clients are not supported\n"),
        None
    );
}

#[test]
fn a_notification_of_16_bytes_and_text_is_read() {
    let mut bytes = words(&[MAGIC, 2, 0, 20]);
    bytes.extend(b"/root/.uml/x/mconsole");
    let read = Notification::decode(&bytes).unwrap();
    assert_eq!(read.event, Event::Boot);
    assert_eq!(read.text, b"/root/.uml/x/mconsol", "the length counts");
}

#[test]
fn a_notification_with_eight_bytes_of_magic_is_read() {
    for upper_half in [0, u32::MAX] {
        let bare = words(&[MAGIC, upper_half, 2, 2, 0, 0]);
        let read = Notification::decode(&bare).unwrap();
        assert_eq!((read.event, read.text), (Event::Hang, &b""[..]));
        let mut with_text = words(&[MAGIC, upper_half, 2, 3, 2]);
        with_text.extend(b"hi");
        let read = Notification::decode(&with_text).unwrap();
        assert_eq!((read.event, read.text), (Event::Message, &b"hi"[..]));
    }
}

#[test]
fn notifications_that_are_none_say_why() {
    assert_eq!(
        Notification::decode(b"abc"),
        Err(NotificationError::Truncated { found: 3 })
    );
    assert_eq!(
        Notification::decode(&words(&[1, 2, 0, 0])),
        Err(NotificationError::BadMagic { found: 1 })
    );
    assert_eq!(
        Notification::decode(&words(&[MAGIC, 3, 0, 0])),
        Err(NotificationError::BadVersion { found: 3 })
    );
    assert_eq!(
        Notification::decode(&words(&[MAGIC, 2, 0])),
        Err(NotificationError::Truncated { found: 12 })
    );
}

proptest! {
    #[test]
    fn requests_survive_the_wire(command in prop::collection::vec(1_u8.., 0..=MAX_COMMAND)) {
        let request = Request::new(&command).unwrap();
        prop_assert_eq!(Request::decode(&request.encode()), Ok(request));
    }

    #[test]
    fn pieces_survive_the_wire(
        err: u32,
        more: bool,
        text in prop::collection::vec(1_u8.., 0..=MAX_COMMAND),
    ) {
        let piece = Piece { err, more, text: &text };
        let datagram = piece.encode();
        prop_assert_eq!(Piece::decode(&datagram), Some(piece));
    }

    #[test]
    fn notifications_survive_the_wire(
        number: u32,
        text in prop::collection::vec(1_u8.., 0..=MAX_COMMAND),
    ) {
        let sent = Notification { event: Event::from(number), text: &text };
        prop_assert_eq!(sent.event.number(), number);
        let datagram = sent.encode();
        prop_assert_eq!(Notification::decode(&datagram), Ok(sent));
    }

    #[test]
    fn no_datagram_panics(bytes in prop::collection::vec(any::<u8>(), 0..700), start in 0..3_usize) {
        let numbers = [vec![], words(&[MAGIC, 2]), words(&[MAGIC, 0, 2])];
        let datagram = [numbers[start].clone(), bytes].concat();
        let _ = Request::decode(&datagram);
        let _ = Notification::decode(&datagram);
        if let Some(piece) = Piece::decode(&datagram) {
            prop_assert!(piece.text.len() + PIECE_HEADER_LEN <= datagram.len());
            prop_assert!(!piece.text.contains(&0));
        }
    }
}
