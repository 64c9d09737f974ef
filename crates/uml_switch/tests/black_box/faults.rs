//! Kills, too little of everything, missing devices; and what needs a `/dev` or a `/tmp` of its own.

use std::{
    fs,
    os::unix::net::{UnixDatagram, UnixStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use nix::sys::{
    signal::{Signal, kill},
    stat::{Mode, SFlag, makedev, mknod},
};
use testkit::{
    PATIENCE,
    cmd::{Finished, run},
    faults::{at_each_moment, limited, make_read_only, mount_tmpfs, starve, unmount},
    netns::isolated,
    switch::{
        Plug, Switch, Version, connect, frame, fresh_address, request, station, uninterrupted,
        wait_for_close,
    },
    until,
};

use crate::{BINARY, Lab, broadcast, exchange, lifecycle::pid_in, links::packets, say_hello};

/// Runs a switch to its end in that folder.
fn switch(dir: &Path, args: &[&str]) -> Finished {
    run(Command::new(BINARY).args(args).current_dir(dir))
}

#[test]
fn killed_at_each_step_of_its_start_it_stands_in_nobodys_way() {
    const CALLS: &str = "bind listen mkdir flock write rename epoll_wait";
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let d = dir.path();
    let args = [
        "-unix",
        "ctl",
        "-bess",
        "bess",
        "-vde",
        "vde",
        "--pidfile",
        "pid",
    ];
    let kills = at_each_moment(CALLS, |moment| {
        let mut command = moment.kills(Path::new(BINARY));
        command.args(args);
        let mut victim = Switch::launch(d, command, Stdio::null());
        // One that comes to wait for guests has done all its calls.
        let waits = moment.call == "epoll_wait";
        let killed = until("a kill or the switch's pidfile", || {
            let ended = victim.try_wait().is_some();
            (ended || (!waits && d.join("pid").exists())).then_some(ended)
        });
        if !killed {
            // The tracer ends when it has seen the end of the switch, whose sockets are closed then.
            kill(pid_in(&d.join("pid")), Signal::SIGKILL).unwrap();
            victim.wait();
        }
        drop(victim);
        let mut next = Switch::start(Path::new(BINARY), d, &args);
        drop(Plug::new(&d.join("ctl"), Version::V3));
        drop(Plug::new(&d.join("vde/ctl"), Version::V3));
        drop(packets(&d.join("bess")));
        next.wait_for_times("New connection", 3);
        until("the pidfile", || {
            let text = fs::read_to_string(d.join("pid")).ok()?;
            (!text.is_empty()).then_some(())
        });
        assert_eq!(next.stop(Signal::SIGTERM), 128 + 15, "{}", next.errors());
        let left = fs::read_dir(d).unwrap().map(|entry| entry.unwrap().path());
        let left: Vec<PathBuf> = left.collect();
        assert_eq!(left, [d.join("vde")], "after {moment:?}");
        assert_eq!(fs::read_dir(&left[0]).unwrap().count(), 0);
        // It would wait for ever for a second time.
        killed && !waits
    });
    assert!(kills > 12, "{kills}");
}

#[test]
fn starved_it_serves_or_says_why_not() {
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let d = dir.path();
    let mut served = 0;
    starve(
        Path::new(BINARY),
        |command| {
            command.args(["-daemon", "--pidfile", "pid", "-unix", "ctl"]);
            command.current_dir(d);
        },
        |limit, finished| {
            if finished.status.success() {
                let pid = fs::read_to_string(d.join("pid")).unwrap();
                // With its last descriptors it may have room for nobody.
                drop(connect(&d.join("ctl")));
                let _ = run(Command::new("kill").arg(pid.trim_end())).success();
                until("the end of the switch", || {
                    (!d.join("pid").exists()).then_some(())
                });
                served += 1;
            }
            let left = fs::read_dir(d).unwrap().count();
            assert_eq!(left, 0, "{limit}: {}", finished.err());
        },
    );
    assert!(served >= 2, "{served}");
}

/// Has more frames wait for guests that don't read than a switch may keep that is allowed 64 MiB.
fn overfill(lab: &mut Lab) {
    const LENGTH: usize = 60_000;
    let deaf: Vec<_> = (10..40).map(|number| (number, lab.plug())).collect();
    let sender = lab.plug();
    for (number, guest) in &deaf {
        say_hello(guest, *number);
    }
    for (number, _) in &deaf {
        let mut long = frame(station(*number), station(1), &[]);
        long.resize(LENGTH, 0x77);
        for _ in 0..100 {
            sender.send(&long);
        }
    }
    lab.works();
    lab.switch.signal(Signal::SIGUSR1);
    lab.switch.wait_for(" waiting");
    let log = lab.switch.log();
    let total = log.lines().find(|line| line.ends_with(" waiting")).unwrap();
    assert!(total.contains(" queue full"), "{total}");
    let waiting = total.rsplit(", ").next().unwrap();
    let waiting: usize = waiting.strip_suffix(" waiting").unwrap().parse().unwrap();
    // Each may have a short one of the new guests too.
    let waiting = waiting - deaf.len();
    assert!(waiting > 100 && waiting * LENGTH <= 16 << 20, "{total}");
    drop(deaf);
    lab.works();
    assert_eq!(lab.switch.errors(), "");
}

#[test]
fn under_a_limit_of_memory_frames_are_lost_and_the_switch_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = limited(&["--as=67108864"], Path::new(BINARY));
    command.args(["--flow-wait", "0", "-unix", "ctl"]);
    let mut switch = Switch::launch(dir.path(), command, Stdio::null());
    switch.wait_for("attached to");
    overfill(&mut Lab { switch, dir });
}

#[test]
fn the_limit_of_a_control_group_counts_too() {
    isolated(|| {
        let mount = mount_tmpfs(Path::new("/sys/fs/cgroup"), "mode=755");
        for line in fs::read_to_string("/proc/self/cgroup").unwrap().lines() {
            let path = line.rsplit(":/").next().unwrap();
            for (root, file) in [("", "memory.max"), ("memory", "memory.limit_in_bytes")] {
                let group = mount.join(root).join(path);
                fs::create_dir_all(&group).unwrap();
                fs::write(group.join(file), "67108864\n").unwrap();
            }
        }
        overfill(&mut Lab::new(&["--flow-wait", "0"]));
    });
}

#[test]
fn without_the_tun_device_nothing_is_left_behind() {
    isolated(|| {
        mount_tmpfs(Path::new("/dev/net"), "mode=755");
        let dir = tempfile::tempdir().unwrap();
        let refused = switch(dir.path(), &["-unix", "ctl", "-bess", "b", "-tap", "tap0"]);
        assert_eq!(refused.code(), 1);
        let words = "opening '/dev/net/tun': No such file or directory";
        assert!(refused.err().contains(words), "{}", refused.err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    });
}

#[test]
fn full_and_read_only_file_systems_are_told() {
    isolated(|| {
        let dir = tempfile::tempdir().unwrap();
        let small = mount_tmpfs(&dir.path().join("small"), "size=4k");
        fs::write(small.join("filler"), [7; 4096]).unwrap();
        let refused = switch(&small, &["-unix", "ctl", "--pidfile", "pid"]);
        assert_eq!(refused.code(), 1);
        assert!(
            refused.err().contains("No space left on device"),
            "{}",
            refused.err()
        );
        let left = fs::read_dir(&small).unwrap().map(|entry| entry.unwrap());
        let left: Vec<_> = left.map(|entry| entry.file_name()).collect();
        assert_eq!(left, ["filler"]);

        // A log on a full disk is no reason to stop.
        let mut command = Command::new("sh");
        let script = format!("exec {BINARY} -unix ctl >log 2>&1");
        command.args(["-c", &script]);
        let mut deaf = Switch::launch(&small, command, Stdio::null());
        let control = small.join("ctl");
        until("the control socket", || UnixStream::connect(&control).ok());
        let (one, other) = (
            Plug::new(&control, Version::V3),
            Plug::new(&control, Version::V3),
        );
        say_hello(&one, 1);
        say_hello(&other, 2);
        exchange(&one, 1, &other, 2, b"all the same");
        assert_eq!(deaf.stop(Signal::SIGTERM), 128 + 15);
        assert!(!control.exists());

        make_read_only(&small);
        for args in [
            &["-unix", "ctl"][..],
            &["-unix", "../ctl", "-bess", "bess"],
            &["-unix", "../ctl", "-vde", "vde"],
            &["-unix", "../ctl", "--pidfile", "pid"],
        ] {
            let refused = switch(&small, args);
            assert_eq!(refused.code(), 1, "{args:?}");
            assert!(
                refused.err().contains("Read-only file system"),
                "{args:?}: {}",
                refused.err()
            );
            assert!(!dir.path().join("ctl").exists(), "{args:?}");
        }
        unmount(&small);
    });
}

#[test]
fn the_control_socket_is_in_tmp_when_none_is_named() {
    isolated(|| {
        let tmp = mount_tmpfs(Path::new("/tmp"), "mode=1777");
        let mut switch = Switch::start(Path::new(BINARY), Path::new("/"), &["-compat-v0"]);
        switch.wait_for("attached to unix sockets '/tmp/uml.ctl' and '/tmp/uml.data'");
        let old = Plug::v0(&tmp.join("uml.ctl"), &tmp.join("uml.data"));
        switch.wait_for("New connection");
        let new = Plug::new(&tmp.join("uml.ctl"), Version::V3);
        new.send(&broadcast(1, b"hello"));
        assert_eq!(old.recv(), broadcast(1, b"hello"));
        assert_eq!(switch.stop(Signal::SIGINT), 128 + 2);
        assert!(!tmp.join("uml.ctl").exists() && !tmp.join("uml.data").exists());
        let switch = Switch::start(Path::new(BINARY), Path::new("/"), &[]);
        drop(Plug::new(&tmp.join("uml.ctl"), Version::V3));
        assert!(!tmp.join("uml.data").exists());
        drop(switch);
    });
}

#[test]
fn the_log_goes_to_syslog() {
    isolated(|| {
        let dir = tempfile::tempdir().unwrap();
        let dev = mount_tmpfs(Path::new("/dev"), "mode=755");
        let kind = SFlag::S_IFCHR;
        let all = Mode::from_bits_truncate(0o666);
        mknod(&dev.join("null"), kind, all, makedev(1, 3)).unwrap();
        let args = ["--syslog", "-v", "-unix", "ctl"];
        let refused = switch(dir.path(), &args);
        assert_eq!(refused.code(), 1);
        let words = "opening '/dev/log': No such file or directory";
        assert!(refused.err().contains(words), "{}", refused.err());

        let syslog = UnixDatagram::bind(dev.join("log")).unwrap();
        syslog.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut command = Command::new(BINARY);
        command.args(args);
        let switch = Switch::launch(dir.path(), command, Stdio::null());
        let pid = switch.pid();
        let next = || {
            let mut text = [0; 1024];
            let length = uninterrupted(|| syslog.recv(&mut text)).unwrap();
            String::from_utf8(text[..length].to_vec()).unwrap()
        };
        let line = |priority: u8, text: &str| format!("<{priority}>uml_switch[{pid}]: {text}");
        assert_eq!(
            next(),
            line(30, &format!("{BINARY} attached to unix socket 'ctl'"))
        );
        let guest = Plug::new(&dir.path().join("ctl"), Version::V3);
        assert_eq!(next(), line(30, "New connection"));
        assert!(next().starts_with(&line(30, "Port 1: @")));
        // Problems are warnings.
        let mut strange = request(Version::V3, 0, &fresh_address());
        strange[4] = 2;
        let mut stream = connect(&dir.path().join("ctl"));
        std::io::Write::write_all(&mut stream, &strange).unwrap();
        wait_for_close(&mut stream);
        assert_eq!(next(), line(28, "Version 2 is not supported"));
        // Nobody reads the log any more, then there is none.
        for _ in 0..500 {
            drop(Plug::new(&dir.path().join("ctl"), Version::V3));
        }
        drop(syslog);
        let other = Plug::new(&dir.path().join("ctl"), Version::V3);
        say_hello(&guest, 1);
        say_hello(&other, 2);
        exchange(&guest, 1, &other, 2, b"all the same");
        // Its daemon is started again.
        fs::remove_file(dev.join("log")).unwrap();
        let again = UnixDatagram::bind(dev.join("log")).unwrap();
        again.set_nonblocking(true).unwrap();
        drop(other);
        let disconnect = line(30, "Disconnect");
        let mut text = [0; 1024];
        until("a line of the log", || {
            // Again and again: a child of another test may have the old socket too, until it runs,
            // and lines go there so long.
            drop(Plug::new(&dir.path().join("ctl"), Version::V3));
            // Other lines may come first.
            let length = again.recv(&mut text).ok()?;
            (text[..length] == *disconnect.as_bytes()).then_some(())
        });
        assert_eq!(
            (switch.log(), switch.errors()),
            (String::new(), String::new())
        );
    });
}
