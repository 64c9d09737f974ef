//! The answers of each version, byte for byte.

use std::fs::{self, File};

use crate::kit::{As, Kit, Out, Snapshot, Stub, close, on_a_host, owner, set_sysctl, sysctl};
use testkit::netns::ip;

const UP: &str = "* ip tuntap add dev tap0 mode tap user 65534\n\
                  * ip link set dev tap0 alias uml_net:65534\n\
                  * ip addr add 192.168.78.254/32 dev tap0\n\
                  * ip link set dev tap0 up\n\
                  * sysctl -w net.ipv4.ip_forward=1\n\0";

fn counted(text: &str) -> Vec<u8> {
    let mut bytes = u32::try_from(text.len()).unwrap().to_ne_bytes().to_vec();
    bytes.extend(text.as_bytes());
    bytes
}

#[test]
fn a_tap_in_version_4() {
    on_a_host(|kit| {
        let called = kit.call(As::Setuid, Out::Datagrams, "4 tuntap up 192.168.78.254");
        assert_eq!(
            called.messages,
            [[b"tap0\0\0\0\0\0\0\0\0\0\0\0\0", UP.as_bytes()].concat()]
        );
        assert_eq!((called.code, called.stderr.as_str()), (0, ""));
        assert_eq!(called.descriptors.len(), 1);
        assert!(ip("-d link show tap0").contains("tun type tap pi off vnet_hdr off persist off"));
        assert_eq!(owner("tap0"), "65534");
        assert!(ip("link show tap0").contains("UP"));
        assert!(ip("addr show tap0").contains("inet 192.168.78.254/32"));
        assert_eq!(sysctl("ip_forward"), "1");
        // The descriptor is the tap's, and the only one: the device goes with it.
        close([called]);
    });
}

#[test]
fn a_tap_in_version_3() {
    on_a_host(|kit| {
        let called = kit.call(As::Setuid, Out::Datagrams, "3 tuntap up x 192.168.78.254");
        let tap = [b"tap0\0\0\0\0\0\0\0\0\0\0\0\0", UP.as_bytes()].concat();
        assert_eq!(called.messages, [tap, vec![0; 4]]);
        assert_eq!((called.code, called.descriptors.len()), (0, 1));
    });
}

#[test]
fn a_tap_in_version_2_goes_to_the_descriptor_that_is_named() {
    on_a_host(|kit| {
        let words: Vec<&[u8]> = vec![b"2", b"tuntap", b"up", b"x", b"7", b"192.168.78.254"];
        let called = kit.call_with(As::Setuid, Out::Datagrams, "exec 7>&1 >/dev/null;", &words);
        assert_eq!(
            called.messages,
            [[b"tap0\0\0\0\0\0\0\0\0\0\0\0\0", UP.as_bytes()].concat()]
        );
        assert_eq!((called.code, called.descriptors.len()), (0, 1));
        close([called]);
        let words: Vec<&[u8]> = vec![b"2", b"tuntap", b"up", b"x", b"7", b"8.8.8.8"];
        let called = kit.call_with(As::Setuid, Out::Datagrams, "exec 7>&1 >/dev/null;", &words);
        assert!(
            called
                .text()
                .contains("uml_net: 8.8.8.8 is neither a private address")
        );
        assert_eq!((called.code, called.descriptors.len()), (1, 0));
    });
}

#[test]
fn a_failed_tap_is_a_text_alone() {
    on_a_host(|kit| {
        let text = b"uml_net: 127.0.0.1 is a loopback address\n\0";
        let called = kit.call(As::Setuid, Out::Datagrams, "4 tuntap up 127.0.0.1");
        assert_eq!(called.messages, [text.to_vec()]);
        assert_eq!((called.code, called.descriptors.len()), (1, 0));
        let called = kit.call(As::Setuid, Out::Datagrams, "3 tuntap up x 127.0.0.1");
        assert_eq!(called.messages, [text.to_vec(), vec![0; 4]]);
        let called = kit.call(As::Setuid, Out::Datagrams, "4 tuntap up");
        assert_eq!(called.messages, [b"Too few arguments to tuntap_up\n\0"]);
    });
}

#[test]
fn no_tun_driver_is_told() {
    on_a_host(|kit| {
        fs::remove_file("/dev/net/tun").unwrap();
        let before = Snapshot::take();
        let called = kit.call(As::Setuid, Out::Datagrams, "4 tuntap up 192.168.78.254");
        assert_eq!(
            called.text(),
            "uml_net: opening '/dev/net/tun': No such file or directory (is the tun module there? \
             in a container, is the device let in?)\n"
        );
        assert_eq!(called.code, 1);
        before.assert_holds("");
    });
}

fn add_and_delete(kit: &Kit, add: &str, delete: &str) {
    let before = Snapshot::take();
    let called = kit.call(As::Setuid, Out::Stream, add);
    let text = "* sysctl -w net.ipv4.ip_forward=1\n\
                * ip route add 192.0.2.99/32 dev mine\n\
                * sysctl -w net.ipv4.conf.mine.proxy_arp=1\n\
                * ip neigh add proxy 192.0.2.99 dev eth0\n\0";
    assert_eq!(called.messages, [counted(text)]);
    assert_eq!((called.code, called.stderr.as_str()), (0, ""));
    assert!(ip("route show").contains("192.0.2.99 dev mine proto 117 scope link"));
    assert_eq!(
        ip("neigh show proxy").trim(),
        "192.0.2.99 dev eth0 proxy proto 117"
    );
    assert_eq!(sysctl("conf/mine/proxy_arp"), "1");
    assert_eq!(sysctl("ip_forward"), "1");
    let called = kit.call(As::Setuid, Out::Stream, delete);
    let text = "* ip neigh del proxy 192.0.2.99 dev eth0\n\
                * ip route del 192.0.2.99/32 dev mine\n\
                * sysctl -w net.ipv4.conf.mine.proxy_arp=0\n\
                * sysctl -w net.ipv4.ip_forward=0\n\0";
    assert_eq!(called.messages, [counted(text)]);
    assert_eq!((called.code, called.stderr.as_str()), (0, ""));
    before.assert_holds("");
}

#[test]
fn addresses_in_versions_3_and_4() {
    on_a_host(|kit| {
        add_and_delete(
            kit,
            "4 add mine 192.0.2.99 255.255.255.0",
            "4 del mine 192.0.2.99 255.255.255.0",
        );
        add_and_delete(
            kit,
            "4 tuntap add mine 192.0.2.99 255.255.255.0",
            "4 tuntap del mine 192.0.2.99 255.255.255.0",
        );
        add_and_delete(
            kit,
            "3 tuntap add mine 192.0.2.99",
            "3 tuntap del mine 192.0.2.99",
        );
    });
}

#[test]
fn addresses_in_version_2_have_no_answer_but_errors() {
    on_a_host(|kit| {
        let before = Snapshot::take();
        let called = kit.call(As::Setuid, Out::Stream, "2 tuntap add x mine 192.0.2.99");
        assert_eq!(
            (called.messages.len(), called.code, called.stderr.as_str()),
            (0, 0, "")
        );
        assert!(ip("route show").contains("192.0.2.99 dev mine"));
        let called = kit.call(As::Setuid, Out::Stream, "2 tuntap del x mine 192.0.2.99");
        assert_eq!((called.messages.len(), called.code), (0, 0));
        before.assert_holds("");
        let called = kit.call(As::Setuid, Out::Stream, "2 tuntap add x theirs 192.0.2.99");
        assert_eq!((called.messages.len(), called.code), (0, 1));
        assert_eq!(
            called.stderr,
            "uml_net: theirs is no tap device of uid 65534\n"
        );
    });
}

#[test]
fn the_netmask_tells_on_which_cards_the_host_answers() {
    on_a_host(|kit| {
        ip("addr add 10.8.0.1/16 dev theirs");
        // The route to 10.8.0.0/16 begins in another network by this mask.
        let _ = kit.call(As::Setuid, Out::Stream, "4 add mine 10.8.5.2 255.255.255.0");
        assert_eq!(ip("neigh show proxy"), "");
        let _ = kit.call(As::Setuid, Out::Stream, "4 del mine 10.8.5.2 255.255.255.0");
        let _ = kit.call(As::Setuid, Out::Stream, "4 add mine 10.8.5.2 255.255.0.0");
        assert_eq!(
            ip("neigh show proxy").trim(),
            "10.8.5.2 dev theirs proxy proto 117"
        );
    });
}

#[test]
fn slip_in_each_version() {
    on_a_host(|kit| {
        let not =
            |number| format!("uml_net: descriptor {number} is no terminal of the caller's\n\0");
        for args in ["4 slip up 10.0.0.1", "4 slip down", "4 slip down eth0"] {
            let called = kit.call(As::Setuid, Out::Stream, args);
            assert_eq!(called.messages, [counted(&not(0))], "{args}");
            assert_eq!((called.code, called.stderr.as_str()), (1, ""));
        }
        let words = |text: &'static str| text.split(' ').map(str::as_bytes).collect::<Vec<_>>();
        let seven = "exec 7</dev/null;";
        for args in ["3 slip up 7 10.0.0.1", "3 slip down 7"] {
            let called = kit.call_with(As::Setuid, Out::Stream, seven, &words(args));
            assert_eq!(called.messages, [counted(&not(7))], "{args}");
        }
        for args in ["2 slip up 7 10.0.0.1", "slip down 7", "0 slip down 7"] {
            let called = kit.call_with(As::Setuid, Out::Stream, seven, &words(args));
            assert_eq!((called.messages.len(), called.code), (0, 1), "{args}");
            assert_eq!(called.stderr, not(7).trim_end_matches('\0'));
        }
        let called = kit.call(As::Setuid, Out::Stream, "3 slip up 7 10.0.0.1");
        assert_eq!(
            called.messages,
            [counted("uml_net: descriptor 7: Bad file descriptor\n\0")]
        );
    });
}

#[test]
fn a_line_on_a_standard_descriptor_is_that_descriptor() {
    on_a_host(|kit| {
        let terminal = File::options()
            .read(true)
            .write(true)
            .open("/dev/ptmx")
            .unwrap();
        for (number, text) in [
            ("0", "uml_net: descriptor 0 is no SLIP line\n"),
            // Standard error, a pipe here.
            (
                "2",
                "uml_net: descriptor 2 is no terminal of the caller's\n",
            ),
        ] {
            let mut command =
                kit.command(As::Root, "", &[b"2", b"slip", b"down", number.as_bytes()]);
            command.stdin(terminal.try_clone().unwrap());
            let called = Stub::start(command, Out::Stream).finish();
            assert_eq!((called.stderr.as_str(), called.code), (text, 1));
        }
    });
}

#[test]
fn a_terminal_becomes_a_slip_line_or_the_kernel_says_why_not() {
    on_a_host(|kit| {
        let before = Snapshot::take();
        let master = File::options()
            .read(true)
            .write(true)
            .open("/dev/ptmx")
            .unwrap();
        let called = {
            let mut command = kit.command(As::Root, "", &[b"4", b"slip", b"up", b"192.168.78.254"]);
            command.stdin(master.try_clone().unwrap());
            Stub::start(command, Out::Stream).finish()
        };
        let text = called.text();
        if called.code == 0 {
            assert!(
                text.contains("* ip addr add 192.168.78.254/32 dev sl"),
                "{text}"
            );
            assert!(text.contains("mtu 1500 up"), "{text}");
        } else {
            // This kernel has no SLIP.
            assert_eq!(
                text,
                "uml_net: Setting slip line discipline: Invalid argument (has the kernel the slip \
                 module?)\n"
            );
            before.assert_holds("");
        }
        let mut command = kit.command(As::Root, "", &[b"4", b"slip", b"down"]);
        command.stdin(master);
        let down = Stub::start(command, Out::Stream).finish();
        if called.code == 0 {
            assert_eq!(down.code, 0, "{down:?}");
        } else {
            assert_eq!(down.text(), "uml_net: descriptor 0 is no SLIP line\n");
        }
    });
}

#[test]
fn ethertap_in_each_version() {
    on_a_host(|kit| {
        let text =
            "ethertap: no kernel since 2.6 has the ethertap driver; use eth0=tuntap,,,ADDRESS\n\0";
        let counted = [vec![0], counted(text)].concat();
        for args in ["4 ethertap tap0 7 10.0.0.1", "3 ethertap tap0 7"] {
            let called = kit.call(As::Setuid, Out::Stream, args);
            assert_eq!(called.messages, std::slice::from_ref(&counted), "{args}");
            assert_eq!(called.code, 1);
        }
        for args in ["2 ethertap tap0 6 7 10.0.0.1", "1 ethertap tap0 6 7"] {
            let words: Vec<&[u8]> = args.split(' ').map(str::as_bytes).collect();
            let called = kit.call_with(As::Setuid, Out::Stream, "exec 7>&1 >/dev/null;", &words);
            assert_eq!(called.messages, [[0]], "{args}");
            assert_eq!(called.stderr, text.trim_end_matches('\0'));
        }
        let called = kit.call(As::Setuid, Out::Stream, "ethertap tap0 7 10.0.0.1");
        assert_eq!((called.messages.len(), called.code), (0, 1));
        assert_eq!(called.stderr, text.trim_end_matches('\0'));
    });
}

#[test]
fn what_no_version_has_is_answered_in_the_readers_way() {
    on_a_host(|kit| {
        for (args, text) in [
            (
                "5 tuntap up",
                "Version mismatch - requested version 5, uml_net supports up to version 4\n",
            ),
            ("4 foo", "Unknown transport : 'foo'\n"),
            ("1 tuntap up", "No version #1 handler for 'tuntap'\n"),
            ("tuntap up", "No version #0 handler for 'tuntap'\n"),
            ("3 add mine 192.0.2.99", "No version #3 handler for 'add'\n"),
            ("4 tuntap down", "Bad tuntap op : 'down'\n"),
        ] {
            let ended = format!("{text}\0");
            let called = kit.call(As::Setuid, Out::Datagrams, args);
            assert_eq!(called.messages, [ended.as_bytes()], "{args}");
            assert_eq!((called.code, called.stderr.as_str()), (1, text));
            let called = kit.call(As::Setuid, Out::Stream, args);
            assert_eq!(called.messages, [counted(&ended)], "{args}");
            assert_eq!((called.code, called.stderr.as_str()), (1, text));
        }
    });
}

#[test]
fn forwarding_that_is_on_already_is_no_change() {
    on_a_host(|kit| {
        set_sysctl("ip_forward", "1");
        let before = Snapshot::take();
        let called = kit.call(As::Setuid, Out::Datagrams, "4 tuntap up 192.168.78.254");
        assert_eq!(
            called.text(),
            "* ip tuntap add dev tap0 mode tap user 65534\n\
             * ip link set dev tap0 alias uml_net:65534\n\
             * ip addr add 192.168.78.254/32 dev tap0\n\
             * ip link set dev tap0 up\n"
        );
        close([called]);
        let _ = kit.call(As::Setuid, Out::Stream, "4 del mine 10.0.0.1 255.0.0.0");
        before.assert_holds("");
    });
}
