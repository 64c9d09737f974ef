//! Guests whose network `uml_net` sets up, on a host without ifconfig, route, arp and modprobe.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "tests")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use guests::{path_with_uml_net, prepare_host};
use tempfile::TempDir;
use testkit::{
    bins::{installed, ours},
    cmd::run,
    guest::{Guest, Running},
    netns::{ip, isolated, wait_for_state},
    until,
};

/// A host with a network card in 192.168.78.0/24, and another machine there.
struct Host {
    /// What guests and host share.
    share: TempDir,
    /// A search path with `uml_net` alone.
    path: TempDir,
}

impl Host {
    fn new() -> Self {
        prepare_host();
        for words in [
            "netns add lan",
            "link add eth0 type veth peer name wire netns lan",
            "-n lan link set wire up",
            "link set eth0 up",
        ] {
            ip(words);
        }
        // Nothing of it may change by itself later.
        wait_for_state("eth0", "up");
        for words in [
            "addr add 192.168.78.10/24 dev eth0",
            "-n lan addr add 192.168.78.20/24 dev wire",
        ] {
            ip(words);
        }
        Self {
            share: tempfile::tempdir().unwrap(),
            path: path_with_uml_net(),
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.share.path().join(name)
    }

    /// A guest that takes an address, reaches the host, and stays until the file `done` is there.
    fn guest(&self, name: &str, address: &str) -> Running {
        let script = format!(
            "ip addr add {address}/24 dev eth0
             ip link set eth0 up
             until ping -c 1 -W 5 192.168.78.254; do :; done
             touch /mnt/{name}.up
             while [ ! -e /mnt/done ]; do sleep 0.1; done
             ip addr del {address}/24 dev eth0
             touch /mnt/{name}.deleted
             while [ ! -e /mnt/halt ]; do sleep 0.1; done
             ip addr add {address}/24 dev eth0"
        );
        Guest::new(name, self.share.path(), &script)
            .arg("eth0=tuntap,,,192.168.78.254")
            .env("PATH", self.path.path())
            .start()
    }
}

/// Echo requests until one is answered, from this host or from a machine of its network.
#[track_caller]
fn ping(from: Option<&str>, to: &str) {
    let busybox = installed("busybox", "busybox-static");
    let mut command = match from {
        Some(namespace) => {
            let mut command = Command::new(installed("ip", "iproute2"));
            command.args(["netns", "exec", namespace]).arg(busybox);
            command
        }
        None => Command::new(busybox),
    };
    command.args(["ping", "-c", "1", "-W", "5", to]);
    until(&format!("an answer of {to}"), || {
        (run(&mut command).code() == 0).then_some(())
    });
}

fn sysctl(name: &str) -> String {
    let path = Path::new("/proc/sys/net/ipv4").join(name);
    fs::read_to_string(path).unwrap().trim().to_owned()
}

/// What must be the same before and after.
fn snapshot() -> Vec<String> {
    let mut all: Vec<String> = [
        "link show",
        "addr show",
        "route show table all",
        "neigh show proxy",
    ]
    .iter()
    .map(|words| ip(words))
    .collect();
    for name in [
        "ip_forward",
        "conf/all/accept_redirects",
        "conf/default/forwarding",
        "conf/eth0/forwarding",
    ] {
        all.push(format!("{name} {}", sysctl(name)));
    }
    all.extend(
        fs::read_dir("/run/uml_net")
            .into_iter()
            .flatten()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .filter(|name| name != "lock"),
    );
    all
}

#[test]
fn two_guests_reach_the_host_its_network_and_each_other() {
    isolated(|| {
        let host = Host::new();
        let before = snapshot();
        let mut one = host.guest("one", "192.168.78.1");
        one.wait_for_file("one.up");
        ping(None, "192.168.78.1");
        assert!(ip("addr show tap0").contains("inet 192.168.78.254/32"));
        assert!(ip("route show").contains("192.168.78.1 dev tap0"));
        assert_eq!(sysctl("conf/tap0/proxy_arp"), "1");
        assert_eq!(sysctl("ip_forward"), "1");
        // The host answers for the guest on the network that its address belongs to.
        assert!(ip("neigh show proxy").contains("192.168.78.1 dev eth0"));
        ping(Some("lan"), "192.168.78.1");

        let mut two = host.guest("two", "192.168.78.2");
        two.wait_for_file("two.up");
        ping(None, "192.168.78.2");
        ping(Some("lan"), "192.168.78.2");
        ping(None, "192.168.78.1");
        assert!(ip("route show").contains("192.168.78.2 dev tap1"));

        fs::write(host.file("done"), "").unwrap();
        one.wait_for_file("one.deleted");
        two.wait_for_file("two.deleted");
        // Taps without addresses are all that is left.
        until("the last address to be gone", || {
            (sysctl("ip_forward") == "0").then_some(())
        });
        assert_eq!(ip("neigh show proxy"), "");
        assert!(!ip("route show").contains("dev tap"));
        assert_eq!(sysctl("conf/tap0/proxy_arp"), "0");

        fs::write(host.file("halt"), "").unwrap();
        let (console, one_died) = one.halted_or_died();
        for line in [
            "* ip tuntap add dev tap0 mode tap user 0",
            "* ip addr add 192.168.78.254/32 dev tap0",
            "* ip link set dev tap0 up",
            "* sysctl -w net.ipv4.ip_forward=1",
            "* ip route add 192.168.78.1/32 dev tap0",
            "* sysctl -w net.ipv4.conf.tap0.proxy_arp=1",
            "* ip neigh add proxy 192.168.78.1 dev eth0",
            "* ip neigh del proxy 192.168.78.1 dev eth0",
            "* ip route del 192.168.78.1/32 dev tap0",
        ] {
            assert!(console.contains(line), "{line}\n{console}");
        }
        let (_, two_died) = two.halted_or_died();
        if one_died || two_died {
            // The next call of anybody's puts right what the dead left.
            let _ = run(Command::new(ours("uml_net")).arg("--clean")).success();
        }
        // Each had an address when it halted.
        assert_eq!(snapshot(), before);
    });
}

#[test]
fn a_guest_that_may_have_no_tap_is_told_and_goes_on() {
    isolated(|| {
        let host = Host::new();
        let before = snapshot();
        let console = Guest::new("refused", host.share.path(), "ip link set eth0 up; true")
            .arg("eth0=tuntap,,,127.0.0.1")
            .env("PATH", host.path.path())
            .start()
            .halted();
        assert!(
            console.contains("uml_net: 127.0.0.1 is a loopback address"),
            "{console}"
        );
        assert_eq!(snapshot(), before);
    });
}
