//! `--apply`, `--remove`, `--dry-run`: each test in a network namespace of its own.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::{
    fmt::Write as _,
    fs,
    io::{BufRead as _, BufReader},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use nix::{
    fcntl::{FcntlArg, Flock, FlockArg, OFlag, fcntl},
    unistd::pipe2,
};
use tempfile::TempDir;
use testkit::{
    bins::installed,
    cmd::{Finished, run, run_for, until_named},
    netns::{ip, isolated, wait_until_free},
};
use uml_core::tuntap::{Device, Existing, Mode};

/// A network file of a test's own.
struct File {
    dir: TempDir,
}

impl File {
    fn new(text: &str) -> Self {
        let file = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        file.write(text);
        file
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("network.toml")
    }

    fn write(&self, text: &str) {
        fs::write(self.path(), text).unwrap();
    }

    fn tunctl(&self, words: &str) -> Finished {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tunctl"));
        command.args(words.split_whitespace()).arg(self.path());
        // The kernel takes its time to delete hundreds of devices.
        run_for(&mut command, b"", Duration::from_secs(180))
    }

    /// The changes that a run made.
    fn changes(&self, words: &str) -> Vec<String> {
        let out = self.tunctl(words).success().out();
        out.lines().map(str::to_owned).collect()
    }

    /// Applies it; a second run must find nothing to change.
    fn apply(&self) -> Vec<String> {
        let changes = self.changes("--apply");
        let nothing = format!("{}: nothing to change", self.path().display());
        assert_eq!(self.changes("--apply"), [nothing], "after {changes:#?}");
        changes
    }
}

/// All that a run may change in this namespace: without indexes, random hardware addresses, timers,
/// and whether somebody is attached.
fn everything() -> String {
    let mut lines = Vec::new();
    for words in [
        "-o -d link",
        "-o addr show scope global",
        "-4 route",
        "-6 route show proto boot",
        "neigh show proxy",
        "-6 neigh show proxy",
    ] {
        lines.extend(ip(words).lines().map(essence));
    }
    lines.sort();
    for file in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
        lines.push(format!("{file} {}", switch(file).trim()));
    }
    lines.join("\n")
}

fn essence(line: &str) -> String {
    let mut words = line.split_whitespace().peekable();
    let mut text = String::new();
    // The index.
    words.next_if(|word| word.trim_end_matches(':').parse::<u32>().is_ok());
    while let Some(word) = words.next() {
        match word {
            "link/ether" | "bridge_id" | "designated_root" | "designated_bridge"
            | "numdisabled" | "fdb_n_learned" | "qdisc" | "state" => {
                words.next();
            }
            timer if timer.ends_with("_timer") => {
                words.next();
            }
            "linkdown" | "tentative" => {}
            flags if flags.starts_with('<') => {
                text.push_str(if flags.contains(",UP") {
                    "UP "
                } else {
                    "DOWN "
                });
            }
            _ => {
                let _ = write!(text, "{word} ");
            }
        }
    }
    text
}

fn switch(file: &str) -> String {
    fs::read_to_string(format!("/proc/sys/net/{file}")).unwrap()
}

/// A LAN of the host's: eth0, and the other end of the cable.
fn lan() {
    ip("link add eth0 type veth peer name cable");
    ip("link set eth0 up");
    ip("link set cable up");
    ip("addr add 192.168.0.254/24 dev eth0");
}

fn example(name: &str) -> File {
    let path = format!("{}/examples/{name}.toml", env!("CARGO_MANIFEST_DIR"));
    File::new(&fs::read_to_string(path).unwrap())
}

#[test]
fn examples_are_correct() {
    for (name, summary) in [
        ("routed", "1 tap, 0 bridges, 0 VXLAN links"),
        ("bridged", "4 taps, 1 bridge, 0 VXLAN links"),
        ("private", "3 taps, 1 bridge, 0 VXLAN links"),
        ("two-hosts", "1 tap, 1 bridge, 1 VXLAN link"),
        ("everything", "2 taps, 1 bridge, 1 VXLAN link"),
    ] {
        let file = example(name);
        let out = file.tunctl("--check").success().out();
        assert_eq!(
            out,
            format!("{}: correct: {summary}\n", file.path().display())
        );
    }
}

#[test]
fn examples_are_applied_once_and_removed_without_a_trace() {
    for name in ["routed", "bridged", "private", "two-hosts", "everything"] {
        isolated(|| {
            lan();
            let file = example(name);
            let before = everything();
            let changes = file.apply();
            assert!(!changes.is_empty());
            assert_ne!(everything(), before);
            // The lines that are printed are those that a dry run shows.
            let would = file.changes("--dry-run --remove");
            assert_eq!(file.changes("--remove"), would);
            assert_eq!(
                file.changes("--remove"),
                [format!("{}: nothing to change", file.path().display())]
            );
            let after = everything();
            // Forwarding stays on: others may rely on it by now.
            let after = after.replace("forward 1", "forward 0");
            assert_eq!(after, before, "{name}: {would:#?}");
            assert_eq!(
                file.changes("--dry-run --apply"),
                without_switches(&changes)
            );
        });
    }
}

fn without_switches(changes: &[String]) -> Vec<String> {
    let is_forwarding = |change: &&String| !change.ends_with("ip_forward");
    changes.iter().filter(is_forwarding).cloned().collect()
}

#[test]
fn the_routed_recipe_does_what_its_commands_do() {
    isolated(|| {
        lan();
        let changes = example("routed").apply();
        assert_eq!(
            changes,
            [
                "ip tuntap add dev tap0 mode tap user 1000",
                "ip addr add 192.168.0.254/32 dev tap0",
                "ip link set dev tap0 up",
                "ip route add 192.168.0.253/32 dev tap0",
                "ip neigh add proxy 192.168.0.253 dev eth0",
                "echo 1 > /proc/sys/net/ipv4/conf/tap0/proxy_arp",
                "echo 1 > /proc/sys/net/ipv4/ip_forward",
            ]
        );
        let with_tunctl = everything();
        let proxy_arp = switch("ipv4/conf/tap0/proxy_arp");
        isolated(|| {
            lan();
            for change in &changes {
                match change.strip_prefix("ip ") {
                    Some(words) => drop(ip(words)),
                    None => drop(run(Command::new("sh").args(["-c", change])).success()),
                }
            }
            assert_eq!(everything(), with_tunctl);
            assert_eq!(switch("ipv4/conf/tap0/proxy_arp"), proxy_arp);
        });
    });
}

#[test]
fn differences_are_brought_in_line() {
    isolated(|| {
        lan();
        let file = File::new(
            r#"
            [[tap]]
            name = "tap0"
            owner = 1000
            addresses = ["10.0.0.254/24", "10.0.0.253/24", "fd00::1/64"]
            guests = ["192.168.0.1", "192.168.0.2", "fd00:2::2"]
            proxy_arp = "eth0"

            [[tap]]
            name = "tap1"

            [[vxlan]]
            name = "vx0"
            id = 1
            remote = "10.9.9.9"

            [[bridge]]
            name = "br0"
            addresses = ["10.1.0.1/24"]
            ports = ["vx0", "tap1"]
            "#,
        );
        file.apply();
        ip("tuntap add dev stray mode tap");
        ip("link set dev stray master br0");
        ip("link set dev br0 type bridge forward_delay 900 stp_state 1");
        ip("link set dev tap0 mtu 1400");
        ip("addr add 172.16.0.1/12 dev br0");
        ip("link set dev tap1 down");
        ip("link set dev tap1 nomaster");
        ip("neigh add proxy 192.168.0.1 dev cable");
        ip("route del 192.168.0.2 dev tap0");
        assert_eq!(
            file.apply(),
            [
                "ip link set dev br0 type bridge stp_state 0 forward_delay 0",
                "ip link set dev stray nomaster",
                "ip link set dev tap1 master br0",
                "ip addr del 172.16.0.1/12 dev br0",
                "ip link set dev tap1 up",
                "ip neigh del proxy 192.168.0.1 dev cable",
                "ip route add 192.168.0.2/32 dev tap0",
            ]
        );
        file.write(
            r#"
            [[tap]]
            name = "tap0"
            owner = 1001
            mtu = 1300
            addresses = ["10.0.0.253/24"]
            guests = ["192.168.0.3"]
            proxy_arp = ["cable"]

            [[tap]]
            name = "tap1"
            guests = ["192.168.0.1"]

            [[vxlan]]
            name = "vx0"
            id = 2
            remote = "10.9.9.9"
            up = false

            [[bridge]]
            name = "br0"
            stp = true
            forward_delay = 4
            ports = ["vx0", "stray"]
            up = false
            "#,
        );
        assert_eq!(
            file.apply(),
            [
                "ip link set dev vx0 nomaster",
                "ip link set dev vx0 down",
                "ip link del dev vx0",
                "tunctl -t tap0 -u 1001",
                "ip link set dev tap0 mtu 1300",
                "ip link add dev vx0 type vxlan id 2 dstport 4789 remote 10.9.9.9",
                "ip link set dev br0 type bridge stp_state 1 forward_delay 400",
                "ip link set dev tap1 nomaster",
                "ip link set dev vx0 master br0",
                "ip link set dev stray master br0",
                "ip addr del 10.0.0.254/24 dev tap0",
                "ip addr del fd00::1/64 dev tap0",
                "ip addr del 10.1.0.1/24 dev br0",
                "ip link set dev br0 down",
                "ip link set dev stray up",
                "ip route del 192.168.0.1/32 dev tap0",
                "ip route del 192.168.0.2/32 dev tap0",
                "ip neigh del proxy 192.168.0.2 dev eth0",
                "ip route del fd00:2::2/128 dev tap0",
                "ip neigh del proxy fd00:2::2 dev eth0",
                "ip neigh del proxy 192.168.0.1 dev eth0",
                "ip route add 192.168.0.3/32 dev tap0",
                "ip route add 192.168.0.1/32 dev tap1",
                "ip neigh add proxy 192.168.0.3 dev cable",
                "echo 1 > /proc/sys/net/ipv4/conf/tap1/proxy_arp",
            ]
        );
    });
}

#[test]
fn a_tap_of_another_shape_is_made_anew() {
    isolated(|| {
        let file = File::new("[[tap]]\nname = \"tap0\"\nowner = 5\naddresses = [\"10.0.0.1/24\"]");
        file.apply();
        ip("route add 10.5.0.0/16 via 10.0.0.2");
        file.write("[[tap]]\nname = \"tap0\"\ngroup = 6\nkind = \"tun\"\nmulti_queue = true");
        assert_eq!(
            file.apply(),
            [
                "ip route del 10.5.0.0/16 via 10.0.0.2 dev tap0",
                "ip addr del 10.0.0.1/24 dev tap0",
                "ip link set dev tap0 down",
                "ip tuntap del dev tap0 mode tap",
                "ip tuntap add dev tap0 mode tun multi_queue group 6",
                "ip link set dev tap0 up",
            ]
        );
        assert!(ip("-d link show tap0").contains("tun type tun"));
    });
}

#[test]
fn a_failure_half_way_undoes_what_was_done() {
    isolated(|| {
        lan();
        let file = File::new(
            r#"
            [[tap]]
            name = "tap0"
            addresses = ["10.0.0.254/24", "fd00::1/64"]
            mtu = 1400
            guests = ["192.168.0.1"]
            proxy_arp = "eth0"

            [[bridge]]
            name = "br0"
            addresses = ["10.1.0.1/24"]
            ports = ["eth0"]
            "#,
        );
        file.apply();
        ip("route add 10.5.0.0/16 via 10.0.0.2");
        fs::write("/proc/sys/net/ipv4/ip_forward", "0").unwrap();
        let before = everything();
        // The kernel refuses loopback as a port, after nearly everything has been changed.
        let broken = r#"
            [[tap]]
            name = "tap0"
            kind = "tun"

            [[tap]]
            name = "new%d"
            count = 3

            [[bridge]]
            name = "br0"
            stp = true
            ports = ["new%d", "lo"]
            "#;
        file.write(broken);
        let failed = file.tunctl("--apply");
        assert_eq!(failed.code(), 1);
        let error = failed.err();
        assert!(
            error.starts_with(
                "tunctl: failed: ip link set dev lo master br0\n\
                 tunctl: setting dev lo master br0: Invalid argument"
            ),
            "{error}"
        );
        assert!(
            error.contains("\ntunctl: undone: ip tuntap del dev new2 mode tap\n"),
            "{error}"
        );
        assert!(
            error.contains("\ntunctl: undone: ip tuntap add dev tap0 mode tap user 0\n"),
            "{error}"
        );
        assert!(!error.contains("can't be undone"), "{error}");
        assert!(
            failed
                .out()
                .contains("ip tuntap add dev new0 mode tap user 0\n")
        );
        assert_eq!(everything(), before);
    });
}

#[test]
fn a_removal_that_fails_is_undone_too() {
    isolated(|| {
        lan();
        let file = File::new(
            r#"
            [[tap]]
            name = "q"
            multi_queue = true
            guests = ["192.168.0.1"]
            proxy_arp = "eth0"

            [[tap]]
            name = "port"

            [[bridge]]
            name = "br0"
            mtu = 1450
            addresses = ["10.1.0.1/24"]
            ports = ["port"]
            "#,
        );
        file.apply();
        let before = everything();
        // Held by this very thread, whose process lives in another namespace: nobody sees it
        // before the attempt.
        let mode = Mode {
            multi_queue: true,
            ..Mode::default()
        };
        let held = Device::open(&"q".parse().unwrap(), mode, Existing::Attach).unwrap();
        let failed = file.tunctl("--remove");
        assert_eq!(failed.code(), 1);
        assert!(failed.err().contains("q is in use by"), "{}", failed.err());
        drop(held);
        wait_until_free("q");
        assert_eq!(everything(), before);
        assert!(!file.changes("--remove").is_empty());
    });
}

#[test]
fn a_guests_tap_is_not_taken_away() {
    isolated(|| {
        let file = File::new("[[tap]]\nname = \"tap0\"");
        file.apply();
        let before = everything();
        let device = Device::open(&"tap0".parse().unwrap(), Mode::default(), Existing::Attach);
        let mut guest = Command::new("sleep")
            .arg("1000")
            .stdin(device.unwrap().into_fd())
            .spawn()
            .unwrap();
        until_named(&guest, "sleep");
        let advice = format!("tap0 is in use by sleep (pid {})", guest.id());
        let removed = file.tunctl("--remove");
        file.write("[[tap]]\nname = \"tap0\"\nkind = \"tun\"");
        let remade = file.tunctl("--apply");
        file.write("[[tap]]\nname = \"tap0\"\nowner = 5");
        let reowned = file.tunctl("--apply");
        guest.kill().unwrap();
        guest.wait().unwrap();
        for refused in [removed, remade, reowned] {
            assert_eq!(refused.code(), 1);
            assert!(refused.err().contains(&advice), "{}", refused.err());
            assert_eq!(refused.out(), "");
        }
        assert_eq!(everything(), before);
    });
}

#[test]
fn what_stands_in_the_way_is_named_before_anything_is_changed() {
    isolated(|| {
        lan();
        ip("link add tap0 type bridge");
        ip("tuntap add dev br0 mode tap");
        ip("tuntap add dev other mode tap");
        ip("link set dev other up");
        ip("route add 192.168.0.9 dev other");
        let before = everything();
        let file = File::new(
            r#"
            [[tap]]
            name = "tap0"
            guests = ["192.168.0.254"]
            proxy_arp = "nolan"

            [[vxlan]]
            name = "cable"
            id = 1
            remote = "10.0.0.1"
            device = "nocarrier"

            [[bridge]]
            name = "br0"
            ports = ["noport"]
            "#,
        );
        let refused = file.tunctl("--apply");
        assert_eq!(refused.code(), 1);
        assert_eq!(
            refused.err(),
            "tunctl: tap0 exists and is no tap device but a device of kind bridge\n\
             tunctl: br0 exists and is no bridge but a device of kind tap\n\
             tunctl: cable exists and is no VXLAN link but a device of kind veth\n\
             tunctl: there is no device nocarrier, and the file doesn't make it\n\
             tunctl: there is no device nolan, and the file doesn't make it\n\
             tunctl: there is no device noport, and the file doesn't make it\n\
             tunctl: guest 192.168.0.254 can't have this host's own address (dev eth0)\n"
        );
        assert_eq!(file.tunctl("--remove").code(), 1);
        file.write("[[tap]]\nname = \"t\"\nguests = [\"192.168.0.9\"]");
        let refused = file.tunctl("--apply");
        assert_eq!(
            refused.err(),
            "tunctl: guest 192.168.0.9 of t has a route by dev other already, which this file \
             doesn't describe: ip route del 192.168.0.9/32 dev other\n"
        );
        assert_eq!(everything(), before);
    });
}

#[test]
fn a_dry_run_changes_nothing() {
    isolated(|| {
        lan();
        let before = everything();
        let file = example("routed");
        assert_eq!(file.changes("--dry-run --apply").len(), 7);
        assert_eq!(everything(), before);
    });
}

#[test]
fn two_hundred_taps_by_one_file() {
    isolated(|| {
        let file = File::new(
            r#"
            [[tap]]
            name = "tap%d"
            count = 200
            first = 100

            [[bridge]]
            name = "br0"
            ports = "tap%d"
            "#,
        );
        let changes = file.apply();
        assert_eq!(changes.len(), 200 * 3 + 2);
        assert!(ip("link show tap299").contains("master br0"));
        file.changes("--remove");
        assert_eq!(ip("-o link").lines().count(), 1);
    });
}

#[test]
fn guests_keep_their_routes_when_addresses_change() {
    isolated(|| {
        let tap = |addresses: &str| {
            format!("[[tap]]\nname = \"t\"\nguests = [\"192.168.0.1\"]\naddresses = [{addresses}]")
        };
        let file = File::new(&tap("\"10.0.0.1/24\", \"10.0.0.2/24\", \"10.0.0.3/24\""));
        file.apply();
        // The first of three of one network, which the others hang on.
        file.write(&tap("\"10.0.0.2/24\", \"10.0.0.3/24\""));
        assert_eq!(file.apply(), ["ip addr del 10.0.0.1/24 dev t"]);
        assert_eq!(switch("ipv4/conf/t/promote_secondaries"), "0\n");
        file.write(&tap("\"10.0.1.1/24\""));
        assert_eq!(
            file.apply(),
            [
                "ip addr add 10.0.1.1/24 dev t",
                "ip addr del 10.0.0.2/24 dev t",
                "ip addr del 10.0.0.3/24 dev t",
            ]
        );
        // With the last address the kernel takes all routes.
        file.write(&tap(""));
        assert_eq!(
            file.apply(),
            [
                "ip route del 192.168.0.1/32 dev t",
                "ip addr del 10.0.1.1/24 dev t",
                "ip route add 192.168.0.1/32 dev t",
            ]
        );
        assert!(ip("route").contains("192.168.0.1 dev t"));
    });
}

#[test]
fn runs_at_once_wait_for_each_other() {
    isolated(|| {
        let file = File::new("[[tap]]\nname = \"t%d\"\ncount = 20");
        let runs: Vec<_> = (0..4)
            .map(|_| {
                Command::new(env!("CARGO_BIN_EXE_tunctl"))
                    .arg("--apply")
                    .arg(file.path())
                    .stdout(Stdio::piped())
                    .spawn()
                    .unwrap()
            })
            .collect();
        let mut lines: Vec<usize> = runs
            .into_iter()
            .map(|child| {
                let output = child.wait_with_output().unwrap();
                assert!(output.status.success());
                String::from_utf8(output.stdout).unwrap().lines().count()
            })
            .collect();
        lines.sort_unstable();
        assert_eq!(lines, [1, 1, 1, 40]);
    });
}

#[test]
fn a_run_waits_for_one_with_another_file_and_says_so() {
    isolated(|| {
        // Another run, as far as its lock goes.
        let namespace = fs::File::open("/proc/thread-self/ns/net").unwrap();
        let other = Flock::lock(namespace, FlockArg::LockExclusive).unwrap();
        let file = File::new("[[tap]]\nname = \"t\"");
        let mut child = Command::new(env!("CARGO_BIN_EXE_tunctl"))
            .arg("--apply")
            .arg(file.path())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        assert_eq!(
            lines.next().unwrap().unwrap(),
            "tunctl: waiting for another run in this network namespace to end"
        );
        assert!(!ip("link").contains("t:"));
        drop(other);
        assert!(child.wait().unwrap().success());
        assert!(lines.next().is_none());
        // In another namespace nobody has to wait.
        let _other = Flock::lock(
            fs::File::open("/proc/thread-self/ns/net").unwrap(),
            FlockArg::LockExclusive,
        );
        isolated(|| drop(file.apply()));
    });
}

#[test]
fn a_port_that_its_new_bridge_refuses_stays_with_the_old_one() {
    isolated(|| {
        let file = File::new(
            "[[bridge]]\nname = \"old\"\nother_ports = \"keep\"\n[[bridge]]\nname = \"new\"",
        );
        file.apply();
        // Its packets go by the new bridge, which can't have it as a port.
        ip("link add vx type vxlan id 7 dstport 4789 remote 192.0.2.1 dev new");
        ip("link set dev vx master old");
        let before = everything();
        file.write(
            "[[bridge]]\nname = \"old\"\nother_ports = \"keep\"\n\
             [[bridge]]\nname = \"new\"\nports = \"vx\"",
        );
        let failed = file.tunctl("--apply");
        assert_eq!(failed.code(), 1);
        let error = failed.err();
        assert!(
            error.starts_with("tunctl: failed: ip link set dev vx master new\n"),
            "{error}"
        );
        assert_eq!(everything(), before);
    });
}

#[test]
fn a_link_may_go_by_a_bridge_of_the_same_file() {
    isolated(|| {
        let before = everything();
        let file = File::new(
            r#"
            [[vxlan]]
            name = "vx0"
            id = 1
            remote = "192.0.2.2"
            device = "lan"

            [[bridge]]
            name = "lan"
            addresses = ["192.0.2.1/24"]

            [[bridge]]
            name = "guests"
            ports = ["vx0"]
            "#,
        );
        file.apply();
        assert!(ip("link show vx0").contains("master guests"));
        // It goes before its carrier, with which the kernel would take it away.
        let removed = file.changes("--remove");
        let place = |device: &str| {
            let change = format!("ip link del dev {device}");
            removed.iter().position(|line| *line == change).unwrap()
        };
        assert!(place("vx0") < place("lan"), "{removed:#?}");
        assert_eq!(everything(), before);
    });
}

#[test]
fn a_run_that_was_killed_is_finished_by_the_next() {
    isolated(|| {
        let file = File::new(
            "[[tap]]\nname = \"t%d\"\ncount = 100\n[[bridge]]\nname = \"b\"\nports = \"t%d\"",
        );
        // A pipe that holds fewer lines than there are changes: the run can't come to its end.
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC).unwrap();
        fcntl(&writer, FcntlArg::F_SETPIPE_SZ(4096)).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_tunctl"))
            .arg("--apply")
            .arg(file.path())
            .stdout(writer)
            .spawn()
            .unwrap();
        let mut lines = BufReader::with_capacity(64, fs::File::from(reader)).lines();
        for _ in 0..20 {
            lines.next().unwrap().unwrap();
        }
        child.kill().unwrap();
        assert!(!child.wait().unwrap().success());
        // What it had made stays, and is left as it is.
        let rest = file.apply();
        assert!(!rest.is_empty() && rest.len() < 100 * 3 + 2, "{rest:#?}");
        assert_eq!(ip("-o link show master b").lines().count(), 100);
        file.changes("--remove");
    });
}

#[test]
fn output_that_nobody_reads_does_not_stop_the_work() {
    isolated(|| {
        let file = File::new("[[tap]]\nname = \"t%d\"\ncount = 3");
        let script = format!(
            "{} --apply {} > /dev/full",
            env!("CARGO_BIN_EXE_tunctl"),
            file.path().display()
        );
        let done = run(Command::new("sh").args(["-c", &script]));
        assert_eq!(done.code(), 1);
        assert_eq!(
            done.err(),
            "tunctl: writing to standard output: No space left on device\n"
        );
        assert!(file.changes("--apply")[0].ends_with("nothing to change"));
    });
}

#[test]
fn without_the_right_nothing_is_changed() {
    isolated(|| {
        let before = everything();
        let file = File::new("[[tap]]\nname = \"t\"\n[[bridge]]\nname = \"b\"");
        // Where a stranger may go.
        fs::set_permissions(file.dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let binary = file.dir.path().join("tunctl");
        // A process of its own writes the copy: were it this one, a command that another test starts
        // meanwhile could have the file open for writing, and the kernel would not run it.
        let mut install = Command::new(installed("install", "coreutils"));
        install.arg(env!("CARGO_BIN_EXE_tunctl")).arg(&binary);
        let _ = run(&mut install).success();
        let stranger = |words: &str| {
            let mut command = Command::new("setpriv");
            let words = words.split_whitespace();
            command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
            command.arg(&binary).args(words);
            run(command.arg(file.path()))
        };
        let shown = stranger("--dry-run --apply").success().out();
        assert_eq!(shown.lines().count(), 4);
        let refused = stranger("--apply");
        assert_eq!(refused.code(), 1);
        assert!(
            refused.err().ends_with("tunctl: nothing was changed\n"),
            "{}",
            refused.err()
        );
        assert_eq!(everything(), before);
    });
}

#[test]
fn a_bridge_keeps_its_mtu_when_smaller_ports_join() {
    isolated(|| {
        lan();
        let bridge = |ports: &str| {
            format!(
                "[[vxlan]]\nname = \"vx0\"\nid = 1\nremote = \"192.168.0.9\"\ndevice = \"eth0\"\n\
                 [[bridge]]\nname = \"b\"\nmtu = 1500\nports = [{ports}]"
            )
        };
        let file = File::new(&bridge(""));
        file.apply();
        file.write(&bridge("\"vx0\""));
        file.apply();
        assert!(ip("link show b").contains("mtu 1500"));
        assert!(ip("link show vx0").contains("mtu 1450"));
    });
}

#[test]
fn routes_that_others_made_for_guests_stay() {
    isolated(|| {
        let file = File::new("[[tap]]\nname = \"t\"\nguests = \"192.168.0.1\"");
        file.apply();
        ip("route add 192.168.0.2 dev t proto 117");
        ip("route add 192.168.0.3 dev t proto bird");
        ip("route add 192.168.0.4 dev t");
        assert_eq!(file.apply(), ["ip route del 192.168.0.4/32 dev t"]);
        // A device that goes takes them along; one that comes back has them again.
        file.write(
            "[[tap]]\nname = \"t\"\nkind = \"tun\"\n[[bridge]]\nname = \"b\"\nports = \"lo\"",
        );
        let before = everything();
        assert_eq!(file.tunctl("--apply").code(), 1);
        assert_eq!(everything(), before);
        assert!(before.contains("192.168.0.2 dev t proto 117"), "{before}");
    });
}
