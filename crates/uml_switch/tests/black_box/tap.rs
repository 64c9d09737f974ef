//! Tap devices: several, down and up, with long frames, deleted.

use std::{
    fs,
    process::{Command, Stdio},
    time::Duration,
};

use testkit::{
    PATIENCE,
    bins::installed,
    cmd::run,
    netns::{ip, isolated},
    switch::{BROADCAST, Plug, station},
    until,
};

use crate::{BINARY, Lab};

/// How long an answer may take before the question is asked again.
const SOON: Duration = Duration::from_millis(500);

/// An ARP request of station 1, 10.9.N.2, for 10.9.N.1.
fn arp_request(network: u8) -> Vec<u8> {
    let mut arp = vec![0, 1, 8, 0, 6, 4, 0, 1];
    arp.extend(station(1));
    arp.extend([10, 9, network, 2]);
    arp.extend([0; 6]);
    arp.extend([10, 9, network, 1]);
    [&BROADCAST[..], &station(1), &[8, 6], &arp].concat()
}

/// Asks for the address of a tap device until it answers.
#[track_caller]
fn reaches(guest: &Plug, network: u8) {
    guest.data.set_read_timeout(Some(SOON)).unwrap();
    until("an answer to ARP", || {
        guest.send(&arp_request(network));
        let mut answer = [0; 2048];
        let length = guest.data.recv(&mut answer).ok()?;
        // The sender's address in it.
        (answer.get(28..32)? == [10, 9, network, 1] && length >= 42).then_some(())
    });
    guest.data.set_read_timeout(Some(PATIENCE)).unwrap();
    while guest.has_frame() {
        let _ = guest.recv();
    }
}

#[test]
fn tap_devices_come_and_go() {
    isolated(|| {
        fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1").unwrap();
        let mut lab = Lab::new(&["-tap", "tap1", "-tap", "tap2"]);
        for network in ["1", "2"] {
            ip(&format!("addr add 10.9.{network}.1/24 dev tap{network}"));
            ip(&format!("link set tap{network} mtu 9000 up"));
        }
        let guest = lab.plug();
        reaches(&guest, 1);
        reaches(&guest, 2);
        ip("link set tap1 down");
        reaches(&guest, 2);
        ip("link set tap1 up");
        reaches(&guest, 1);

        ip("neigh replace 10.9.1.2 lladdr 02:00:00:00:00:01 dev tap1");
        let mut ping = Command::new(installed("busybox", "busybox-static"))
            .args(["ping", "-s", "8000", "10.9.1.2"])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        // 14 bytes of Ethernet, 20 of IP, 8 of ICMP before what is sent.
        while guest.recv().len() != 8042 {}
        ping.kill().unwrap();
        ping.wait().unwrap();

        ip("link del tap1");
        lab.switch.wait_for("Disconnect");
        while guest.has_frame() {
            let _ = guest.recv();
        }
        reaches(&guest, 2);
        lab.works();
    });
}

#[test]
fn a_tap_that_the_user_may_not_make_is_told_with_a_way_out() {
    isolated(|| {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new(installed("setpriv", "util-linux"));
        command
            .args(["--bounding-set=-net_admin", BINARY, "-tap", "tap9"])
            .args(["-unix", "ctl"])
            .current_dir(dir.path());
        let refused = run(&mut command);
        assert_eq!(refused.code(), 1);
        assert_eq!(
            refused.err(),
            "tap device 'tap9' (root makes it for an unprivileged user: tunctl -u USER \
             -t DEVICE): attaching to tap9: Operation not permitted\n"
        );
        assert!(!dir.path().join("ctl").exists());
    });
}
