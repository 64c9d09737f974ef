//! All tools at once, as their users have them: four guests on one backing file, on one network.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test")]

use std::{
    fs::{self, File},
    path::PathBuf,
    process::Command,
};

use guests::{assert_clean, mconsole, path_with_uml_net, prepare_host};
use nix::sys::signal::Signal;
use tempfile::TempDir;
use testkit::{
    bins::{installed, ours},
    cmd::{Finished, run},
    guest::{Guest, Running},
    image,
    netns::{ip, isolated},
    switch::Switch,
    until,
};

/// The size of the disks: room for a file of 64 MiB beside what the root image holds.
const DISK_BYTES: u64 = 160 << 20;

/// What a guest does: the commands that the host leaves for it, one file after the other.
const OBEY: &str = "cd /mnt
number=0
while :; do
    if [ -e $NAME.$number ]; then
        sh $NAME.$number >$NAME.$number.said 2>&1
        echo $? >$NAME.$number.new
        mv $NAME.$number.new $NAME.$number.status
        number=$((number + 1))
    else
        sleep 0.05
    fi
done
";

struct Lab {
    dir: TempDir,
    uml_net: TempDir,
}

impl Lab {
    fn new() -> Self {
        prepare_host();
        Self {
            dir: tempfile::tempdir().unwrap(),
            uml_net: path_with_uml_net(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn shown(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    #[track_caller]
    fn tool(&self, name: &str, args: &[&str]) -> Finished {
        let mut command = Command::new(ours(name));
        run(command.args(args).current_dir(self.dir.path())).success()
    }

    /// The backing file of all disks.
    fn make_root(&self) {
        let root = self.path("root.img");
        fs::copy(image::root(), &root).unwrap();
        let file = File::options().write(true).open(&root).unwrap();
        file.set_len(DISK_BYTES).unwrap();
        drop(file);
        let mut resize = Command::new(installed("resize2fs", "e2fsprogs"));
        let _ = run(resize.arg(&root)).success();
    }

    /// A disk over the backing file, as the kernel is told of it.
    fn disk(&self, name: &str) -> String {
        let cow = format!("{name}.cow");
        let made = self.tool("uml_mkcow", &[&cow, "root.img"]);
        assert_eq!((made.out(), made.err()), (String::new(), String::new()));
        format!("{},{}", self.shown(&cow), self.shown("root.img"))
    }

    fn switch(&self) -> Switch {
        let args = ["-tap", "tap0", "-bess", "bess", "-unix", "ctl"];
        Switch::start(&ours("uml_switch"), self.dir.path(), &args)
    }

    /// A guest with a disk of its own that obeys, with this on its command line.
    fn guest(&self, name: &'static str, words: &[String]) -> Station<'_> {
        let mut guest = Guest::new(name, self.dir.path(), &format!("NAME={name}\n{OBEY}"))
            .root_disk(&self.disk(name))
            .env("PATH", self.uml_net.path());
        for word in words {
            guest = guest.arg(word);
        }
        Station {
            lab: self,
            name,
            running: guest.start(),
            told: 0,
        }
    }

    /// What the guests' own disks hold now goes into an image of that name.
    #[track_caller]
    fn merge(&self, name: &str) -> PathBuf {
        let image = format!("{name}.img");
        let merged = self.tool("uml_moo", &[&format!("{name}.cow"), &image]);
        assert_eq!((merged.out(), merged.err()), (String::new(), String::new()));
        self.path(&image)
    }
}

/// A guest that obeys.
struct Station<'a> {
    lab: &'a Lab,
    name: &'static str,
    running: Running,
    told: usize,
}

impl Station<'_> {
    /// Leaves commands for the guest; it begins at once.
    fn tell(&mut self, commands: &str) {
        let order = self.lab.path(&format!("{}.{}", self.name, self.told));
        let draft = order.with_extension("draft");
        fs::write(&draft, format!("set -e\n{commands}\n")).unwrap();
        fs::rename(draft, order).unwrap();
        self.told += 1;
    }

    /// Waits until the guest has done what it was told last, and returns what its commands said.
    #[track_caller]
    fn done(&mut self) -> String {
        let order = format!("{}.{}", self.name, self.told - 1);
        self.running.wait_for_file(&format!("{order}.status"));
        let read = |what| fs::read_to_string(self.lab.path(&format!("{order}.{what}"))).unwrap();
        let said = read("said");
        let console = self.running.console();
        assert_eq!(read("status"), "0\n", "guest {order}: {said}\n{console}");
        said
    }

    #[track_caller]
    fn ask(&mut self, commands: &str) -> String {
        self.tell(commands);
        self.done()
    }

    /// Asks the guest's kernel by its management console.
    #[track_caller]
    fn console(&self, command: &str) {
        let asked = run(mconsole(self.lab.dir.path()).args([self.name, command]));
        let answer = (asked.out(), asked.err(), asked.code());
        assert_eq!(answer, ("OK \n".into(), String::new(), 0), "{command}");
    }

    /// Gives the guest's device its address: 10.77.0.NUMBER.
    #[track_caller]
    fn up(&mut self, device: &str, number: u8) {
        self.ask(&format!(
            "ip addr add 10.77.0.{number}/24 dev {device}; ip link set {device} up"
        ));
    }

    /// Takes the guest's device out and plugs it in again, as a user does whose switch went away.
    #[track_caller]
    fn replug(&mut self, word: &str, number: u8) {
        self.ask("ip link set eth0 down");
        self.console("remove eth0");
        self.console(&format!("config eth0={word}"));
        self.up("eth0", number);
    }

    /// Fetches the file of guest 10.77.0.NUMBER, and serves it to others.
    #[track_caller]
    fn copy_from(&mut self, number: u8) {
        self.ask(&format!(
            "until ping -c 1 -W 1 10.77.0.{number}; do :; done
             mkdir /www
             wget -q -O /www/data http://10.77.0.{number}/data
             httpd -h /www"
        ));
    }
}

/// Prints the sum of the first 16 MiB of a file.
const SUM_OF_A_PART: &str = "head -c $((16 << 20)) | md5sum";

/// Commands that print the sum of the file's first part as guest 10.77.0.NUMBER serves it.
fn sum_by_network(number: u8) -> String {
    format!(
        "until ping -c 1 -W 1 10.77.0.{number} >/dev/null; do :; done
         wget -q -O - http://10.77.0.{number}/data | {SUM_OF_A_PART}"
    )
}

#[test]
fn four_guests_share_a_backing_file_and_a_network_and_outlive_the_switch() {
    isolated(|| {
        let lab = Lab::new();
        lab.make_root();
        let root = fs::read(lab.path("root.img")).unwrap();
        let made = lab.tool("tunctl", &["-u", "root", "-t", "tap0"]);
        assert_eq!(made.out(), "Set 'tap0' persistent and owned by uid 0\n");
        ip("addr add 10.77.0.9/24 dev tap0");
        ip("link set tap0 up");
        let mut switch = lab.switch();

        // The third has no network until it is plugged in.
        let control = lab.shown("ctl");
        let daemon = |number| format!("daemon,02:00:00:00:00:{number:02x},unix,{control}");
        let bess = lab.shown("bess");
        let bess = format!("vec0:transport=bess,dst={bess},depth=128,mac=02:00:00:00:00:02");
        let mut one = lab.guest("one", &[format!("eth0={}", daemon(1))]);
        let mut two = lab.guest("two", &[bess]);
        let mut three = lab.guest("three", &[]);
        let mut four = lab.guest("four", &["eth0=tuntap,,,10.77.0.254".into()]);
        one.up("eth0", 1);
        two.up("vec0", 2);
        three.console(&format!("config eth0={}", daemon(3)));
        three.up("eth0", 3);
        four.up("eth0", 4);
        // The host answers for the fourth on the switch's network.
        assert!(ip("neigh show proxy").contains("10.77.0.4 dev tap0"));

        // A file goes from each to the next, the last time by the host's two taps.
        one.ask("mkdir /www; head -c $((64 << 20)) /dev/urandom >/www/data; httpd -h /www");
        let sum = one.ask("md5sum </www/data");
        two.copy_from(1);
        three.copy_from(2);
        four.copy_from(3);

        // A second disk comes and goes.
        let extra = lab.disk("extra");
        one.console(&format!("config ubd1={extra}"));
        one.ask(
            "mkdir /tmp/extra; mount /dev/ubdb /tmp/extra
             mkdir /tmp/extra/www; cp /www/data /tmp/extra/www; umount /tmp/extra",
        );
        one.console("remove ubd1");
        one.ask("while [ -e /sys/block/ubdb ]; do sleep 0.1; done");
        assert_clean(&lab.merge("extra"));

        // The switch dies and comes back.
        assert_eq!(switch.stop(Signal::SIGKILL), 137);
        let mut switch = lab.switch();
        one.replug(&daemon(1), 1);
        two.ask("ip link set vec0 down; ip link set vec0 up");
        three.replug(&daemon(3), 3);
        let mut ring = [
            (&mut one, 4),
            (&mut two, 1),
            (&mut three, 2),
            (&mut four, 3),
        ];
        let part = ring[0].0.ask(&format!("</www/data {SUM_OF_A_PART}"));
        for (station, from) in &mut ring {
            station.tell(&sum_by_network(*from));
        }
        for (station, _) in &mut ring {
            assert_eq!(station.done(), part, "guest {}", station.name);
        }

        let stations = [one, two, three, four];
        let mut names = stations.each_ref().map(|station| station.name);
        let mut running = stations.map(|mut station| {
            station.ask("killall httpd; sync; mount -o remount,ro /");
            station.running
        });
        let halted = run(mconsole(lab.dir.path()).args(["--all", "halt"])).success();
        names.sort_unstable();
        assert_eq!(
            halted.out(),
            names.map(|name| format!("{name}: OK \n")).concat()
        );
        for guest in &mut running {
            until("the guest's end", || guest.try_wait());
        }
        assert_eq!(switch.stop(Signal::SIGTERM), 143);
        let _ = lab.tool("tunctl", &["-d", "tap0"]);
        // Some of the fourth guest's processes may still be going, with its tap.
        until("the taps to go", || {
            (!ip("link show").contains("tap")).then_some(())
        });

        // Each disk by itself, the last one into the backing file.
        assert!(fs::read(lab.path("root.img")).unwrap() == root);
        let mut images = ["one", "two", "three"].map(|name| lab.merge(name)).to_vec();
        let _ = lab.tool("uml_moo", &["-d", "four.cow"]);
        images.extend([lab.path("extra.img"), lab.path("root.img")]);
        let check = format!("[ \"$(md5sum </www/data)\" = '{}' ]", sum.trim_end());
        let boots = images.iter().enumerate().map(|(number, image)| {
            assert_clean(image);
            Guest::new(&format!("check{number}"), lab.dir.path(), &check)
                .root_disk(&image.display().to_string())
                .start()
        });
        for guest in boots.collect::<Vec<_>>() {
            guest.halted();
        }
    });
}
