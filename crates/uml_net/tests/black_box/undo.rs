//! What is undone, when, and what isn't.

use testkit::netns::ip;

use crate::kit::{As, Out, Snapshot, close, on_a_host, set_sysctl, sysctl};

const ADD: &str = "4 add mine 192.0.2.99 255.255.255.0";
const DELETE: &str = "4 del mine 192.0.2.99 255.255.255.0";

#[test]
fn what_was_there_before_stays() {
    on_a_host(|kit| {
        ip("route add 192.0.2.99/32 dev mine");
        ip("neigh add proxy 192.0.2.99 dev eth0");
        set_sysctl("conf/mine/proxy_arp", "1");
        set_sysctl("ip_forward", "1");
        let before = Snapshot::take();
        let added = kit.call(As::Setuid, Out::Stream, ADD);
        assert_eq!((added.text().as_str(), added.code), ("", 0));
        let deleted = kit.call(As::Setuid, Out::Stream, DELETE);
        assert_eq!(
            deleted.text(),
            "uml_net: 192.0.2.99 was not added to mine by uml_net: it stays as it is\n"
        );
        assert_eq!(deleted.code, 0);
        before.assert_holds("");
    });
}

#[test]
fn what_was_there_in_part_stays_in_part() {
    on_a_host(|kit| {
        ip("route add 192.0.2.99/32 dev mine");
        let before = Snapshot::take();
        let added = kit.call(As::Setuid, Out::Stream, ADD);
        assert_eq!(added.code, 0);
        // The next call of anybody doesn't take the proxy entry for a dead guest's.
        let _ = kit.call(As::Setuid, Out::Stream, "4 del mine 10.0.0.1 255.0.0.0");
        assert!(ip("neigh show proxy").contains("192.0.2.99 dev eth0"));
        let _ = kit.call(As::Setuid, Out::Stream, DELETE);
        before.assert_holds("");
    });
}

#[test]
fn adding_twice_is_adding_once() {
    on_a_host(|kit| {
        let before = Snapshot::take();
        let _ = kit.call(As::Setuid, Out::Stream, ADD);
        let added = Snapshot::take();
        let again = kit.call(As::Setuid, Out::Stream, ADD);
        assert_eq!((again.text().as_str(), again.code), ("", 0));
        added.assert_holds("");
        let _ = kit.call(As::Setuid, Out::Stream, DELETE);
        before.assert_holds("");
    });
}

#[test]
fn settings_that_change_along_with_forwarding_go_back_too() {
    on_a_host(|kit| {
        // A host that takes no redirects must not begin to when the last guest is gone.
        set_sysctl("conf/all/accept_redirects", "0");
        set_sysctl("conf/theirs/forwarding", "1");
        let before = Snapshot::take();
        let _ = kit.call(As::Setuid, Out::Stream, ADD);
        assert_eq!(sysctl("ip_forward"), "1");
        let _ = kit.call(As::Setuid, Out::Stream, DELETE);
        before.assert_holds("");
    });
}

#[test]
fn forwarding_stays_until_the_last_guest_is_gone() {
    on_a_host(|kit| {
        let before = Snapshot::take();
        let first = kit.call(As::Setuid, Out::Datagrams, "4 tuntap up 192.168.78.254");
        let second = kit.call(As::Setuid, Out::Datagrams, "4 tuntap up 192.168.78.254");
        assert_eq!((first.code, second.code), (0, 0));
        let add = |device: &str, address: &str| {
            let args = format!("4 add {device} {address} 255.255.255.0");
            kit.call(As::Setuid, Out::Stream, &args)
        };
        let delete = |device: &str, address: &str| {
            let args = format!("4 del {device} {address} 255.255.255.0");
            kit.call(As::Setuid, Out::Stream, &args)
        };
        for (device, address) in [
            ("tap0", "192.168.78.1"),
            ("tap0", "192.0.2.98"),
            ("tap1", "192.168.78.2"),
        ] {
            assert_eq!(add(device, address).code, 0);
        }
        // Somebody else's guest has that one.
        assert_eq!(
            add("tap1", "192.168.78.1").text(),
            "uml_net: 192.168.78.1 has a route by another device\n"
        );
        assert_eq!(delete("tap0", "192.168.78.1").code, 0);
        assert_eq!(sysctl("conf/tap0/proxy_arp"), "1");
        assert_eq!(delete("tap0", "192.0.2.98").code, 0);
        assert_eq!(sysctl("conf/tap0/proxy_arp"), "0");
        assert_eq!(sysctl("ip_forward"), "1");
        assert_eq!(delete("tap1", "192.168.78.2").code, 0);
        assert_eq!(sysctl("ip_forward"), "0");
        // A guest that gets an address again needs it again.
        assert_eq!(add("tap1", "192.168.78.2").code, 0);
        assert_eq!(sysctl("ip_forward"), "1");
        // It is killed with its address: the next call finds what it left, and only that.
        close([second]);
        let _ = kit.call(As::Setuid, Out::Stream, "4 del mine 10.0.0.1 255.0.0.0");
        assert_eq!(sysctl("ip_forward"), "0");
        close([first]);
        before.assert_holds("");
    });
}

#[test]
fn a_dead_guests_proxy_entries_go_with_the_next_call() {
    on_a_host(|kit| {
        let before = Snapshot::take();
        let guest = kit.call(As::Setuid, Out::Datagrams, "4 tuntap up 192.168.78.254");
        let _ = kit.call(
            As::Setuid,
            Out::Stream,
            "4 add tap0 192.0.2.99 255.255.255.0",
        );
        close([guest]);
        assert!(ip("neigh show proxy").contains("192.0.2.99 dev eth0"));
        let mut command = kit.command(As::Setuid, "", &[b"--clean"]);
        let finished = testkit::cmd::run(&mut command).success();
        assert_eq!(
            finished.out(),
            "* ip neigh del proxy 192.0.2.99 dev eth0\n* sysctl -w net.ipv4.ip_forward=0\n"
        );
        before.assert_holds("");
        assert_eq!(testkit::cmd::run(&mut command).success().out(), "");
    });
}

#[test]
fn state_of_an_earlier_boot_does_not_count() {
    on_a_host(|kit| {
        let guest = kit.call(As::Setuid, Out::Datagrams, "4 tuntap up 192.168.78.254");
        let file = std::fs::read_dir("/run/uml_net")
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .find(|path| path.to_string_lossy().contains("net-"))
            .unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
        std::fs::write(&file, text.replace(boot.trim(), "another")).unwrap();
        close([guest]);
        let mut command = kit.command(As::Setuid, "", &[b"--clean"]);
        let _ = testkit::cmd::run(&mut command).success();
        // Somebody has switched it on since that boot, for all that can be known.
        assert_eq!(sysctl("ip_forward"), "1");
        // Rubbish in its place is no reason to fail either.
        std::fs::write(&file, b"\xff\0[[").unwrap();
        let _ = testkit::cmd::run(&mut command).success();
    });
}

#[test]
fn a_gateway_may_be_the_hosts_own_address_and_stays_the_hosts() {
    on_a_host(|kit| {
        let before = Snapshot::take();
        let guest = kit.call(As::Setuid, Out::Datagrams, "4 tuntap up 192.0.2.10");
        assert_eq!(guest.code, 0);
        assert!(ip("addr show tap0").contains("192.0.2.10/32"));
        close([guest]);
        let mut command = kit.command(As::Setuid, "", &[b"--clean"]);
        let _ = testkit::cmd::run(&mut command).success();
        before.assert_holds("");
        assert!(ip("route get 192.0.2.10").contains("local 192.0.2.10 dev lo"));
    });
}

#[test]
fn a_full_disk_below_run_changes_nothing() {
    on_a_host(|kit| {
        let options = Some("size=4k,mode=755,nr_inodes=3");
        let flags = nix::mount::MsFlags::empty();
        nix::mount::mount(Some("full"), "/run", Some("tmpfs"), flags, options).unwrap();
        // Folder and lock fit; a state file does not.
        let before = Snapshot::take();
        let called = kit.call(As::Setuid, Out::Datagrams, "4 tuntap up 192.168.78.254");
        let text = called.text();
        assert!(
            text.ends_with("uml_net: /run/uml_net: No space left on device\n"),
            "{text}"
        );
        assert_eq!((called.code, called.descriptors.len()), (1, 0));
        before.assert_holds("");
    });
}

#[test]
fn adding_again_in_vain_leaves_the_guest_as_it_is() {
    on_a_host(|kit| {
        let options = Some("mode=755,nr_inodes=5");
        let flags = nix::mount::MsFlags::empty();
        nix::mount::mount(Some("small"), "/run", Some("tmpfs"), flags, options).unwrap();
        // The folders, lock, state, and one more file while the state is replaced.
        assert_eq!(kit.call(As::Setuid, Out::Stream, ADD).code, 0);
        let added = Snapshot::take();
        std::fs::write("/run/full", "").unwrap();
        let again = kit.call(As::Setuid, Out::Stream, ADD);
        assert_eq!(
            (again.text().as_str(), again.code),
            ("uml_net: /run/uml_net: No space left on device\n", 1)
        );
        added.assert_holds("");
    });
}

#[test]
fn a_read_only_run_is_told() {
    on_a_host(|kit| {
        testkit::faults::make_read_only(std::path::Path::new("/run"));
        let called = kit.call(As::Setuid, Out::Datagrams, "4 tuntap up 192.168.78.254");
        let text = called.text();
        assert!(
            text.ends_with(
                "uml_net: net.ipv4.ip_forward will stay 1: no state can be kept (/run/uml_net: \
                 Read-only file system)\n"
            ),
            "{text}"
        );
        assert_eq!((called.code, called.descriptors.len()), (0, 1));
        close([called]);
    });
}
