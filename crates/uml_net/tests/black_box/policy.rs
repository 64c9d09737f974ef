//! The policy file, and the system's log.

use std::{
    fs::{self, Permissions},
    os::unix::{fs::PermissionsExt as _, net::UnixDatagram},
    path::Path,
    process::Command,
};

use testkit::{bins::installed, cmd::run, netns::empty};
use uml_core::tuntap::Device;

use crate::kit::{As, NOBODY, Out, Snapshot, device, on_a_host, sysctl};

const FILE: &str = "/etc/uml/uml_net.toml";
const UP: &str = "4 tuntap up 192.168.78.254";

fn write(text: &str) {
    fs::create_dir_all("/etc/uml").unwrap();
    fs::write(FILE, text).unwrap();
    fs::set_permissions(FILE, Permissions::from_mode(0o644)).unwrap();
}

#[test]
fn a_policy_narrows_and_widens() {
    on_a_host(|kit| {
        let before = Snapshot::take();
        write("users = ['root']\n");
        let called = kit.call(As::Setuid, Out::Datagrams, UP);
        assert_eq!(
            called.text(),
            "uml_net: the policy does not allow uid 65534 to use uml_net\n"
        );
        write("groups = ['nogroup']\ngateways = ['10.0.0.0/8']\n");
        let called = kit.call(As::Setuid, Out::Datagrams, UP);
        assert_eq!(
            called.text(),
            "uml_net: 192.168.78.254 is in none of the networks that 'gateways' in the policy allows\n"
        );
        write("users = [65534]\nguests = ['198.18.0.0/15']\n");
        let called = kit.call(
            As::Setuid,
            Out::Stream,
            "4 add mine 192.0.2.99 255.255.255.0",
        );
        assert_eq!(called.code, 1);
        let called = kit.call(
            As::Setuid,
            Out::Stream,
            "4 add mine 198.18.0.1 255.255.255.0",
        );
        assert_eq!(called.code, 0, "{called:?}");
        let _ = kit.call(
            As::Setuid,
            Out::Stream,
            "4 del mine 198.18.0.1 255.255.255.0",
        );
        before.assert_holds("");
    });
}

#[test]
fn a_policy_switches_things_off_and_counts() {
    on_a_host(|kit| {
        write("forwarding = false\nproxy_arp = false\ntaps = 1\naddresses = 1\n");
        let guest = kit.call(As::Setuid, Out::Datagrams, UP);
        let text = guest.text();
        assert!(
            text.ends_with(
                "uml_net: the policy leaves net.ipv4.ip_forward=0: the guest reaches this host alone\n"
            ),
            "{text}"
        );
        assert_eq!((guest.code, sysctl("ip_forward").as_str()), (0, "0"));
        // Whoever has a tap's descriptor may give the tap to somebody else, but not its count.
        let tap = guest.descriptors[0].try_clone().unwrap();
        let tap = Device::from_fd(tap).unwrap();
        tap.set_owner(4711).unwrap();
        drop(tap);
        let second = kit.call(As::Setuid, Out::Datagrams, UP);
        assert_eq!(
            second.text(),
            "uml_net: uid 65534 has as many taps as the policy allows: 1\n"
        );
        let added = kit.call(
            As::Setuid,
            Out::Stream,
            "4 add mine 192.0.2.99 255.255.255.0",
        );
        assert_eq!(added.code, 0);
        assert!(added.text().contains("the policy allows no proxy ARP"));
        assert_eq!(sysctl("conf/mine/proxy_arp"), "0");
        assert_eq!(testkit::netns::ip("neigh show proxy"), "");
        let second = kit.call(
            As::Setuid,
            Out::Stream,
            "4 add mine 192.0.2.98 255.255.255.0",
        );
        assert_eq!(
            second.text(),
            "uml_net: mine has as many guests' addresses as the policy allows: 1\n"
        );
    });
}

#[test]
fn a_policy_that_others_could_have_written_is_ignored() {
    on_a_host(|kit| {
        let refuse_all = "users = []\n";
        let chown = installed("chown", "coreutils");
        let give_away = |path: &str| {
            let _ = run(Command::new(&chown).arg(NOBODY.to_string()).arg(path)).success();
        };
        let ignored = |why: &str| {
            let called = kit.call(As::Setuid, Out::Datagrams, UP);
            assert_eq!(called.code, 0, "{called:?}");
            let line = format!("uml_net: policy {FILE} is ignored: {why}\n");
            assert!(called.text().starts_with(&line), "{called:?}");
        };
        write(refuse_all);
        fs::set_permissions(FILE, Permissions::from_mode(0o664)).unwrap();
        ignored("it can be written by others than root");
        write(refuse_all);
        give_away(FILE);
        ignored("it doesn't belong to root");
        fs::remove_file(FILE).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", FILE).unwrap();
        ignored("it is a symbolic link");
        fs::remove_file(FILE).unwrap();
        fs::create_dir(FILE).unwrap();
        ignored("it is no plain file");
        fs::remove_dir(FILE).unwrap();
        write(refuse_all);
        give_away("/etc/uml");
        ignored("its folder doesn't belong to root");
    });
}

#[test]
fn a_wrong_policy_allows_nothing() {
    on_a_host(|kit| {
        let before = Snapshot::take();
        write("forwarding = true\nuser = ['nobody']\n");
        let called = kit.call(As::Setuid, Out::Datagrams, UP);
        let text = called.text();
        let start = format!("uml_net: policy {FILE} is wrong: line 2: unknown field `user`");
        assert!(text.starts_with(&start), "{text}");
        assert_eq!(called.code, 1);
        fs::set_permissions(FILE, Permissions::from_mode(0o600)).unwrap();
        let called = kit.call(As::Setuid, Out::Datagrams, UP);
        assert_eq!(
            called.text(),
            format!("uml_net: policy {FILE} can't be read: Permission denied\n")
        );
        before.assert_holds("");
        let mut command = kit.command(As::Root, "", &[b"--check-policy"]);
        let checked = run(&mut command);
        assert_eq!(checked.code(), 1);
        assert!(
            checked
                .err()
                .starts_with(&format!("uml_net: {FILE}: line 2: unknown field `user`"))
        );
        write("forwarding = true\n");
        let check = |file: &str| {
            let word = format!("--check-policy={file}");
            run(&mut kit.command(As::Setuid, "", &[word.as_bytes()]))
        };
        assert_eq!(check(FILE).success().err(), "");
        // The one that counts must count; any other is a text.
        let draft = kit.path("draft");
        fs::copy(FILE, &draft).unwrap();
        for file in [Path::new(FILE), &draft] {
            fs::set_permissions(file, Permissions::from_mode(0o666)).unwrap();
        }
        let ignored = check(FILE);
        assert_eq!(
            (ignored.code(), ignored.err()),
            (
                1,
                format!("uml_net: {FILE}: it is ignored: it can be written by others than root\n")
            )
        );
        assert_eq!(check(&draft.display().to_string()).success().err(), "");
        assert_eq!(
            check("/dev/zero").err(),
            "uml_net: /dev/zero: it is longer than 65536 bytes\n"
        );
        assert_eq!(
            check("/nonexistent\n").err(),
            "uml_net: /nonexistent\\n: No such file or directory\n"
        );
    });
}

#[test]
fn refusals_are_logged() {
    on_a_host(|kit| {
        // A /dev of the test's own, for a socket in it.
        empty("/dev");
        device("/dev/null", 1, 3);
        let log = UnixDatagram::bind("/dev/log").unwrap();
        log.set_nonblocking(true).unwrap();
        fs::set_permissions("/dev/log", Permissions::from_mode(0o666)).unwrap();
        let logged = || {
            let mut bytes = [0; 2048];
            let length = log.recv(&mut bytes).unwrap();
            let text = String::from_utf8(bytes[..length].to_vec()).unwrap();
            let (head, rest) = text.split_once("]: ").unwrap();
            assert!(head.starts_with("<37>uml_net["), "{text}");
            rest.to_owned()
        };
        let _ = kit.call(
            As::Setuid,
            Out::Stream,
            "4 add theirs 192.0.2.99 255.255.255.0",
        );
        assert_eq!(
            logged(),
            "refused uid 65534: theirs is no tap device of uid 65534"
        );
        let _ = kit.call(
            As::Setuid,
            Out::Stream,
            "4 add mine 192.0.2.1 255.255.255.0",
        );
        assert_eq!(
            logged(),
            "refused uid 65534: 192.0.2.1 is a router that this host uses"
        );
        let bad: Vec<&[u8]> = vec![b"4", b"foo\nroot logged in"];
        let _ = kit.call_with(As::Setuid, Out::Stream, "", &bad);
        assert_eq!(
            logged(),
            "refused uid 65534: Unknown transport : 'foo\\nroot logged in'"
        );
        // What is allowed is not.
        let _ = kit.call(
            As::Setuid,
            Out::Stream,
            "4 del mine 192.0.2.99 255.255.255.0",
        );
        assert!(log.recv(&mut [0; 16]).is_err());
    });
}
