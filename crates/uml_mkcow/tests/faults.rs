//! Killed at any moment, starved, on full and read-only file systems, with odd clocks.

use std::{
    fs::{self, File},
    path::Path,
    process::Command,
    time::{Duration, SystemTime},
};

use testkit::{
    bins::installed,
    cmd::run,
    faults::{at_each_moment, make_read_only, mount_tmpfs, starve, unmount, was_killed},
    names,
    netns::isolated,
};

fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_uml_mkcow"))
}

/// The system calls that change something, and the locks before them.
const CALLS: &str = "fcntl pwrite64 fsync renameat2 rename unlink fchmod fchown";

#[test]
fn killed_at_each_system_call_it_leaves_no_half_file() {
    for args in [&["cow", "back"][..], &["-f", "cow", "back"]] {
        let dir = tempfile::tempdir_in("/dev/shm").unwrap();
        let d = dir.path();
        let old = (args.len() == 3).then(|| vec![0x55; 20_000]);
        fs::write(d.join("back"), [7; 10_000]).unwrap();
        let mkcow = |args: &[&str]| run(Command::new(binary()).args(args).current_dir(d));
        let _ = mkcow(&["cow", "back"]).success();
        let whole = fs::read(d.join("cow")).unwrap();
        let kills = at_each_moment(CALLS, |moment| {
            fs::remove_file(d.join("cow")).unwrap();
            if let Some(old) = &old {
                fs::write(d.join("cow"), old).unwrap();
            }
            let mut command = moment.kills(binary());
            let killed = was_killed(&run(command.args(args).current_dir(d)));
            let left = fs::read(d.join("cow")).ok();
            assert!(
                left == old || left.as_ref() == Some(&whole),
                "half a file after {moment:?}"
            );
            let _ = mkcow(&["-f", "cow", "back"]).success();
            assert!(fs::read(d.join("cow")).unwrap() == whole);
            assert_eq!(names(d), ["back", "cow"], "after {moment:?}");
            killed
        });
        assert!(kills > 8, "{kills}");
    }
}

#[test]
fn a_file_system_that_cannot_rename_without_replacing_serves() {
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let d = dir.path();
    fs::write(d.join("back"), [7; 10_000]).unwrap();
    let mkcow = |rest: &str| {
        let mut command = Command::new(installed("strace", "strace"));
        command
            .args(["-qqq", "-o", "/dev/null"])
            .args(["-e", "trace=renameat2,linkat,unlink"])
            .args(["-e", "inject=renameat2:error=EINVAL"])
            .args(rest.split_whitespace())
            .arg(binary())
            .args(["cow", "back"])
            .current_dir(d);
        run(&mut command)
    };
    // Killed when the file has two names.
    assert!(was_killed(&mkcow("-e inject=unlink:signal=KILL")));
    assert_eq!(names(d).len(), 3);
    let refused = mkcow("");
    assert_eq!(refused.err(), "open COW file: File exists\n");
    let _ = run(Command::new(binary())
        .args(["-f", "cow", "back"])
        .current_dir(d))
    .success();
    assert_eq!(names(d), ["back", "cow"]);
    fs::remove_file(d.join("cow")).unwrap();
    let _ = mkcow("").success();
    assert_eq!(names(d), ["back", "cow"]);
}

#[test]
fn starved_it_makes_the_whole_file_or_none() {
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let d = dir.path();
    fs::write(d.join("back"), [7; 10_000]).unwrap();
    let mut made = 0;
    starve(
        binary(),
        |command| {
            command.args(["cow", "back"]).current_dir(d);
        },
        |limit, finished| {
            let whole = fs::metadata(d.join("cow")).is_ok_and(|cow| cow.len() == 22_288);
            assert_eq!(finished.status.success(), whole, "{limit}");
            made += usize::from(whole);
            if whole {
                fs::remove_file(d.join("cow")).unwrap();
            }
            assert_eq!(names(d), ["back"], "{limit}");
        },
    );
    assert!(made >= 2, "{made}");
}

#[test]
fn full_and_read_only_file_systems_are_told() {
    isolated(|| {
        let dir = tempfile::tempdir().unwrap();
        let small = mount_tmpfs(&dir.path().join("small"), "size=16k");
        fs::write(small.join("back"), [7; 4096]).unwrap();
        fs::write(small.join("filler"), [7; 8192]).unwrap();
        let mkcow = || {
            run(Command::new(binary())
                .args(["cow", "back"])
                .current_dir(&small))
        };
        let full = mkcow();
        assert_eq!(full.code(), 1);
        assert!(
            full.err().ends_with("No space left on device\n"),
            "{}",
            full.err()
        );
        assert_eq!(names(&small), ["back", "filler"]);
        make_read_only(&small);
        let refused = mkcow();
        assert_eq!(refused.code(), 1);
        assert!(
            refused.err().ends_with("Read-only file system\n"),
            "{}",
            refused.err()
        );
        unmount(&small);
    });
}

#[test]
fn times_that_a_cow_file_cannot_hold_are_refused() {
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let d = dir.path();
    fs::write(d.join("back"), [7; 10_000]).unwrap();
    let changed_at = |time: SystemTime| {
        let file = File::options().write(true).open(d.join("back")).unwrap();
        file.set_modified(time).unwrap();
        run(Command::new(binary())
            .args(["-f", "cow", "back"])
            .current_dir(d))
    };
    let epoch = SystemTime::UNIX_EPOCH;
    let last = Duration::from_secs(u32::MAX.into());
    for (time, seconds) in [(epoch, 0), (epoch + last, u32::MAX)] {
        let _ = changed_at(time).success();
        assert_eq!(
            fs::read(d.join("cow")).unwrap()[8..12],
            seconds.to_be_bytes()
        );
    }
    let whole = fs::read(d.join("cow")).unwrap();
    let second = Duration::from_secs(1);
    for time in [epoch - second, epoch + last + second] {
        let refused = changed_at(time);
        assert_eq!(refused.code(), 1);
        assert!(
            refused
                .err()
                .ends_with("a COW file holds 0 to 4294967295\n"),
            "{}",
            refused.err()
        );
        assert!(fs::read(d.join("cow")).unwrap() == whole);
    }
}
