//! Faults that a test has the system make: kills at each system call, limits, full and read-only
//! file systems.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use nix::{
    errno::Errno,
    mount::{MntFlags, MsFlags, mount, umount2},
};

use crate::{
    bins::installed,
    cmd::{Finished, run},
    until,
};

/// A moment at which a program is killed with SIGKILL: before it does this system call for the
/// so-many-th time, counted from 1 and from its start, the loader's calls included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment<'a> {
    /// The system call.
    pub call: &'a str,
    /// For which time.
    pub time: usize,
}

impl Moment<'_> {
    /// A command that runs a program, and kills it and its children at this moment. The program's
    /// own words follow as arguments.
    #[must_use]
    pub fn kills(&self, program: &Path) -> Command {
        let Self { call, time } = self;
        let mut command = Command::new(installed("strace", "strace"));
        command
            .args(["-f", "-qqq", "-o", "/dev/null"])
            .args(["-e", &format!("trace={call}")])
            .args(["-e", &format!("inject={call}:signal=KILL:when={time}")])
            .arg(program);
        command
    }
}

/// Calls `attempt` for each of these system calls (names with spaces between) and each time that
/// it is done. It says whether the program was killed at that moment: if not, the next call's turn
/// is next. Returns how many kills there were.
pub fn at_each_moment(calls: &str, mut attempt: impl FnMut(Moment<'_>) -> bool) -> usize {
    let mut kills = 0;
    for call in calls.split_whitespace() {
        let mut time = 1;
        while attempt(Moment { call, time }) {
            time += 1;
        }
        kills += time - 1;
    }
    kills
}

/// Whether a command that [`Moment::kills`] gave was killed; panics when it failed otherwise.
#[must_use]
#[track_caller]
pub fn was_killed(finished: &Finished) -> bool {
    let killed = finished.code() == 128 + 9;
    assert!(
        killed || finished.status.success(),
        "{}: {}",
        finished.status,
        finished.err()
    );
    killed
}

/// A command that runs a program with limits, as util-linux's prlimit has them: `--nofile=5`,
/// `--as=16777216`. Its own words follow as arguments.
#[must_use]
pub fn limited(limits: &[&str], program: &Path) -> Command {
    let mut command = Command::new(installed("prlimit", "util-linux"));
    command.args(limits).arg("--").arg(program);
    command
}

/// Limits that starve a program: few descriptors, little memory; the last ones are enough for any.
pub const STARVING: [&str; 14] = [
    "--nofile=3",
    "--nofile=4",
    "--nofile=5",
    "--nofile=6",
    "--nofile=7",
    "--nofile=8",
    "--nofile=10",
    "--nofile=64",
    "--as=2000000",
    "--as=3000000",
    "--as=4000000",
    "--as=6000000",
    "--as=10000000",
    "--as=200000000",
];

/// Runs what `prepare` gives under each of [`STARVING`], and has `check` look at how it ended.
///
/// Panics when a failure has no words.
#[track_caller]
pub fn starve(
    program: &Path,
    mut prepare: impl FnMut(&mut Command),
    mut check: impl FnMut(&str, &Finished),
) {
    for limit in STARVING {
        let mut command = limited(&[limit], program);
        prepare(&mut command);
        let finished = run(&mut command);
        let words = !finished.err().is_empty() || !finished.out().is_empty();
        // The kernel itself kills a program that has no memory to begin with.
        assert!(
            finished.status.success() || words || finished.code() == 128 + 11,
            "{limit}: failed without a word: {}",
            finished.status
        );
        check(limit, &finished);
    }
}

/// Mounts a file system in memory with these options (`size=64k`) there, in the calling thread's
/// mount namespace, which must be its own ([`crate::netns::isolated`]). The folder is made.
/// Returns `at`.
#[expect(clippy::must_use_candidate, reason = "the caller has the path")]
pub fn mount_tmpfs(at: &Path, options: &str) -> PathBuf {
    fs::create_dir_all(at).expect("a mount point");
    mount(
        Some("tmpfs"),
        at,
        Some("tmpfs"),
        MsFlags::empty(),
        Some(options),
    )
    .expect("a file system in memory");
    at.to_path_buf()
}

/// Gives what [`mount_tmpfs`] mounted other options, another size say.
pub fn remount_tmpfs(at: &Path, options: &str) {
    let none = None::<&str>;
    mount(none, at, none, MsFlags::MS_REMOUNT, Some(options)).expect("other options");
}

/// Takes a file system away from this name. It goes when nobody has its files open: a process that
/// another test is just starting may still have some.
pub fn unmount(at: &Path) {
    umount2(at, MntFlags::MNT_DETACH).expect("unmounting");
}

/// Makes what [`mount_tmpfs`] mounted read-only.
///
/// A process that another test is just starting has this one's open files until its exec: while one
/// of those is open for writing there, the system says EBUSY.
pub fn make_read_only(at: &Path) {
    let flags = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    until("a read-only file system", || {
        match mount(None::<&str>, at, None::<&str>, flags, None::<&str>) {
            Err(Errno::EBUSY) => None,
            done => Some(done),
        }
    })
    .expect("a read-only file system");
}
