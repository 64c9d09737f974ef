//! A notification from a guest or a watchdog: no panic, and what is accepted comes back from what
//! was written.
#![no_main]

use libfuzzer_sys::fuzz_target;
use uml_core::wire::mconsole::Notification;

fuzz_target!(|datagram: &[u8]| {
    if let Ok(notification) = Notification::decode(datagram) {
        let written = notification.encode();
        let again = Notification::decode(&written).expect("our own notification is one");
        assert_eq!(again.event, notification.event);
        assert!(notification.text.starts_with(again.text));
        // The same with eight bytes of magic number, whatever the upper half holds.
        for upper in [0_u32, u32::MAX, 7] {
            let wide = [&written[..4], &upper.to_ne_bytes(), &written[4..]].concat();
            assert_eq!(Notification::decode(&wide), Ok(again));
        }
    }
});
