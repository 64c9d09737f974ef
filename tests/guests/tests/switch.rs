//! Real guests that talk through the switch: by each kind of link, and by all at once with a tap.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::{fmt::Write as _, fs, path::PathBuf, process::Command};

use nix::sys::signal::Signal;
use tempfile::TempDir;
use testkit::{
    bins::{installed, ours},
    cmd::run,
    guest::{Guest, Running},
    netns::{ip, isolated},
    switch::Switch,
    until,
};

/// A guest makes a file of some MiB, writes its sum, and serves it until it is killed.
const SERVE: &str = "set -e
mkdir /tmp/www
for i in 1 2 3 4 5 6; do cat /bin/busybox; echo $i; done >/tmp/www/data
md5sum </tmp/www/data >/mnt/sent
httpd -f -h /tmp/www
";

/// Another fetches it as soon as it is there, and writes the sum of what it got.
const FETCH: &str = "set -e
until ping -c 1 -W 1 10.77.0.1; do :; done
until wget -O /tmp/got http://10.77.0.1/data; do sleep 0.2; done
md5sum </tmp/got >/mnt/received
";

struct Lab {
    dir: TempDir,
}

impl Lab {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn switch(&self, args: &[&str]) -> Switch {
        Switch::start(&ours("uml_switch"), self.dir.path(), args)
    }

    /// A guest with the address 10.77.0.N on this device, which the word on its command line makes.
    fn guest(&self, number: u8, device: &str, word: &str, script: &str) -> Running {
        let umid = format!("{device}-{number}");
        // Down and up again: by bess that is another connection.
        let script = format!(
            "ip addr add 10.77.0.{number}/24 dev {device}\n\
             for state in up down up; do ip link set {device} $state; done\n{script}"
        );
        Guest::new(&umid, self.dir.path(), &script)
            .arg(word)
            .start()
    }

    fn daemon(&self, number: u8, script: &str) -> Running {
        let control = self.path("ctl");
        let mac = format!("02:00:00:00:00:{number:02x}");
        let word = format!("eth0=daemon,{mac},unix,{}", control.display());
        self.guest(number, "eth0", &word, script)
    }

    fn vde(&self, number: u8, script: &str) -> Running {
        let dir = self.path("vde");
        let word = format!("eth0=vde,{},02:00:00:00:00:{number:02x}", dir.display());
        self.guest(number, "eth0", &word, script)
    }

    fn bess(&self, number: u8, script: &str) -> Running {
        let path = self.path("bess");
        let word = format!(
            "vec0:transport=bess,dst={},depth=128,mac=02:00:00:00:00:{number:02x}",
            path.display()
        );
        self.guest(number, "vec0", &word, script)
    }
}

/// Two guests by the same kind of link: one fetches a file from the other.
fn fetch(lab: &Lab, args: &[&str], guest: impl Fn(&Lab, u8, &str) -> Running) {
    let mut switch = lab.switch(args);
    let server = guest(lab, 1, SERVE);
    let client = guest(lab, 2, FETCH);
    client.halted();
    let sum = |name: &str| fs::read_to_string(lab.path(name)).unwrap();
    assert_eq!(sum("sent"), sum("received"));
    server.kill();
    switch.wait_for_times("Disconnect", 2);
    assert_eq!(switch.stop(Signal::SIGINT), 130);
}

#[test]
fn daemon_guests_send_a_file() {
    fetch(&Lab::new(), &["-unix", "ctl"], Lab::daemon);
}
#[test]
fn bess_guests_send_a_file() {
    let args = ["-unix", "ctl", "-bess", "bess"];
    fetch(&Lab::new(), &args, Lab::bess);
}

#[test]
fn vde_guests_send_a_file() {
    let args = ["-unix", "ctl", "-vde", "vde"];
    fetch(&Lab::new(), &args, Lab::vde);
}

/// What a guest does that is to reach all others: it waits until each answers, says so, and
/// stays until all have.
fn reach_all(name: &str, numbers: &[u8]) -> String {
    let mut script = "set -e\n".to_owned();
    for number in numbers {
        let ping = format!("ping -c 1 -W 1 10.77.0.{number}");
        let _ = writeln!(script, "until {ping}; do :; done");
    }
    let _ = writeln!(script, "touch /mnt/{name}.reached");
    script + "while [ ! -e /mnt/all.reached ]; do sleep 0.1; done\n"
}

#[test]
fn all_kinds_of_guests_and_a_tap_reach_each_other() {
    isolated(|| {
        let lab = Lab::new();
        let mut switch = lab.switch(&[
            "-tap", "tap0", "-unix", "ctl", "-bess", "bess", "-vde", "vde",
        ]);
        ip("addr add 10.77.0.9/24 dev tap0");
        ip("link set tap0 up");
        let mut guests = [
            lab.daemon(1, &reach_all("daemon", &[2, 3, 9])),
            lab.bess(2, &reach_all("bess", &[1, 3, 9])),
            lab.vde(3, &reach_all("vde", &[1, 2, 9])),
        ];
        for (guest, name) in guests.iter_mut().zip(["daemon", "bess", "vde"]) {
            guest.wait_for_file(&format!("{name}.reached"));
        }
        let busybox = installed("busybox", "busybox-static");
        for number in 1..=3 {
            until(&format!("an answer of guest {number}"), || {
                let mut ping = Command::new(&busybox);
                ping.args(["ping", "-c", "1", "-W", "1", &format!("10.77.0.{number}")]);
                run(&mut ping).status.success().then_some(())
            });
        }
        fs::write(lab.path("all.reached"), "").unwrap();
        for guest in guests {
            guest.halted();
        }
        switch.wait_for_times("Disconnect", 3);
        assert_eq!(switch.stop(Signal::SIGINT), 130);
        let left: Vec<_> = ["ctl", "bess", "vde/ctl"]
            .into_iter()
            .filter(|name| lab.path(name).exists())
            .collect();
        assert_eq!(left, [""; 0]);
    });
}
