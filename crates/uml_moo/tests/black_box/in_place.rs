//! Merges in place: killed anywhere and finished; journals that don't belong.

use std::{
    fs,
    os::unix::fs::{FileExt as _, MetadataExt as _, symlink},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant, SystemTime},
};

use testkit::{
    bins,
    cmd::{run, wait_for},
    until,
};

use crate::support::{Disk, JOURNAL, MTIME, Place, noise, set_mtime};

/// Runs the same command again and checks that all is as if nothing had happened.
fn finish(place: &Place, merged: &[u8]) {
    let interrupted = place.names().iter().any(|name| name == JOURNAL);
    let finished = place.ok(&["-d", "cow"]);
    assert!(place.read("back") == merged);
    assert_eq!(place.names(), ["back", "cow"]);
    assert_eq!(
        finished
            .err()
            .contains("an interrupted merge was found and finished"),
        interrupted
    );
}

#[test]
fn killed_at_any_system_call_and_finished() {
    let disk = Disk::busy(2);
    let place = Place::in_memory(&disk);
    let (files, merged) = (place.snapshot(), disk.merged());
    let mut interrupted = 0;
    let calls = [
        ("openat", 40),
        ("pread64", 12),
        ("pwrite64", 8),
        ("fallocate", 4),
        ("fsync", 5),
        ("rename", 1),
        ("unlink", 1),
        ("sync_file_range", 4),
    ];
    for (call, times) in calls {
        for when in 1..=times {
            place.restore(&files);
            let injection = format!("{call}:signal=SIGKILL:when={when}");
            let killed = place.injected(&injection, &["-d", "cow"]);
            if killed.status.success() {
                // It has no more such calls. The COW file still fits if it is told to.
                assert!(place.read("back") == merged, "{injection}");
                assert_eq!(place.names(), ["back", "cow"]);
                break;
            }
            let half = place.names().iter().any(|name| name == JOURNAL);
            interrupted += usize::from(half);
            if half || place.at("back").metadata().unwrap().mtime() == i64::from(MTIME) {
                finish(&place, &merged);
            } else {
                // Killed behind the end of the merge.
                assert!(place.read("back") == merged, "{injection}");
            }
        }
    }
    assert!(
        interrupted >= 15,
        "only {interrupted} of the kills left a journal"
    );
}

#[test]
fn killed_at_random_moments_and_finished() {
    let disk = Disk::busy(4);
    let place = Place::in_memory(&disk);
    let (files, merged) = (place.snapshot(), disk.merged());
    let start = Instant::now();
    place.ok(&["-d", "cow"]);
    let whole = start.elapsed();
    for point in 0..60u32 {
        place.restore(&files);
        let mut child = place
            .command(&["-d", "cow"])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // The moment is what is random here: nothing is waited for.
        let _ = wait_for(&mut child, whole.mul_f64(f64::from(point) / 50.0));
        child.kill().unwrap();
        child.wait().unwrap();
        let half = place.names().iter().any(|name| name == JOURNAL);
        if half || place.at("back").metadata().unwrap().mtime() == i64::from(MTIME) {
            finish(&place, &merged);
        } else {
            assert!(place.read("back") == merged, "point {point}");
        }
    }
}

#[test]
fn ended_by_ctrl_c_and_finished() {
    let disk = Disk::busy(2);
    let place = Place::new(&disk);
    let stopped = place.injected("rename:signal=SIGINT:when=1", &["-d", "cow"]);
    assert_eq!(stopped.code(), 128 + 2);
    let back = place.at("back");
    assert_eq!(
        stopped.err(),
        format!(
            "uml_moo: the backing file '{}' is half merged: no guest can use it now; run the same \
             command again, it finishes the merge: stopped by a signal\n",
            back.display()
        )
    );
    assert_eq!(place.names(), [JOURNAL, "back", "cow"]);
    finish(&place, &disk.merged());
}

#[test]
fn after_an_interruption_a_new_image_can_be_made_too() {
    let disk = Disk::busy(2);
    let place = Place::new(&disk);
    place.injected("pwrite64:signal=SIGKILL:when=4", &["-d", "cow"]);
    assert_eq!(place.names(), [JOURNAL, "back", "cow"]);
    place.ok(&["cow", "new"]);
    assert!(place.read("new") == disk.merged());
    fs::remove_file(place.at("new")).unwrap();
    finish(&place, &disk.merged());
}

#[test]
fn an_interrupted_merge_is_found_by_any_name_of_its_files() {
    let disk = Disk::busy(2);
    let place = Place::new(&disk);
    symlink("cow", place.at("link")).unwrap();
    place.injected("pwrite64:signal=SIGKILL:when=4", &["-d", "link"]);
    fs::rename(place.at("back"), place.at("renamed")).unwrap();
    let finished = place.ok(&["-d", "-b", "renamed", "cow"]);
    assert!(
        finished
            .err()
            .contains("an interrupted merge was found and finished")
    );
    assert!(place.read("renamed") == disk.merged());
}

#[test]
fn a_journal_that_does_not_belong_stops_everything() {
    let disk = Disk::busy(2);
    let place = Place::new(&disk);
    place.injected("pwrite64:signal=SIGKILL:when=4", &["-d", "cow"]);
    let journal = place.read(JOURNAL);
    let half = place.read("back");
    let refused = |words: &str| {
        for args in [
            &["-d", "cow"][..],
            &["-d", "--ignore-mtime", "cow"],
            &["cow", "new"],
        ] {
            let finished = place.moo(args);
            assert_eq!(finished.code(), 1, "{args:?}");
            assert!(finished.err().contains(words), "{}", finished.err());
            assert!(finished.err().contains(JOURNAL), "{}", finished.err());
            assert!(
                finished.err().contains("remove"),
                "what to do: {}",
                finished.err()
            );
        }
        assert!(place.read("back") == half);
        assert_eq!(place.names(), [JOURNAL, "back", "cow"]);
    };
    fs::write(place.at(JOURNAL), b"").unwrap();
    refused("it doesn't begin as one");
    fs::write(place.at(JOURNAL), &journal[..journal.len() - 1]).unwrap();
    refused("its crc32 is wrong");
    let mut damaged = journal.clone();
    damaged[70] ^= 1;
    fs::write(place.at(JOURNAL), &damaged).unwrap();
    refused("its crc32 is wrong");
    fs::write(place.at(JOURNAL), noise(1 << 20)).unwrap();
    refused("it doesn't begin as one");

    fs::write(place.at(JOURNAL), &journal).unwrap();
    let cow = place.read("cow");
    let time = place.at("cow").metadata().unwrap().modified().unwrap();
    fs::write(place.at("cow"), &cow).unwrap();
    refused("this COW file has changed since");
    fs::File::options()
        .write(true)
        .open(place.at("cow"))
        .unwrap()
        .set_modified(time)
        .unwrap();

    fs::write(place.at("copy"), &half).unwrap();
    let finished = place.moo(&["-d", "-b", "copy", "--ignore-mtime", "cow"]);
    assert_eq!(finished.code(), 1);
    assert!(
        finished.err().contains("this is another backing file"),
        "{}",
        finished.err()
    );
    assert!(place.read("copy") == half);
    fs::remove_file(place.at("copy")).unwrap();
    finish(&place, &disk.merged());
}

#[test]
fn a_merge_within_the_second_still_invalidates_other_cow_files() {
    let disk = Disk::v3(noise(100_000), [(3, 1)]);
    let place = Place::in_memory(&disk);
    let now = || {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        now.unwrap().as_secs()
    };
    let cow_as_of = |name: &str, second: u64| {
        disk.write_cow(&place.at(name), &place.at("back"));
        let file = fs::File::options().write(true).open(place.at(name));
        let second = u32::try_from(second).unwrap().to_be_bytes();
        file.unwrap().write_all_at(&second, 8).unwrap();
    };
    for args in [&["-d", "cow"][..], &["-d", "--ignore-mtime", "cow"]] {
        // The backing file's last change, the other COW file and the merge share a second.
        until("a merge within a second", || {
            place.write(&disk);
            let second = now();
            let back = fs::File::options().write(true).open(place.at("back"));
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(second);
            back.unwrap().set_modified(time).unwrap();
            cow_as_of("other", second);
            if args.len() == 2 {
                cow_as_of("cow", second);
            }
            place.ok(args);
            (now() == second).then_some(())
        });
        assert!(place.read("back") == disk.merged());
        let other = place.moo(&["other", "new"]);
        assert_eq!(other.code(), 1, "{args:?}");
        assert!(other.err().starts_with("mtime mismatch"), "{args:?}");
    }
}

#[test]
fn without_changes_nothing_is_touched() {
    let disk = Disk::v3(noise(100_000), []);
    let place = Place::new(&disk);
    let before = place.at("back").metadata().unwrap();
    let finished = place.ok(&["-d", "cow"]);
    assert_eq!(
        finished.err(),
        "uml_moo: 'cow' holds no changes: nothing to merge\n"
    );
    let after = place.at("back").metadata().unwrap();
    let times = |metadata: &fs::Metadata| (metadata.mtime(), metadata.ctime_nsec());
    assert_eq!(times(&before), times(&after));
    assert_eq!(place.names(), ["back", "cow"]);
}

#[test]
fn a_cow_file_that_may_only_be_read_can_be_merged() {
    let disk = Disk::busy(1);
    let place = Place::new(&disk);
    // A user without the right to write the COW file, but with that to write beside it.
    let script = "chown 65534 . back && chmod 444 cow && exec setpriv --reuid=65534 \
                  --clear-groups \"$0\" -d cow";
    // Nobody may enter the build's folder: the tool is copied here.
    bins::copy(Path::new(env!("CARGO_BIN_EXE_uml_moo")), &place.at("tool"));
    let mut command = Command::new("bash");
    command
        .args(["-c", script, "./tool"])
        .current_dir(place.at(""));
    let _ = run(&mut command).success();
    assert!(place.read("back") == disk.merged());
}

#[test]
fn mtime_that_was_set_back_is_no_obstacle() {
    let disk = Disk::busy(2);
    let place = Place::new(&disk);
    place.injected("pwrite64:signal=SIGKILL:when=4", &["-d", "cow"]);
    set_mtime(&place.at("back"));
    finish(&place, &disk.merged());
}
