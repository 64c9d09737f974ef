//! Real User-Mode Linux guests, and what more than one of their tests needs.
#![forbid(unsafe_code)]
#![expect(
    clippy::missing_panics_doc,
    clippy::expect_used,
    reason = "helpers of tests fail by panicking; each one's doc says on what"
)]

use std::{os::unix::fs::symlink, path::Path, process::Command};

use tempfile::TempDir;
use testkit::{
    bins::{installed, ours},
    cmd::run,
    netns::{empty, without_ipv6},
};

/// Panics with what `e2fsck -fn` said unless the file system in this image is clean.
#[track_caller]
pub fn assert_clean(image: &Path) {
    let checked = run(Command::new(installed("e2fsck", "e2fsprogs"))
        .arg("-fn")
        .arg(image));
    assert_eq!(checked.code(), 0, "{}{}", checked.out(), checked.err());
}

/// `uml_mconsole` for the guests whose sockets lie below `uml` in this folder, which is also where
/// it is started.
#[must_use]
pub fn mconsole(dir: &Path) -> Command {
    let mut command = Command::new(ours("uml_mconsole"));
    command
        .env("HOME", "/nonexistent")
        .current_dir(dir)
        .arg("--uml-dir")
        .arg(dir.join("uml"));
    command
}

/// A folder for a guest's `PATH` that holds `uml_net` and nothing else: no ifconfig, no route.
///
/// Panics when it can't be made.
#[must_use]
pub fn path_with_uml_net() -> TempDir {
    let path = tempfile::tempdir().expect("a folder for uml_net");
    symlink(ours("uml_net"), path.path().join("uml_net")).expect("naming uml_net");
    path
}

/// Gives the calling thread's mount and network namespaces, which must be its own, a `/run` for
/// `uml_net`'s state and no IPv6, whose own messages would be seen among the guests'.
///
/// Panics when the system refuses.
pub fn prepare_host() {
    empty("/run");
    without_ipv6();
}
