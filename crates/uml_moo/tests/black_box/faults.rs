//! Full disks, unreadable files, files that change, locks, signals.

use std::{
    fs::{self, File, OpenOptions},
    io::Read as _,
    os::unix::fs::FileExt as _,
    path::Path,
    process::{Command, Stdio},
};

use nix::{sys::stat::Mode, unistd::mkfifo};
use testkit::{
    bins,
    cmd::run,
    faults::{
        at_each_moment, make_read_only, mount_tmpfs, remount_tmpfs, starve, unmount, was_killed,
    },
    netns::isolated,
};
use uml_core::cow::{LockKind, lock::lock};

use crate::support::{Disk, JOURNAL, Place, noise, set_mtime, write_backing};

#[test]
fn a_full_disk_leaves_the_old_image() {
    isolated(|| {
        let disk = Disk::busy(4);
        let place = Place::new(&disk);
        mount_tmpfs(&place.at("small"), "size=1024k");
        fs::write(place.at("small/new"), "old").unwrap();
        let finished = place.moo(&["cow", "small/new"]);
        assert_eq!(finished.code(), 1);
        let words = "uml_moo: writing 'small/new': No space left on device\n";
        assert_eq!(finished.err(), words);
        assert_eq!(place.read("small/new"), b"old");
        assert_eq!(fs::read_dir(place.at("small")).unwrap().count(), 1);
        remount_tmpfs(&place.at("small"), "size=8192k");
        place.ok(&["cow", "small/new"]);
        assert!(place.read("small/new") == disk.merged());
        unmount(&place.at("small"));
    });
}

#[test]
fn a_disk_that_fills_in_the_middle_of_a_merge_in_place() {
    isolated(|| {
        // The backing file is a hole: merging needs room.
        let mut disk = Disk::busy(4);
        disk.backing.fill(0);
        let place = Place::new(&disk);
        mount_tmpfs(&place.at("small"), "size=1024k");
        let small = place.at("small/back");
        write_backing(&small, &disk.backing);
        let args = ["-d", "-b", "small/back", "cow"];
        let finished = place.moo(&args);
        assert_eq!(finished.code(), 1);
        let words = finished.err();
        assert!(words.contains("'small/back' is half merged"), "{words}");
        assert!(words.contains("run the same command again"), "{words}");
        assert!(words.ends_with(": No space left on device\n"), "{words}");
        assert!(place.names().contains(&JOURNAL.to_owned()));
        remount_tmpfs(&place.at("small"), "size=8192k");
        let finished = place.ok(&args);
        assert!(
            finished
                .err()
                .contains("an interrupted merge was found and finished")
        );
        assert!(place.read("small/back") == disk.merged());
        assert!(!place.names().contains(&JOURNAL.to_owned()));
        unmount(&place.at("small"));
    });
}

#[test]
fn without_room_for_the_journal_the_backing_file_stays() {
    isolated(|| {
        let disk = Disk::busy(1);
        let place = Place::new(&disk);
        mount_tmpfs(&place.at("small"), "size=2048k");
        disk.write_cow(&place.at("small/cow"), &place.at("back"));
        let filler = File::create(place.at("small/filler")).unwrap();
        let mut at = 0;
        while filler.write_all_at(&[1; 4096], at).is_ok() {
            at += 4096;
        }
        let finished = place.moo(&["-d", "small/cow"]);
        assert_eq!(finished.code(), 1);
        assert!(finished.err().contains(JOURNAL), "{}", finished.err());
        assert!(place.read("back") == disk.backing);
        filler.set_len(0).unwrap();
        fs::remove_file(place.at("small/filler")).unwrap();
        place.ok(&["-d", "small/cow"]);
        assert!(place.read("back") == disk.merged());
        assert_eq!(fs::read_dir(place.at("small")).unwrap().count(), 1);
        unmount(&place.at("small"));
    });
}

#[test]
fn a_limit_on_the_files_length_is_an_error() {
    let place = Place::new(&Disk::busy(4));
    let mut command = Command::new("bash");
    command.args([
        "-c",
        "ulimit -f 1024; exec \"$0\" cow new",
        env!("CARGO_BIN_EXE_uml_moo"),
    ]);
    let finished = run(command.current_dir(place.at("")));
    assert_eq!(finished.code(), 1);
    assert!(
        finished.err().ends_with("'new': File too large\n"),
        "{}",
        finished.err()
    );
    assert_eq!(place.names(), ["back", "cow"]);
}

#[test]
fn unreadable_files_are_named() {
    let place = Place::new(&Disk::busy(1));
    bins::copy(Path::new(env!("CARGO_BIN_EXE_uml_moo")), &place.at("tool"));
    let nobody = |line: &str| {
        let line = format!("chmod 777 .; chmod 644 cow back; {line}");
        let mut command = Command::new("bash");
        run(command.args(["-c", &line]).current_dir(place.at("")))
    };
    let tool = "setpriv --reuid=65534 --clear-groups ./tool";
    let finished = nobody(&format!("chmod 0 cow; {tool} cow new"));
    assert_eq!(finished.code(), 1);
    assert_eq!(
        finished.err(),
        "uml_moo: opening COW file 'cow': Permission denied\n"
    );
    let finished = nobody(&format!("chmod 0 back; {tool} cow new"));
    assert_eq!(finished.code(), 1);
    assert!(
        finished.err().ends_with("back': Permission denied\n"),
        "{}",
        finished.err()
    );
    let finished = nobody(&format!("{tool} -d cow"));
    assert_eq!(finished.code(), 1);
    assert!(
        finished.err().ends_with("back': Permission denied\n"),
        "{}",
        finished.err()
    );
    assert_eq!(place.names(), ["back", "cow", "tool"]);
    let finished = nobody(&format!("{tool} cow new")).success();
    assert_eq!(finished.err(), "");
}

#[test]
fn what_is_no_disk_holds_nobody_up() {
    let place = Place::new(&Disk::busy(1));
    // Nobody writes into it: opened as a file is, it would be waited for.
    mkfifo(&place.at("pipe"), Mode::S_IRWXU).unwrap();
    for (args, what) in [
        (["-b", "back", "pipe", "new"], "COW file 'pipe'"),
        (["-b", "pipe", "cow", "new"], "backing file 'pipe'"),
        (["-b", "back", "/dev/zero", "new"], "COW file '/dev/zero'"),
    ] {
        let finished = place.moo(&args);
        let why = "neither a regular file nor a block device";
        assert_eq!(finished.err(), format!("uml_moo: opening {what}: {why}\n"));
        assert_eq!(finished.code(), 1);
    }
    assert_eq!(place.names(), ["back", "cow", "pipe"]);
}

#[test]
fn a_read_error_leaves_no_image() {
    let place = Place::new(&Disk::busy(2));
    fs::write(place.at("new"), "old").unwrap();
    // The second read of either thread: the loader reads other files.
    let back = place.at("back");
    let options = [
        "-P",
        back.to_str().unwrap(),
        "-e",
        "inject=pread64:error=EIO:when=2",
    ];
    let finished = place.injected_with("--default-signal", &options, &["cow", "new"]);
    assert_eq!(finished.code(), 1);
    assert!(
        finished.err().ends_with(": Input/output error\n"),
        "{}",
        finished.err()
    );
    assert_eq!(place.names(), ["back", "cow", "new"]);
    assert_eq!(place.read("new"), b"old");
}

#[test]
fn a_failed_sync_is_no_success() {
    let disk = Disk::busy(1);
    let place = Place::new(&disk);
    fs::write(place.at("new"), "old").unwrap();
    let finished = place.injected("fsync:error=EIO:when=1", &["cow", "new"]);
    assert_eq!(finished.code(), 1);
    assert_eq!(place.names(), ["back", "cow", "new"]);
    assert_eq!(place.read("new"), b"old");
    let (back, journal) = (place.at("back"), place.at(JOURNAL));
    let folder = back.parent().unwrap();
    let steps = [
        "syncing COW file 'cow'".to_owned(),
        format!("syncing journal '{}'", journal.display()),
        format!("syncing directory '{}'", folder.display()),
        format!("syncing '{}'", back.display()),
    ];
    for (step, when) in steps.iter().zip(1..) {
        place.write(&disk);
        let _ = fs::remove_file(&journal);
        let injection = format!("fsync:error=EIO:when={when}");
        let finished = place.injected(&injection, &["-d", "cow"]);
        assert_eq!(finished.code(), 1, "{injection}");
        let words = finished.err();
        assert!(words.contains(step), "{step}: {words}");
        assert!(words.ends_with(": Input/output error\n"), "{words}");
        // All that finishing it needs is on the disk before the first byte changes.
        let untouched = place.read("back") == disk.backing;
        assert_eq!(untouched, when < 4, "{injection}");
        assert_eq!(journal.exists(), when > 2, "{injection}");
    }
    place.ok(&["-d", "cow"]);
    assert!(place.read("back") == disk.merged());
}

#[test]
fn a_file_system_without_holes_or_locks_on_temporary_files_serves() {
    let disk = Disk::busy(2);
    let place = Place::new(&disk);
    let _ = place
        .injected("fallocate:error=EOPNOTSUPP", &["--verify", "-d", "cow"])
        .success();
    assert!(place.read("back") == disk.merged());
    place.write(&disk);
    let _ = place
        .injected("lseek:error=EINVAL", &["--verify", "cow", "new"])
        .success();
    assert!(place.read("new") == disk.merged());
    // The COW file's and the backing file's locks count; the third one is the temporary file's.
    for when in 1..=2 {
        let injection = format!("fcntl:error=ENOLCK:when={when}");
        let refused = place.injected(&injection, &["cow", "other"]);
        assert_eq!(refused.code(), 1);
        let words = refused.err();
        assert!(words.contains("locking '"), "{words}");
        assert!(words.ends_with("': No locks available\n"), "{words}");
    }
    let _ = place
        .injected("fcntl:error=ENOLCK:when=3+", &["cow", "other"])
        .success();
    assert!(place.read("other") == disk.merged());
}

#[test]
fn a_signal_leaves_the_old_image_and_no_litter() {
    let place = Place::new(&Disk::busy(2));
    fs::write(place.at("new"), "old").unwrap();
    for (signal, number) in [("INT", 2), ("TERM", 15), ("HUP", 1)] {
        // A call that is made once: a second signal would end it at once.
        let injection = format!("ftruncate:signal=SIG{signal}:when=1");
        let stopped = place.injected(&injection, &["cow", "new"]);
        assert_eq!(stopped.code(), 128 + number);
        assert_eq!(stopped.err(), "uml_moo: stopped by a signal\n");
        assert_eq!(place.names(), ["back", "cow", "new"]);
        assert_eq!(place.read("new"), b"old");
    }
}

#[test]
fn what_is_ignored_from_the_start_stays_ignored() {
    let disk = Disk::busy(2);
    let place = Place::new(&disk);
    for signal in ["INT", "TERM", "HUP"] {
        let ignored = format!("--ignore-signal={signal}");
        let inject = format!("inject=ftruncate:signal=SIG{signal}:when=1");
        let done = place.injected_with(&ignored, &["-e", &inject], &["cow", "new"]);
        assert_eq!(done.success().err(), "");
        assert!(place.read("new") == disk.merged(), "{signal}");
        fs::remove_file(place.at("new")).unwrap();
    }
}

/// Starts a merge into a pipe, waits until it is under way, does something, and reads on.
fn meanwhile(place: &Place, act: impl FnOnce()) -> (i32, String, Vec<u8>) {
    mkfifo(&place.at("pipe"), Mode::S_IRWXU).unwrap();
    let child = place
        .command(&["cow", "pipe"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pipe = File::open(place.at("pipe")).unwrap();
    let mut image = vec![0; 1000];
    pipe.read_exact(&mut image).unwrap();
    place.let_the_clock_tick("cow");
    act();
    pipe.read_to_end(&mut image).unwrap();
    let output = child.wait_with_output().unwrap();
    fs::remove_file(place.at("pipe")).unwrap();
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stderr).unwrap(),
        image,
    )
}

#[test]
fn files_that_change_meanwhile_are_noticed() {
    let disk = Disk::busy(6);
    let place = Place::new(&disk);
    let open = |name: &str| OpenOptions::new().write(true).open(place.at(name)).unwrap();
    let (code, words, _) = meanwhile(&place, || {
        open("back").write_all_at(b"more", 6 << 20).unwrap();
    });
    assert_eq!(code, 1);
    assert!(
        words.contains("changed while it was being merged"),
        "{words}"
    );
    place.write(&disk);
    let (code, words, _) = meanwhile(&place, || open("cow").write_all_at(b"x", 20_000).unwrap());
    assert_eq!(code, 1);
    assert!(
        words.contains("'cow' changed while it was being merged"),
        "{words}"
    );
    place.write(&disk);
    let (code, words, _) = meanwhile(&place, || open("cow").set_len(30_000).unwrap());
    assert_eq!(code, 1);
    assert!(words.contains("became shorter"), "{words}");
    place.write(&disk);
    let (code, words, _) = meanwhile(&place, || open("back").set_len(30_000).unwrap());
    assert_eq!(code, 1);
    // Seen by a read behind the new end, or, if a hole was looked for there, at the end.
    assert!(
        words.contains("reading backing file")
            || words.contains("back' changed while it was being merged"),
        "{words}"
    );
}

#[test]
fn a_stream_that_nobody_reads_can_be_left() {
    use std::os::unix::process::ExitStatusExt as _;
    let place = Place::new(&Disk::busy(6));
    mkfifo(&place.at("pipe"), Mode::S_IRWXU).unwrap();
    let mut child = place.command(&["cow", "pipe"]).spawn().unwrap();
    let mut pipe = File::open(place.at("pipe")).unwrap();
    pipe.read_exact(&mut [0; 1000]).unwrap();
    let pid = i32::try_from(child.id()).unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGTERM).unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(15));
}

#[test]
fn two_merges_at_once_do_not_disturb_each_other() {
    let disk = Disk::busy(6);
    let place = Place::new(&disk);
    let (code, words, image) = meanwhile(&place, || {
        let finished = place.moo(&["-d", "cow"]);
        assert_eq!(finished.code(), 1);
        let words = finished.err();
        assert!(words.contains("'cow' is in use by process "), "{words}");
        assert!(words.contains("(uml_moo)"), "{words}");
        assert_eq!(place.names(), ["back", "cow", "pipe"]);
        // Reading twice is no harm.
        place.ok(&["cow", "new"]);
    });
    assert_eq!((code, words.as_str()), (0, ""));
    assert!(image == disk.merged());
    assert!(place.read("new") == disk.merged());
}

#[test]
fn a_running_guests_files_are_left_alone() {
    let disk = Disk::busy(1);
    let place = Place::new(&disk);
    fs::write(place.at("new"), "a guest's disk").unwrap();
    let pid = format!("in use by process {}", std::process::id());
    let in_use = |name: &str, kind, args: &[&str]| {
        let guest = OpenOptions::new()
            .read(true)
            .write(true)
            .open(place.at(name))
            .unwrap();
        lock(&guest, &place.at(name), kind).unwrap();
        let finished = place.moo(args);
        assert_eq!(finished.code(), 1, "{args:?}");
        assert!(
            finished.err().contains(&pid),
            "{args:?}: {}",
            finished.err()
        );
        drop(guest);
        assert!(place.read("back") == disk.backing);
        assert_eq!(place.read("new"), b"a guest's disk");
        assert_eq!(place.names(), ["back", "cow", "new"]);
    };
    // A guest on this COW file.
    in_use("cow", LockKind::Write, &["cow", "new"]);
    in_use("cow", LockKind::Write, &["-d", "cow"]);
    // A guest on another COW file with the same backing file.
    in_use("back", LockKind::Read, &["-d", "cow"]);
    // A guest on the backing file itself.
    in_use("back", LockKind::Write, &["cow", "new"]);
    in_use("back", LockKind::Write, &["-d", "cow"]);
    // A guest on what would be replaced.
    in_use("new", LockKind::Write, &["cow", "new"]);
    place.ok(&["cow", "new"]);
    assert!(place.read("new") == disk.merged());
}

#[test]
fn a_backing_file_of_another_length_than_the_header_is_refused_whatever_its_time() {
    let disk = Disk::v3(noise(100_000), [(1, 1)]);
    let place = Place::new(&disk);
    let file = OpenOptions::new()
        .write(true)
        .open(place.at("back"))
        .unwrap();
    file.set_len(99_999).unwrap();
    set_mtime(&place.at("back"));
    let finished = place.moo(&["-d", "cow"]);
    assert_eq!(finished.code(), 1);
    assert!(
        finished
            .err()
            .starts_with("Size mismatch (100000 vs 99999)"),
        "{}",
        finished.err()
    );
}

#[test]
fn killed_at_each_system_call_a_new_image_is_whole_or_not_there() {
    let disk = Disk::busy(1);
    let place = Place::in_memory(&disk);
    let merged = disk.merged();
    let calls = "ftruncate pwrite64 fchmod fchown fsync rename sync_file_range";
    let kills = at_each_moment(calls, |moment| {
        fs::write(place.at("new"), "old").unwrap();
        let mut command = moment.kills(Path::new(env!("CARGO_BIN_EXE_uml_moo")));
        command.args(["cow", "new"]).current_dir(place.at(""));
        let killed = was_killed(&run(&mut command));
        let left = place.read("new");
        assert!(left == b"old" || left == merged, "{moment:?}");
        assert!(left == merged || killed, "{moment:?}");
        place.ok(&["cow", "new"]);
        assert!(place.read("new") == merged, "{moment:?}");
        assert_eq!(place.names(), ["back", "cow", "new"], "{moment:?}");
        killed
    });
    assert!(kills > 5, "{kills}");
}

#[test]
fn starved_it_merges_all_or_nothing() {
    let disk = Disk::busy(1);
    let place = Place::in_memory(&disk);
    let (files, merged) = (place.snapshot(), disk.merged());
    for args in [&["cow", "new"][..], &["-d", "cow"]] {
        let mut done = 0;
        starve(
            Path::new(env!("CARGO_BIN_EXE_uml_moo")),
            |command| {
                place.restore(&files);
                command.args(args).current_dir(place.at(""));
            },
            |limit, finished| {
                let target = if args[0] == "-d" { "back" } else { "new" };
                if finished.status.success() {
                    assert!(place.read(target) == merged, "{limit} {args:?}");
                    done += 1;
                    let _ = fs::remove_file(place.at("new"));
                    return;
                }
                let finished = finished.err();
                assert!(!place.at("new").exists(), "{limit} {args:?}: {finished}");
                if args[0] == "-d" {
                    // It may have come far enough to need finishing.
                    place.ok(args);
                    assert!(place.read("back") == merged, "{limit}: {finished}");
                } else {
                    assert!(place.read("back") == disk.backing, "{limit}");
                    // One that the system killed has left its temporary file to the next run.
                    place.ok(args);
                    fs::remove_file(place.at("new")).unwrap();
                }
                assert_eq!(
                    place.names(),
                    ["back", "cow"],
                    "{limit} {args:?}: {finished}"
                );
            },
        );
        assert!(done >= 2, "{args:?} {done}");
    }
}

#[test]
fn read_only_file_systems_are_told() {
    isolated(|| {
        let disk = Disk::busy(1);
        let place = Place::new(&disk);
        let fixed = place.at("fixed");
        mount_tmpfs(&fixed, "size=4096k");
        write_backing(&fixed.join("back"), &disk.backing);
        disk.write_cow(&fixed.join("cow"), &fixed.join("back"));
        make_read_only(&fixed);
        for args in [
            &["fixed/cow", "fixed/new"][..],
            &["-d", "fixed/cow"],
            &["-d", "-b", "fixed/back", "cow"],
        ] {
            let refused = place.moo(args);
            assert_eq!(refused.code(), 1, "{args:?}");
            let error = refused.err();
            assert!(
                error.ends_with(": Read-only file system\n"),
                "{args:?}: {error}"
            );
            assert_eq!(place.names(), ["back", "cow", "fixed"], "{args:?}");
        }
        assert!(place.read("fixed/back") == disk.backing);
        // To read is enough for a new image elsewhere.
        place.ok(&["fixed/cow", "new"]);
        assert!(place.read("new") == disk.merged());
        unmount(&fixed);
    });
}
