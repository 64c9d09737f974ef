//! Commands with a time limit and their output.

use std::{
    fs,
    io::{Read, Write as _},
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    process::{Child, Command, ExitStatus, Stdio},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};

use crate::PATIENCE;

/// What a command that has ended left.
#[derive(Debug, Clone)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: Vec<u8>,
}

impl Finished {
    /// Its standard output as text.
    #[must_use]
    pub fn out(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Its standard error as text.
    #[must_use]
    pub fn err(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// Its exit code, as a shell has it: 128 + N when signal N ended it.
    #[must_use]
    pub fn code(&self) -> i32 {
        self.status
            .code()
            .or_else(|| self.status.signal().map(|signal| 128 + signal))
            .unwrap_or(-1)
    }

    /// Panics with all that the command said unless it ended with 0.
    #[must_use]
    #[track_caller]
    pub fn success(self) -> Self {
        assert!(
            self.status.success(),
            "{}\nstdout: {}\nstderr: {}",
            self.status,
            self.out(),
            self.err()
        );
        self
    }
}

/// Runs a command to its end with no standard input, in a process group of its own.
///
/// Panics when it can't be started, or takes longer than [`PATIENCE`] (it is killed then).
#[track_caller]
pub fn run(command: &mut Command) -> Finished {
    run_for(command, b"", PATIENCE)
}

/// As [`run`], with this standard input.
#[track_caller]
pub fn run_with_input(command: &mut Command, input: &[u8]) -> Finished {
    run_for(command, input, PATIENCE)
}

/// As [`run`], with this standard input and this time limit.
#[track_caller]
pub fn run_for(command: &mut Command, input: &[u8], limit: Duration) -> Finished {
    let stdin = if input.is_empty() {
        Stdio::null()
    } else {
        Stdio::piped()
    };
    let mut child = command
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .unwrap_or_else(|error| panic!("starting {command:?}: {error}"));
    let writer = child.stdin.take().map(|mut pipe| {
        let input = input.to_vec();
        // A command that doesn't read its input is none of the writer's business.
        thread::spawn(move || pipe.write_all(&input).is_ok())
    });
    let stdout = child.stdout.take().map(drain);
    let stderr = child.stderr.take().map(drain);
    let status = wait_for(&mut child, limit);
    if status.is_none() {
        kill_group(&child);
    }
    let status_after = child.wait().expect("waiting for a child");
    let finished = Finished {
        status: status_after,
        stdout: stdout.map(collect).unwrap_or_default(),
        stderr: stderr.map(collect).unwrap_or_default(),
    };
    if let Some(writer) = writer {
        let _ = writer.join();
    }
    assert!(
        status.is_some(),
        "{command:?} had not ended after {limit:?}\nstdout: {}\nstderr: {}",
        finished.out(),
        finished.err()
    );
    finished
}

/// A process that does nothing for a long time, and that SIGINT ends even where the tests
/// themselves were started with SIGINT ignored, as background jobs of a shell are.
#[must_use]
pub fn sleeper() -> Child {
    let child = Command::new("env")
        .args(["--default-signal=INT", "sleep", "1000"])
        .spawn()
        .expect("env, of coreutils");
    until_named(&child, "sleep");
    child
}

/// Waits until a child runs the program of this name, as the kernel keeps it (15 bytes): until then
/// others may see it under its parent's, though the call that started it has returned.
#[track_caller]
pub fn until_named(child: &Child, name: &str) {
    let file = format!("/proc/{}/comm", child.id());
    crate::until(&format!("a process named {name}"), || {
        let now = fs::read_to_string(&file).ok()?;
        (now.trim_end() == name).then_some(())
    });
}

/// The letter that `/proc` has for what a process does (`S` it sleeps, `T` it is stopped, `Z` it has
/// ended and isn't waited for); `None` when there is no such process.
#[must_use]
pub fn state(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Behind the program's name, which may hold anything.
    stat.rsplit_once(") ")?.1.chars().next()
}

/// Waits for a child at most that long; `None` when it still runs.
pub fn wait_for(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("waiting for a child") {
            return Some(status);
        }
        if start.elapsed() >= limit {
            return None;
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// Kills the process group that a child leads.
pub fn kill_group(child: &Child) {
    if let Ok(pid) = i32::try_from(child.id()) {
        // It may have ended by itself meanwhile.
        let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
    }
}

fn drain(mut pipe: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // What was read before an error still counts.
        let _ = pipe.read_to_end(&mut bytes);
        bytes
    })
}

fn collect(handle: JoinHandle<Vec<u8>>) -> Vec<u8> {
    handle.join().expect("a reader thread")
}
