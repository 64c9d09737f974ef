//! A switch that runs for a test, and guests' ends of its protocol.

use std::{
    fs::{self, File},
    os::unix::{
        fs::FileExt as _,
        process::{CommandExt as _, ExitStatusExt as _},
    },
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{PATIENCE, bins::installed, cmd, until};

mod plug;

pub use plug::{
    ADDRESS_LEN, BROADCAST, MAGIC, Plug, Version, bind, connect, frame, fresh_address,
    path_address, request, socket_address, station, uninterrupted, wait_for_close,
};

/// A switch that was started. Dropping it kills it.
#[derive(Debug)]
pub struct Switch {
    child: Child,
    log: File,
    errors: File,
    ended: Option<ExitStatus>,
}

/// The command that starts a switch whose standard output comes line by line even where it goes to
/// a file, which the reference's doesn't by itself.
#[must_use]
pub fn command(binary: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(installed("stdbuf", "coreutils"));
    command.arg("-oL").arg(binary).args(args);
    command
}

impl Switch {
    /// Starts a switch in that folder, without standard input, and waits until it says that it is
    /// attached to its sockets. Panics with what it said when it ends instead.
    #[track_caller]
    #[must_use]
    pub fn start(binary: &Path, dir: &Path, args: &[&str]) -> Self {
        let mut switch = Self::launch(dir, command(binary, args), Stdio::null());
        switch.wait_for(" attached to unix socket");
        switch
    }

    /// Starts a switch by this command in that folder and returns at once.
    #[track_caller]
    #[must_use]
    pub fn launch(dir: &Path, mut command: Command, stdin: Stdio) -> Self {
        let log = tempfile::tempfile().expect("a file for the switch's log");
        let errors = tempfile::tempfile().expect("a file for the switch's errors");
        let child = command
            .current_dir(dir)
            .stdin(stdin)
            .stdout(log.try_clone().expect("the switch's log"))
            .stderr(errors.try_clone().expect("the switch's errors"))
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("starting {command:?}: {error}"));
        Self {
            child,
            log,
            errors,
            ended: None,
        }
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has written to standard output so far.
    #[must_use]
    pub fn log(&self) -> String {
        content(&self.log)
    }

    /// What it has written to standard error so far.
    #[must_use]
    pub fn errors(&self) -> String {
        content(&self.errors)
    }

    /// Waits until its standard output holds this text. Panics with all it said when it ends first.
    #[track_caller]
    pub fn wait_for(&mut self, text: &str) {
        self.wait_for_times(text, 1);
    }

    /// Waits until its standard output holds this text that often.
    #[track_caller]
    pub fn wait_for_times(&mut self, text: &str, times: usize) {
        until(&format!("'{text}' of the switch, {times} times"), || {
            // Asked first: what it wrote before it ended is in the log by then.
            let ended = self.try_wait();
            let log = self.log();
            if log.matches(text).count() >= times {
                return Some(());
            }
            let errors = self.errors();
            assert!(
                ended.is_none(),
                "the switch ended without '{text}': {ended:?}\n{log}{errors}"
            );
            None
        });
    }

    /// Sends it a signal.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.pid()).expect("a process id"));
        kill(pid, signal).expect("signalling the switch");
    }

    /// Stops it with SIGSTOP, and waits until it has stopped: a signal that was sent is not yet taken.
    /// SIGCONT has it go on.
    #[track_caller]
    pub fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
        until("the switch to stop", || {
            (cmd::state(self.pid()) == Some('T')).then_some(())
        });
    }

    /// Waits until it sleeps, or has ended: all that had reached it by now is dealt with, and what it
    /// said of that is in its log. The reference may write a line a second time when a signal finds
    /// it still at its log.
    #[track_caller]
    pub fn wait_until_idle(&self) {
        until("the switch to sleep", || {
            matches!(cmd::state(self.pid()), Some('S' | 'Z')).then_some(())
        });
    }

    /// How it ended, if it has.
    pub fn try_wait(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().expect("waiting for a switch");
        }
        self.ended
    }

    /// Waits for it to end; its exit code as a shell has it: 128 + N when signal N ended it.
    #[track_caller]
    pub fn wait(&mut self) -> i32 {
        if self.ended.is_none() {
            self.ended = cmd::wait_for(&mut self.child, PATIENCE);
        }
        let Some(status) = self.ended else {
            panic!("the switch doesn't end\n{}{}", self.log(), self.errors());
        };
        status
            .code()
            .or_else(|| status.signal().map(|signal| 128 + signal))
            .unwrap_or(-1)
    }

    /// Sends it a signal and waits for it to end.
    #[track_caller]
    pub fn stop(&mut self, signal: Signal) -> i32 {
        self.signal(signal);
        self.wait()
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        cmd::kill_group(&self.child);
        let _ = self.child.wait();
    }
}

fn content(file: &File) -> String {
    let length = file.metadata().expect("a switch's output").len();
    let mut bytes = vec![0; usize::try_from(length).expect("a log's length")];
    file.read_exact_at(&mut bytes, 0)
        .expect("a switch's output");
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The processes that were started with this `NAME=VALUE` in their environment: how a switch is
/// found that went to the background.
#[must_use]
pub fn processes_with(variable: &str) -> Vec<Pid> {
    let processes = fs::read_dir("/proc").expect("the list of processes");
    processes
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| {
            // One that has ended meanwhile has none.
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment
                .split(|byte| *byte == 0)
                .any(|entry| entry == variable.as_bytes())
        })
        .map(Pid::from_raw)
        .collect()
}
