//! Real User-Mode Linux guests: Debian's kernel, booted without KVM.

use std::{
    ffi::OsString,
    fs::{self, File},
    io,
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

use crate::{PATIENCE, bins::installed, cmd, image, until_within};

/// How long a guest may take for what it is asked: it boots in about 1.5 s on an idle machine.
const GUEST_PATIENCE: Duration = Duration::from_secs(180);

/// How often a guest is started whose kernel dies early in its boot.
const BOOTS: usize = 4;

/// A guest that is to be started.
///
/// It shares one host folder as `/mnt`, in which its script, its console log and its management
/// console's socket (below `uml/UMID/`) lie. Its root disk is `ubd0`; without [`Guest::root_disk`]
/// that is a COW file of its own over [`image::root`].
#[derive(Debug)]
pub struct Guest {
    umid: String,
    share: PathBuf,
    script: String,
    root_disk: String,
    memory: String,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
}

impl Guest {
    /// A guest of that name with that host folder; `script` is what it runs (by `sh`, as root, with
    /// busybox's tools) before it halts.
    #[must_use]
    pub fn new(umid: &str, share: &Path, script: &str) -> Self {
        let cow = share.join(format!("{umid}-root.cow"));
        Self {
            umid: umid.to_owned(),
            share: share.to_path_buf(),
            script: script.to_owned(),
            root_disk: format!("{},{}", cow.display(), image::root().display()),
            memory: "64M".to_owned(),
            arguments: Vec::new(),
            environment: Vec::new(),
        }
    }

    /// Another root disk: what stands behind `ubd0=` (`IMAGE` or `COW,BACKING`).
    #[must_use]
    pub fn root_disk(mut self, disk: &str) -> Self {
        disk.clone_into(&mut self.root_disk);
        self
    }

    /// Another size of memory than 64M.
    #[must_use]
    pub fn memory(mut self, size: &str) -> Self {
        size.clone_into(&mut self.memory);
        self
    }

    /// One more word on the kernel's command line: `eth0=daemon,,unix,/tmp/uml.ctl`.
    #[must_use]
    pub fn arg(mut self, word: impl Into<OsString>) -> Self {
        self.arguments.push(word.into());
        self
    }

    /// A variable in the environment of the host process.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Starts the guest and returns when its kernel has come to its root disk, or has given up.
    ///
    /// Now and then a guest kernel dies early in its boot, most of all on a busy host. It is started
    /// again then, a few times. Panics when there is no kernel to start.
    #[must_use]
    pub fn start(self) -> Running {
        let script = format!("{}.sh", self.umid);
        fs::write(self.share.join(&script), &self.script).expect("the guest's script");
        let mut running = self.boot(&script);
        for _ in 1..BOOTS {
            if running.has_booted() {
                break;
            }
            // Its helper processes have its disk locked until they are gone.
            running.kill();
            running = self.boot(&script);
        }
        running
    }

    fn boot(&self, script: &str) -> Running {
        let uml_dir = self.share.join("uml");
        fs::create_dir_all(&uml_dir).expect("a folder for the management console");
        let console = self.share.join(format!("{}.console", self.umid));
        let log = File::create(&console).expect("the guest's console log");
        let mut command = Command::new(installed("linux.uml", "user-mode-linux"));
        command
            .arg(format!("mem={}", self.memory))
            .arg(format!("umid={}", self.umid))
            .arg(format!("uml_dir={}", uml_dir.display()))
            .args([
                "root=/dev/ubda",
                "rw",
                "init=/init",
                "con=null",
                "con0=null,fd:1",
            ])
            .arg(format!("ubd0={}", self.root_disk))
            .args(&self.arguments)
            .arg(format!("SHARE={}", self.share.display()))
            .arg(format!("SCRIPT={script}"))
            .args(workaround_argument())
            .envs(self.environment.clone())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("the guest's console log"))
            .stderr(log)
            .process_group(0);
        let child = spawn(command).unwrap_or_else(|error| panic!("starting linux.uml: {error}"));
        let pid = child.id();
        Running {
            umid: self.umid.clone(),
            share: self.share.clone(),
            console,
            uml_dir,
            child,
            pid,
            ended: None,
        }
    }
}

/// A guest that was started. Dropping it kills it, as [`Running::kill`] does.
#[derive(Debug)]
pub struct Running {
    umid: String,
    share: PathBuf,
    console: PathBuf,
    uml_dir: PathBuf,
    child: Child,
    pid: u32,
    ended: Option<ExitStatus>,
}

impl Running {
    /// Waits until the kernel has come to its root disk or has ended; `false`: it ended before that,
    /// of a signal or a panic of its own.
    fn has_booted(&mut self) -> bool {
        let what = format!("the boot of guest {}", self.umid);
        until_within(GUEST_PATIENCE, &what, || {
            let ended = self.try_wait();
            let console = self.console();
            // Not "VFS: " alone, which the kernel says of its caches long before.
            let came_far = ["VFS: Mounted root", "VFS: Unable to mount root"]
                .iter()
                .any(|text| console.contains(text));
            match ended {
                _ if came_far => Some(true),
                Some(_) => Some(false),
                None => None,
            }
        })
    }

    /// The process id of the guest's kernel on the host.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The socket of its management console.
    #[must_use]
    pub fn mconsole(&self) -> PathBuf {
        self.uml_dir.join(&self.umid).join("mconsole")
    }

    /// What its console has shown so far.
    #[must_use]
    pub fn console(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.console).unwrap_or_default()).into_owned()
    }

    /// Waits until the console shows this text. Panics with the console when the guest ends first.
    #[track_caller]
    pub fn wait_for(&mut self, text: &str) {
        until_within(
            GUEST_PATIENCE,
            &format!("'{text}' on the console of guest {}", self.umid),
            || {
                // Asked first: what it wrote before it ended is in the log by then.
                let ended = self.try_wait();
                let console = self.console();
                if console.contains(text) {
                    return Some(());
                }
                assert!(
                    ended.is_none(),
                    "guest {} ended without '{text}':\n{console}",
                    self.umid
                );
                None
            },
        );
    }

    /// Waits until this file stands in the shared folder (the guest's `/mnt`).
    #[track_caller]
    pub fn wait_for_file(&mut self, name: &str) {
        let path = self.share.join(name);
        let what = format!("file {name} of guest {}", self.umid);
        until_within(GUEST_PATIENCE, &what, || {
            let ended = self.try_wait();
            if path.exists() {
                return Some(());
            }
            assert!(
                ended.is_none(),
                "guest {} ended without {name}:\n{}",
                self.umid,
                self.console()
            );
            None
        });
    }

    /// How the guest ended, if it has.
    pub fn try_wait(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().expect("waiting for a guest");
        }
        self.ended
    }

    /// Waits for the guest to halt and returns what its console showed.
    ///
    /// Panics with the console when it doesn't halt, or its script failed.
    #[track_caller]
    #[expect(clippy::must_use_candidate, reason = "that it halted is often all")]
    pub fn halted(self) -> String {
        self.halted_within(GUEST_PATIENCE)
    }

    /// As [`Running::halted`], for a guest that has much to do.
    #[track_caller]
    #[expect(clippy::must_use_candidate, reason = "that it halted is often all")]
    pub fn halted_within(self, patience: Duration) -> String {
        self.halt(patience).0
    }

    /// As [`Running::halted`]; says too whether the kernel died before it gave back what it
    /// had of the host.
    #[track_caller]
    #[must_use]
    pub fn halted_or_died(self) -> (String, bool) {
        self.halt(GUEST_PATIENCE)
    }

    /// Now and then a guest kernel that has halted dies of a signal (SIGABRT) before its process ends
    /// by itself, most of all on a busy host. Its disks are synced and read-only by then.
    #[track_caller]
    fn halt(mut self, patience: Duration) -> (String, bool) {
        let status = match self.try_wait() {
            Some(status) => Some(status),
            None => cmd::wait_for(&mut self.child, patience),
        };
        let console = self.console();
        let Some(status) = status else {
            panic!(
                "guest {} has not halted after {patience:?}:\n{console}",
                self.umid
            );
        };
        self.ended = Some(status);
        let died = status.signal().is_some();
        let has_halted = !died || console.contains("reboot: System halted");
        assert!(
            has_halted && console.contains("the script ended with status 0"),
            "guest {} ended with {status}:\n{console}",
            self.umid
        );
        (console, died)
    }

    /// Kills the guest with SIGKILL, as a crash of the host would, and waits until all of it is gone.
    pub fn kill(mut self) {
        self.kill_now();
    }

    /// The processes that run the guest's programs and help its kernel share its descriptors (taps,
    /// sockets, locks), and may end a moment after it.
    fn kill_now(&mut self) {
        cmd::kill_group(&self.child);
        if self.ended.is_none() {
            self.ended = self.child.wait().ok();
        }
        let start = Instant::now();
        while has_members(self.pid) && start.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Whether a process of this group still has its descriptors: one that is dead has none.
fn has_members(group: u32) -> bool {
    let group = group.to_string();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter_map(|entry| fs::read(entry.path().join("stat")).ok())
        .any(|stat| {
            let stat = String::from_utf8_lossy(&stat);
            // Behind the program's name, which may hold anything: state, parent, group.
            let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields);
            let mut fields = fields.split(' ');
            !matches!(fields.next(), None | Some("Z" | "X")) && fields.nth(1) == Some(&group)
        })
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill_now();
    }
}

/// Processors with AMX have more floating-point state than the buffer of a 6.1 guest kernel holds,
/// and it panics before it runs its init. There the guest is made to use the old FXSAVE calls: the
/// newer one is refused by a seccomp filter, and its programs are told not to use AVX, whose
/// registers FXSAVE doesn't keep.
fn needs_workaround() -> bool {
    fs::read_to_string("/proc/cpuinfo").is_ok_and(|text| text.contains(" amx_tile"))
}

/// The word on the guest's command line, which the kernel hands to its init as a variable.
#[must_use]
pub fn workaround_argument() -> Option<&'static str> {
    needs_workaround().then_some(
        "GLIBC_TUNABLES=glibc.cpu.hwcaps=-AVX,-AVX2,-AVX512F,-AVX512VL,-AVX512BW,\
         -AVX_Fast_Unaligned_Load",
    )
}

/// Starts a command whose process is, or starts, a guest kernel, with the filter where needed.
///
/// # Errors
/// What starting it answered.
pub fn spawn(mut command: Command) -> io::Result<Child> {
    if !needs_workaround() {
        return command.spawn();
    }
    // A filter binds the thread that asks for it, and what that thread starts.
    let starter = thread::spawn(move || {
        seccompiler::apply_filter(&filter()).map_err(io::Error::other)?;
        command.spawn()
    });
    starter.join().expect("the thread that starts a guest")
}

fn filter() -> BpfProgram {
    const PTRACE: i64 = 101;
    const PTRACE_GETREGSET: u64 = 0x4204;
    const NT_X86_XSTATE: u64 = 0x202;
    const EINVAL: u32 = 22;
    let is = |index, value| {
        SeccompCondition::new(index, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)
            .expect("a valid condition")
    };
    let rule = SeccompRule::new(vec![is(0, PTRACE_GETREGSET), is(2, NT_X86_XSTATE)])
        .expect("a valid rule");
    SeccompFilter::new(
        [(PTRACE, vec![rule])].into(),
        SeccompAction::Allow,
        SeccompAction::Errno(EINVAL),
        TargetArch::x86_64,
    )
    .and_then(BpfProgram::try_from)
    .expect("a valid filter")
}
