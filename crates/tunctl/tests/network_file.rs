//! What is wrong in a network file, with line, key and what is allowed.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::{fs, process::Command};

use testkit::cmd::{Finished, run};

fn check(text: &str) -> Finished {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("f"), text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tunctl"));
    run(command.args(["--check", "f"]).current_dir(dir.path()))
}

/// The lines on standard error, without the tool's and the file's names.
fn errors(text: &str) -> Vec<String> {
    let checked = check(text);
    assert_eq!(checked.code(), 1, "{text}\n{}", checked.out());
    assert_eq!(checked.out(), "");
    let error = checked.err();
    let lines = error.lines().map(|line| {
        let line = line.strip_prefix("tunctl: f:");
        line.unwrap_or_else(|| panic!("{error}")).to_owned()
    });
    lines.collect()
}

#[test]
fn an_empty_file_is_correct() {
    let out = check("# nothing\n").success().out();
    assert_eq!(out, "f: correct: 0 taps, 0 bridges, 0 VXLAN links\n");
}

#[test]
fn all_errors_are_told_at_once_in_the_order_of_lines() {
    let text = r#"
forwarding = "yes"
routing = true

[[tap]]
nmae = "tap0"
mtu = 12

[[bridge]]
name = "br0"
forward_delay = 99
ports = ["br0", 7]
"#;
    assert_eq!(
        errors(text),
        [
            "2: forwarding in the file: expected true or false, found \"yes\"",
            "3: unknown key 'routing' in the file; allowed: forwarding, tap, bridge, vxlan",
            "5: [[tap]] has no 'name'",
            "6: unknown key 'nmae' in [[tap]]; allowed: name, count, first, kind, owner, group, \
             addresses, mtu, up, multi_queue, vnet_hdr, guests, proxy_arp",
            "7: mtu in [[tap]]: expected a number from 68 to 65521, found 12",
            "11: forward_delay in [[bridge]]: expected a number from 0 to 30, found 99",
            "12: ports in [[bridge]]: expected texts, found 7",
            "12: ports in [[bridge]]: a bridge can't be its own port",
        ]
    );
}

#[test]
fn syntax_errors_name_their_line() {
    for (text, line) in [
        ("\n[[tap]]\nname = tap0\n", "3: "),
        ("[[tap\n", "1: "),
        ("a = 1\na = 2\n", "2: "),
        ("[[tap]]\nname = \"x\n", "2: "),
    ] {
        let found = errors(text);
        assert!(found[0].starts_with(line), "{found:?}");
    }
}

/// Files with one error each, and the error.
const WRONG: &[(&str, &str)] = &[
    (
        "tap = 1",
        "1: 'tap' is written [[tap]], as often as there are any",
    ),
    ("tap = [1]", "1: 'tap' is written [[tap]], found 1"),
    (
        "[tap]\nname = \"x\"",
        "1: 'tap' is written [[tap]], as often as there are any",
    ),
    (
        "[[tap]]\nname = 5",
        "2: name in [[tap]]: expected a text, found 5",
    ),
    (
        "[[tap]]\nname = \"abcdefghijklmnop\"",
        "2: device name 'abcdefghijklmnop' is 16 bytes long, 15 are allowed",
    ),
    (
        "[[tap]]\nname = \"../x\"",
        "2: device name '../x' holds '/': '/', ':', '%', white space and control characters are not allowed",
    ),
    (
        "[[tap]]\nname = \"a\"\n[[tap]]\nname = \"a\"",
        "4: a stands at line 2 already",
    ),
    (
        "[[tap]]\nname = \"a\"\n[[bridge]]\nname = \"a\"",
        "4: a stands at line 2 already",
    ),
    (
        "[[tap]]\nname = \"a%d\"",
        "2: name in [[tap]]: a name with %d needs 'count', the number of taps",
    ),
    (
        "[[tap]]\nname = \"a\"\ncount = 2",
        "3: count in [[tap]]: it goes with a name that holds %d, such as \"tap%d\"",
    ),
    (
        "[[tap]]\nname = \"a%d\"\ncount = 0",
        "3: count in [[tap]]: expected a number from 1 to 4096, found 0",
    ),
    (
        "[[tap]]\nname = \"abcdefghijklmn%d\"\ncount = 11",
        "2: device name 'abcdefghijklmn10' is 16 bytes long, 15 are allowed",
    ),
    (
        "[[tap]]\nname = \"a\"\nkind = \"tan\"",
        "3: kind in [[tap]]: expected \"tap\" or \"tun\", found \"tan\"",
    ),
    (
        "[[tap]]\nname = \"a\"\nowner = \"nosuch\"",
        "3: owner in [[tap]]: 'nosuch' is neither a username nor a numeric uid.",
    ),
    (
        "[[tap]]\nname = \"a\"\nowner = -1",
        "3: owner in [[tap]]: expected a number from 0 to 4294967294, found -1",
    ),
    (
        "[[tap]]\nname = \"a\"\ngroup = true",
        "3: group in [[tap]]: expected a name or a number, found true",
    ),
    (
        "[[tap]]\nname = \"a\"\naddresses = [\"10.0.0.1/33\"]",
        "3: addresses in [[tap]]: prefix length '33' is not a number from 0 to 32",
    ),
    (
        "[[tap]]\nname = \"a\"\naddresses = [\"10.0.0/8\"]",
        "3: addresses in [[tap]]: '10.0.0' is not an IP address",
    ),
    (
        "[[tap]]\nname = \"a\"\naddresses = [\"224.0.0.1\"]",
        "3: 224.0.0.1/32 is no host's address",
    ),
    (
        "[[tap]]\nname = \"a\"\naddresses = [\n\"10.0.0.1/8\",\n\"10.0.0.1/8\"]",
        "5: 10.0.0.1/8 stands twice",
    ),
    (
        "[[tap]]\nname = \"a\"\nguests = [\"10.0.0.1/8\"]",
        "3: guests in [[tap]]: '10.0.0.1/8' is not an IP address",
    ),
    (
        "[[tap]]\nname = \"a\"\nguests = [\"0.0.0.0\"]",
        "3: 0.0.0.0 is no host's address",
    ),
    (
        "[[tap]]\nname = \"a\"\nguests = [\"1.1.1.1\"]\nup = false",
        "3: guests in [[tap]]: a route to a guest needs the device to be up",
    ),
    (
        "[[tap]]\nname = \"a\"\nguests = [\"1.1.1.1\",\n\"1.1.1.1\"]",
        "4: guest 1.1.1.1 stands at line 3 already",
    ),
    (
        "[[tap]]\nname = \"a\"\nguests = [\"1.1.1.1\"]\n[[bridge]]\nname = \"b\"\naddresses = \"1.1.1.1/8\"",
        "3: 1.1.1.1 is the host's own address: a guest has another",
    ),
    (
        "[[tap]]\nname = \"a%d\"\ncount = 2\nguests = [\"1.1.1.1\"]",
        "4: guests in [[tap]]: expected one for each of the 2 taps, found 1",
    ),
    (
        "[[tap]]\nname = \"a\"\nproxy_arp = \"eth0\"",
        "3: proxy_arp in [[tap]]: there are no guests to answer for",
    ),
    (
        "[[tap]]\nname = \"a\"\nguests = \"1.1.1.1\"\nproxy_arp = \"a\"",
        "4: proxy_arp in [[tap]]: a is the guests' own side: name the other guests' or the LAN's",
    ),
    (
        "[[bridge]]\nname = \"b\"\nports = [\"tap%d\"]",
        "3: 'tap%d' is no tap's name in this file, with %d and a count",
    ),
    (
        "[[bridge]]\nname = \"b\"\nports = [\"x\",\n\"x\"]",
        "4: x is a port at line 3 already",
    ),
    (
        "[[tap]]\nname = \"a\"\nkind = \"tun\"\n[[bridge]]\nname = \"b\"\nports = \"a\"",
        "6: a carries packets, not frames: it can't be a bridge's port",
    ),
    (
        "[[tap]]\nname = \"a\"\nguests = \"1.1.1.1\"\n[[bridge]]\nname = \"b\"\nports = \"a\"",
        "6: a has guests of its own: behind a bridge they need no routes",
    ),
    (
        "[[tap]]\nname = \"a%d\"\ncount = 4000\n[[tap]]\nname = \"b%d\"\ncount = 97",
        "4: with this the file makes more than 4096 taps",
    ),
    (
        "[[tap]]\nname = \"a%d\"\ncount = 9\n[[bridge]]\nname = \"b\"\nports = [\"a%d\",\n\"a%d\"]",
        "7: a0 is a port at line 6 already",
    ),
    (
        "[[bridge]]\nname = \"b\"\nother_ports = \"drop\"",
        "3: other_ports in [[bridge]]: expected \"release\" or \"keep\", found \"drop\"",
    ),
    (
        "[[bridge]]\nname = \"b\"\nstp = true\nforward_delay = 0",
        "4: forward_delay in [[bridge]]: expected a number from 2 to 30, found 0",
    ),
    (
        "[[vxlan]]\nname = \"v\"\nremote = \"1.1.1.1\"",
        "1: [[vxlan]] has no 'id'",
    ),
    (
        "[[vxlan]]\nname = \"v\"\nid = 16777216\nremote = \"1.1.1.1\"",
        "3: id in [[vxlan]]: expected a number from 1 to 16777215, found 16777216",
    ),
    (
        "[[vxlan]]\nname = \"v\"\nid = 1",
        "1: [[vxlan]] needs 'remote', the other host's address, or 'group', a multicast group of all the hosts, and not both",
    ),
    (
        "[[vxlan]]\nname = \"v\"\nid = 1\nremote = \"239.1.1.1\"",
        "4: remote in [[vxlan]]: a multicast address goes to 'group'",
    ),
    (
        "[[vxlan]]\nname = \"v\"\nid = 1\ndevice = \"e\"\ngroup = \"1.1.1.1\"",
        "5: group in [[vxlan]]: expected a multicast address, such as 239.1.1.1",
    ),
    (
        "[[vxlan]]\nname = \"v\"\nid = 1\ngroup = \"239.1.1.1\"",
        "4: group in [[vxlan]]: it needs 'device', such as \"eth0\"",
    ),
    (
        "[[vxlan]]\nname = \"v\"\nid = 1\nremote = \"1.1.1.1\"\nlocal = \"::1\"",
        "5: local in [[vxlan]]: ::1 and 1.1.1.1 are of different families",
    ),
    (
        "[[vxlan]]\nname = \"v\"\nid = 1\nremote = \"1.1.1.1\"\nport = 70000",
        "5: port in [[vxlan]]: expected a number from 1 to 65535, found 70000",
    ),
    (
        "[[vxlan]]\nname = \"v\"\nid = 1\nremote = \"1.1.1.1\"\n[[vxlan]]\nname = \"w\"\nid = 1\nremote = \"1.1.1.2\"",
        "7: id in [[vxlan]]: with this port it stands at line 1 already",
    ),
];

#[test]
fn values_are_checked_one_by_one() {
    for (text, error) in WRONG {
        assert_eq!(errors(text), [*error], "{text}");
    }
}

#[test]
fn control_characters_of_a_file_stay_in_it() {
    for text in [
        "[[tap]]\nname = \"a\\u001b[2J\"",
        "\"\\u001b[2J\" = 1",
        "[[tap]]\nname = \"x\"\nkind = \"\\u001b[2J\"",
        "[[tap]]\nname = \"x\"\nmtu = \"\\u001b[2J\"",
        "[[tap]]\nname = \"x\"\naddresses = \"\\u001b[2J\"",
        "[[bridge]]\nname = \"x\"\nports = \"\\u001b%d\"",
    ] {
        assert!(!errors(text).concat().contains('\u{1b}'), "{text}");
    }
}

#[test]
fn files_that_are_none() {
    let tunctl = |args: &[&str]| run(Command::new(env!("CARGO_BIN_EXE_tunctl")).args(args));
    for verb in ["--check", "--apply", "--remove"] {
        let missing = tunctl(&[verb, "/nonexistent/file"]);
        assert_eq!(missing.code(), 1);
        assert_eq!(
            missing.err(),
            "tunctl: opening network file '/nonexistent/file': No such file or directory\n"
        );
        let endless = tunctl(&[verb, "/dev/zero"]);
        assert_eq!(
            endless.err(),
            "tunctl: /dev/zero is larger than 1048576 bytes: it is no network file\n"
        );
    }
    let folder = tunctl(&["--check", "/"]);
    assert_eq!(
        folder.err(),
        "tunctl: reading network file '/': Is a directory\n"
    );
    let text = tunctl(&["--check", env!("CARGO_BIN_EXE_tunctl")]);
    assert_eq!(text.code(), 1);
}

#[test]
fn the_manuals_examples_are_correct() {
    let manual = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/man/examples.md"));
    let manual = manual.unwrap();
    let mut checked = 0;
    // Every second piece stands between two fences.
    for code in manual.split("```\n").skip(1).step_by(2) {
        // Some show commands.
        if code.starts_with("[[") {
            // Its users are made up.
            let text = code.replace("\"joe\"", "0").replace("\"uml\"", "0");
            let out = check(&text).success().out();
            assert!(out.starts_with("f: correct: "), "{out}");
            checked += 1;
        }
    }
    assert_eq!(checked, 4);
}
