//! New images: whole or not at all, with the backing file's mode, sparse.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, chown, symlink},
    path::Path,
    process::Command,
};

use testkit::{bins, cmd::run};

use crate::support::{Disk, Place, noise};

#[test]
fn the_image_has_the_backing_files_mode_and_owner() {
    let disk = Disk::v3(noise(10_000), [(3, 1)]);
    let place = Place::new(&disk);
    chown(place.at("back"), Some(12_345), Some(54_321)).unwrap();
    fs::write(place.at("new"), "an old one, for all to read").unwrap();
    for mode in [0o600, 0o640, 0o444] {
        fs::set_permissions(place.at("back"), Permissions::from_mode(mode)).unwrap();
        place.ok(&["cow", "new"]);
        let metadata = place.at("new").metadata().unwrap();
        let found = (metadata.mode() & 0o7777, metadata.uid(), metadata.gid());
        assert_eq!(found, (mode, 12_345, 54_321));
        assert!(place.read("new") == disk.merged());
    }
}

#[test]
fn a_link_as_the_target_stays_a_link() {
    let disk = Disk::v3(noise(10_000), [(3, 1)]);
    let place = Place::new(&disk);
    symlink("real", place.at("new")).unwrap();
    for _ in 0..2 {
        place.ok(&["cow", "new"]);
        assert!(fs::symlink_metadata(place.at("new")).unwrap().is_symlink());
        assert!(place.read("real") == disk.merged());
    }
    assert_eq!(place.names(), ["back", "cow", "new", "real"]);
}

#[test]
fn a_huge_sparse_image_needs_little_time_space_and_memory() {
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let root = folder.path().canonicalize().unwrap();
    let disk = Disk::v3(noise(4096), []);
    let place = Place::within(&root, &disk);
    // 16 TiB, written by hand: the bitmap has 4 GiB, the data begins behind it.
    let size: u64 = 16 << 40;
    let back = fs::File::options()
        .write(true)
        .open(place.at("back"))
        .unwrap();
    back.set_len(size).unwrap();
    back.write_all_at(b"middle", size / 2).unwrap();
    crate::support::set_mtime(&place.at("back"));
    let cow = fs::File::options()
        .write(true)
        .open(place.at("cow"))
        .unwrap();
    let write = |bytes: &[u8], at: u64| {
        cow.write_all_at(bytes, at).unwrap();
    };
    write(&size.to_be_bytes(), 12);
    let (bitmap, data) = (8192, 8192 + (4 << 30));
    for sector in [5, size / 512 / 3, size / 512 - 1] {
        write(&[1 << (sector % 8)], bitmap + sector / 8);
        write(&[b'X'; 512], data + sector * 512);
    }
    let limited = |args: &str| {
        let mut command = Command::new("bash");
        // Address space, in KiB: threads' stacks and libraries count too, so this is a wide bound.
        let line = format!("ulimit -v 131072; exec \"$0\" {args}");
        command
            .args(["-c", &line, env!("CARGO_BIN_EXE_uml_moo")])
            .current_dir(&root);
        run(&mut command).success()
    };
    limited("--verify cow new");
    let image = fs::File::open(place.at("new")).unwrap();
    assert_eq!(image.metadata().unwrap().len(), size);
    assert!(image.metadata().unwrap().blocks() * 512 <= 10 * 4096);
    let read = |at: u64| {
        let mut bytes = [0; 512];
        image.read_exact_at(&mut bytes, at).unwrap();
        bytes
    };
    assert_eq!(read(5 * 512), [b'X'; 512]);
    assert_eq!(read(size / 512 / 3 * 512), [b'X'; 512]);
    assert_eq!(read(size - 512), [b'X'; 512]);
    assert_eq!(&read(size / 2)[..6], b"middle");
    limited("-d cow");
    let back = fs::File::open(place.at("back")).unwrap();
    let mut bytes = [0; 512];
    back.read_exact_at(&mut bytes, size - 512).unwrap();
    assert_eq!(bytes, [b'X'; 512]);
}

#[test]
fn what_dead_runs_left_is_cleaned() {
    let disk = Disk::busy(2);
    let place = Place::new(&disk);
    fs::write(place.at("new"), "old").unwrap();
    let killed = place.injected("pwrite64:signal=SIGKILL:when=3", &["cow", "new"]);
    assert_ne!(killed.code(), 0);
    assert_eq!(place.names().len(), 4, "{:?}", place.names());
    assert_eq!(place.read("new"), b"old");
    place.ok(&["cow", "new"]);
    assert_eq!(place.names(), ["back", "cow", "new"]);
    assert!(place.read("new") == disk.merged());
}

#[test]
fn who_may_not_give_files_away_keeps_the_group_at_least() {
    let disk = Disk::v3(noise(10_000), [(3, 1)]);
    let place = Place::new(&disk);
    chown(place.at("back"), Some(12_345), Some(54_321)).unwrap();
    fs::set_permissions(place.at("back"), Permissions::from_mode(0o640)).unwrap();
    bins::copy(Path::new(env!("CARGO_BIN_EXE_uml_moo")), &place.at("tool"));
    // A user who may read the backing file as one of its group.
    let line =
        "chmod 777 . && exec setpriv --reuid=65534 --regid=65534 --groups=54321 ./tool cow new";
    let mut command = Command::new("bash");
    let _ = run(command.args(["-c", line]).current_dir(place.at(""))).success();
    let metadata = place.at("new").metadata().unwrap();
    let found = (metadata.mode() & 0o7777, metadata.uid(), metadata.gid());
    assert_eq!(found, (0o640, 65_534, 54_321));
}
