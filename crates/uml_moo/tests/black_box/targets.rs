//! Targets that are no plain file: standard output, pipes, devices, terminals.

use std::{
    fs::{self, File},
    io::Read as _,
    path::Path,
    process::{Command, Stdio},
};

use nix::{sys::stat::Mode, unistd::mkfifo};
use testkit::{bins::installed, cmd::run, faults::unmount, netns::isolated};

use crate::support::{Disk, Place, noise};

#[test]
fn standard_output_gets_the_whole_image() {
    for disk in [
        Disk::busy(3),
        Disk::v3(vec![0; 1_000_001], []),
        Disk::v3(vec![], []),
    ] {
        let place = Place::new(&disk);
        let finished = place.ok(&["cow", "-"]);
        assert!(finished.stdout == disk.merged());
        assert_eq!(finished.err(), "");
        assert_eq!(place.names(), ["back", "cow"]);
    }
}

#[test]
fn standard_output_may_be_a_file_but_not_a_source() {
    let disk = Disk::busy(1);
    let place = Place::new(&disk);
    let shell = |line: &str| {
        let mut command = Command::new("bash");
        command
            .args(["-c", line, env!("CARGO_BIN_EXE_uml_moo")])
            .current_dir(place.at(""));
        run(&mut command)
    };
    let _ = shell("\"$0\" cow - > new").success();
    assert!(place.read("new") == disk.merged());
    for source in ["cow", "back"] {
        let before = place.read(source);
        let finished = shell(&format!("\"$0\" cow - >> {source}"));
        assert_eq!(finished.code(), 1);
        assert!(
            finished.err().contains("it would be lost"),
            "{}",
            finished.err()
        );
        assert!(place.read(source) == before);
    }
    let finished = shell("\"$0\" cow - > /dev/full");
    assert_eq!(finished.code(), 1);
    assert!(
        finished.err().ends_with(": No space left on device\n"),
        "{}",
        finished.err()
    );
    let finished = shell("\"$0\" cow - | head -c 1000 > /dev/null; echo ${PIPESTATUS[0]}");
    assert_eq!(finished.out(), "1\n");
    assert!(
        finished.err().ends_with(": Broken pipe\n"),
        "{}",
        finished.err()
    );
    let finished = shell("\"$0\" --verify cow - > /dev/null");
    assert_eq!(finished.code(), 1);
    assert!(
        finished.err().contains("can't be done"),
        "{}",
        finished.err()
    );
}

#[test]
fn a_terminal_is_refused() {
    let place = Place::new(&Disk::busy(1));
    let script = installed("script", "bsdutils");
    let line = format!("{} cow -", env!("CARGO_BIN_EXE_uml_moo"));
    let mut command = Command::new(script);
    command
        .args(["-qec", &line, "/dev/null"])
        .current_dir(place.at(""));
    let finished = run(&mut command);
    assert_eq!(finished.code(), 1);
    assert!(
        finished.out().contains("isn't written to a terminal"),
        "{}",
        finished.out()
    );
}

#[test]
fn a_named_pipe_is_written_into() {
    let disk = Disk::busy(3);
    let place = Place::new(&disk);
    mkfifo(&place.at("pipe"), Mode::S_IRWXU).unwrap();
    let child = place
        .command(&["cow", "pipe"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut image = Vec::new();
    File::open(place.at("pipe"))
        .unwrap()
        .read_to_end(&mut image)
        .unwrap();
    assert!(child.wait_with_output().unwrap().status.success());
    assert!(image == disk.merged());
    assert_eq!(place.names(), ["back", "cow", "pipe"]);
}

/// A loop device over a file; detached when it is dropped.
struct Loop(String);

impl Loop {
    fn over(file: &Path) -> Self {
        let losetup = installed("losetup", "mount");
        let mut command = Command::new(losetup);
        let finished = run(command.args(["--find", "--show"]).arg(file)).success();
        Self(finished.out().trim().to_owned())
    }

    fn flush(&self) {
        File::open(&self.0).unwrap().sync_all().unwrap();
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        run(Command::new(installed("losetup", "mount")).args(["--detach", &self.0]));
    }
}

#[test]
fn a_block_device_is_written_over() {
    let disk = Disk::busy(3);
    let place = Place::new(&disk);
    let size = disk.backing.len();
    fs::write(place.at("medium"), noise(size + (1 << 20))).unwrap();
    let device = Loop::over(&place.at("medium"));
    place.ok(&["--verify", "cow", &device.0]);
    device.flush();
    let medium = place.read("medium");
    assert!(medium[..size] == disk.merged());
    assert!(
        medium[size..] == noise(size + (1 << 20))[size..],
        "what lies behind stays"
    );

    let broken = place.injected("pwrite64:error=EIO:when=2", &["cow", &device.0]);
    assert_eq!(broken.code(), 1);
    let name = &device.0;
    let expected = format!(
        "uml_moo: device '{name}' doesn't hold the whole image: run the same command again, it \
         writes all of it anew: writing '{name}': Input/output error\n"
    );
    assert_eq!(broken.err(), expected);

    fs::write(place.at("short"), vec![1; size - 4096]).unwrap();
    let short = Loop::over(&place.at("short"));
    let finished = place.moo(&["cow", &short.0]);
    assert_eq!(finished.code(), 1);
    assert!(
        finished.err().contains("bytes, the image 3145728"),
        "{}",
        finished.err()
    );
    assert!(place.read("short") == vec![1; size - 4096]);
}

#[test]
fn a_block_device_backs_a_disk() {
    let disk = Disk::busy(3);
    let place = Place::new(&disk);
    fs::write(place.at("medium"), &disk.backing).unwrap();
    let device = Loop::over(&place.at("medium"));
    let args = ["--ignore-mtime", "-b", &device.0, "cow", "new"];
    place.ok(&args);
    assert!(place.read("new") == disk.merged());
    let finished = place.moo(&["--ignore-mtime", "-b", &device.0, "cow", &device.0]);
    assert_eq!(finished.code(), 1);
    assert!(
        finished.err().contains("is the backing file itself"),
        "{}",
        finished.err()
    );
    place.injected(
        "pwrite64:signal=SIGKILL:when=4",
        &["--ignore-mtime", "-b", &device.0, "-d", "cow"],
    );
    let finished = place.ok(&["--ignore-mtime", "-b", &device.0, "-d", "cow"]);
    assert!(
        finished
            .err()
            .contains("an interrupted merge was found and finished")
    );
    device.flush();
    assert!(place.read("medium") == disk.merged());
}

#[test]
fn a_mounted_device_is_refused() {
    isolated(|| {
        let disk = Disk::busy(1);
        let place = Place::new(&disk);
        File::create(place.at("medium"))
            .unwrap()
            .set_len(8 << 20)
            .unwrap();
        let _ = run(Command::new(installed("mkfs.ext4", "e2fsprogs"))
            .arg("-q")
            .arg(place.at("medium")))
        .success();
        let device = Loop::over(&place.at("medium"));
        fs::create_dir(place.at("mnt")).unwrap();
        let none = None::<&str>;
        let flags = nix::mount::MsFlags::empty();
        nix::mount::mount(
            Some(device.0.as_str()),
            &place.at("mnt"),
            Some("ext4"),
            flags,
            none,
        )
        .unwrap();
        let finished = place.moo(&["cow", &device.0]);
        assert_eq!(finished.code(), 1);
        assert!(
            finished.err().ends_with(": Device or resource busy\n"),
            "{}",
            finished.err()
        );
        let target = ["--ignore-mtime", "-b", &device.0, "-d", "cow"];
        let finished = place.moo(&target);
        assert_eq!(finished.code(), 1);
        let words = format!(
            "uml_moo: opening backing file '{}': Device or resource busy\n",
            device.0
        );
        assert_eq!(finished.err(), words);
        unmount(&place.at("mnt"));
    });
}

#[test]
fn on_a_file_system_that_shares_blocks_the_image_shares_them() {
    for (make, package, arguments, kind) in [
        ("mkfs.xfs", "xfsprogs", "-q", "xfs"),
        ("mkfs.btrfs", "btrfs-progs", "-q", "btrfs"),
    ] {
        isolated(|| {
            let folder = tempfile::tempdir().unwrap();
            let medium = folder.path().join("medium");
            File::create(&medium).unwrap().set_len(512 << 20).unwrap();
            let _ = run(Command::new(installed(make, package))
                .arg(arguments)
                .arg(&medium))
            .success();
            let device = Loop::over(&medium);
            let mnt = folder.path().join("mnt");
            fs::create_dir(&mnt).unwrap();
            let flags = nix::mount::MsFlags::empty();
            nix::mount::mount(
                Some(device.0.as_str()),
                &mnt,
                Some(kind),
                flags,
                None::<&str>,
            )
            .unwrap();
            shared_blocks(&mnt.canonicalize().unwrap());
            unmount(&mnt);
        });
    }
}

fn shared_blocks(root: &Path) {
    let mut disk = Disk::v3(noise((16 << 20) + 100), []);
    // A long run that is shared, from the middle of a block to the middle of another; a few
    // sectors; the short last one; a block that becomes zero.
    disk.changed.extend((1003..5005).map(|sector| (sector, 7)));
    disk.changed
        .extend([(8, 1), (9, 2), (20_000, 3), (32_768, 4)]);
    disk.changed
        .extend((30_000..30_008).map(|sector| (sector, 0)));
    let place = Place::within(root, &disk);
    let free = || {
        // What is written but has no blocks yet counts on some file systems only.
        nix::unistd::syncfs(File::open(root).unwrap()).unwrap();
        let status = nix::sys::statvfs::statvfs(root).unwrap();
        status.blocks_available() * status.fragment_size()
    };
    let before = free();
    place.ok(&["--verify", "cow", "new"]);
    assert!(place.read("new") == disk.merged());
    let used = before.saturating_sub(free());
    assert!(used < 4 << 20, "{used} bytes more are in use, of 16 MiB");
    place.ok(&["--verify", "-d", "cow"]);
    assert!(place.read("back") == disk.merged());

    // Too many runs: written anew.
    let busy = Disk::busy(2);
    place.write(&busy);
    place.ok(&["--verify", "cow", "new"]);
    assert!(place.read("new") == busy.merged());
}
