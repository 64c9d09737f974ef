//! The root file system that the guests boot from.

use std::{
    fs::{self, File},
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use nix::fcntl::{Flock, FlockArg};

use crate::{
    bins::{installed, target_dir},
    cmd::run,
};

/// What a guest runs first: it mounts what a script needs, runs the script that the host left in
/// the shared folder, and halts. `SHARE` and `SCRIPT` come from the kernel's command line.
const INIT: &str = "#!/bin/sh
mount -t proc none /proc
mount -t sysfs none /sys
mount -t tmpfs none /tmp
mount -t hostfs none /mnt -o \"$SHARE\"
ip link set lo up
sh \"/mnt/$SCRIPT\"
echo \"guest: the script ended with status $?\"
sync
umount /mnt
mount -o remount,ro /
poweroff -f
";

/// The size of the root image: room for a few small files beside busybox.
const SIZE_BYTES: u64 = 24 << 20;

/// The root image, made on first use and kept beside the build's binaries.
///
/// Its modification time stays, so that COW files over it stay valid; never write to it: put a COW
/// file over it. Panics when a package that it is made with is missing.
#[must_use]
pub fn root() -> PathBuf {
    let dir = target_dir().join("testkit");
    fs::create_dir_all(&dir).expect("a folder for the root image");
    let lock = File::create(dir.join("lock")).expect("the root image's lock");
    let _lock = Flock::lock(lock, FlockArg::LockExclusive).expect("locking the root image");
    let image = dir.join("root-1.img");
    if !image.exists() {
        let unfinished = dir.join("root.img.new");
        build(&unfinished);
        fs::rename(&unfinished, &image).expect("naming the root image");
    }
    image
}

/// Makes a root image under this name: an ext4 file system with busybox and [`root`]'s `/init`.
///
/// Panics when a package that it is made with is missing.
pub fn build(image: &Path) {
    let busybox = installed("busybox", "busybox-static");
    let mkfs = installed("mkfs.ext4", "e2fsprogs");
    let tree = tempfile::tempdir().expect("a folder for the guest's files");
    let at = |name: &str| tree.path().join(name);
    for dir in ["bin", "proc", "sys", "dev", "tmp", "mnt", "etc"] {
        fs::create_dir(at(dir)).expect("the guest's folders");
    }
    fs::copy(&busybox, at("bin/busybox")).expect("the guest's busybox");
    let applets = run(Command::new(&busybox).arg("--list")).success().out();
    for applet in applets.lines().filter(|name| *name != "busybox") {
        symlink("busybox", at("bin").join(applet)).expect("busybox's links");
    }
    fs::write(at("init"), INIT).expect("the guest's init");
    fs::set_permissions(at("init"), fs::Permissions::from_mode(0o755)).expect("the guest's init");
    let file = File::create(image).expect("the root image");
    file.set_len(SIZE_BYTES).expect("the root image's size");
    drop(file);
    let mut command = Command::new(mkfs);
    command
        .args(["-q", "-F", "-O", "^has_journal", "-d"])
        .arg(tree.path())
        .arg(image);
    let _ = run(&mut command).success();
}
