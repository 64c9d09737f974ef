//! The management console of real guests, and the programs that their kernels run.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, Write as _},
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _},
        net::UnixDatagram,
    },
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
};

use guests::mconsole;
use nix::{
    mount::{MsFlags, mount},
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use testkit::{
    bins::{installed, ours},
    cmd::{Finished, run, run_with_input, state},
    guest::{Guest, Running},
    netns, until,
};

/// What a guest does that is only talked to: it says when it is there, and stays.
const STAY: &str = "echo 'guest: there'; while :; do sleep 1; done";

fn boot(dir: &Path, umid: &str) -> Running {
    let mut guest = Guest::new(umid, dir, STAY).start();
    guest.wait_for("guest: there");
    guest
}

/// The tool, with more patience than a guest needs on the busiest machine.
fn asking(dir: &Path) -> Command {
    let mut command = mconsole(dir);
    command.args(["--timeout", "30"]);
    command
}

/// Asks guest `lab1` and returns its whole answer, of which nothing may be missing.
#[track_caller]
fn ask(dir: &Path, command: &str) -> String {
    let finished = run(asking(dir).args(["lab1", command])).success();
    assert_eq!(finished.err(), "", "{command}");
    let out = finished.out();
    let Some(text) = out.strip_prefix("OK ") else {
        panic!("{command}: {out}");
    };
    text.to_owned()
}

/// Asks guest `lab1` for what it refuses; returns its words and the status.
#[track_caller]
fn refused(dir: &Path, command: &str) -> (String, i32) {
    let finished = run(asking(dir).args(["lab1", command]));
    assert_eq!(finished.err(), "", "{command}");
    let out = finished.out();
    let Some(text) = out.strip_prefix("ERR ") else {
        panic!("{command}: {out}");
    };
    (text.trim_end().to_owned(), finished.code())
}

/// Waits until the guest's process has ended.
fn wait_for_end(guest: &mut Running) {
    until("the guest's end", || guest.try_wait());
}

#[test]
fn devices_are_plugged_in_and_taken_out() {
    let dir = tempfile::tempdir().unwrap();
    let d = fs::canonicalize(dir.path()).unwrap();
    // The command `go` is a file that the test makes; then the guest looks at its new disk.
    let script = "echo 'guest: there'
while [ ! -e /mnt/go ]; do sleep 0.1; done
mknod /tmp/disk b 98 32
head -c 17 /tmp/disk >/mnt/first-bytes
while :; do sleep 1; done";
    let mut guest = Guest::new("lab1", &d, script).start();
    guest.wait_for("guest: there");

    let file = File::create(d.join("relative.img")).unwrap();
    file.set_len(1 << 20).unwrap();
    (&file).write_all(b"a relative image\n").unwrap();
    assert_eq!(ask(&d, "config ubd2"), "\n");
    assert_eq!(ask(&d, "config ubd2=relative.img"), "\n");
    let disk = d.join("relative.img").display().to_string();
    assert_eq!(ask(&d, "config ubd2"), format!("{disk}\n"));
    fs::write(d.join("go"), "").unwrap();
    until("the guest to read its disk", || {
        let read = fs::read(d.join("first-bytes")).ok()?;
        (read.len() == 17).then(|| assert_eq!(read, b"a relative image\n"))
    });
    // The guest closes it a moment later.
    until("the disk to be free", || {
        let finished = run(asking(&d).args(["lab1", "remove", "ubd2"]));
        (finished.out() == "OK \n" && finished.code() == 0).then_some(())
    });
    assert_eq!(ask(&d, "config ubd2"), "\n");
    // A COW file that is made on the way, over a backing file: both names are relative.
    assert_eq!(ask(&d, "config ubd2=new.cow,relative.img"), "\n");
    assert!(d.join("new.cow").exists());
    assert_eq!(
        ask(&d, "config ubd2"),
        format!("{}/new.cow,{disk}\n", d.display())
    );
    let missing = refused(&d, "config ubd3=nowhere.img");
    assert_eq!(missing.1, 254, "{}", missing.0);
    assert_eq!(refused(&d, "remove ubd7").1, 237);

    assert_eq!(ask(&d, "config con5=pts"), "\n");
    assert_eq!(ask(&d, "config con5"), "pts\n");
    assert_eq!(ask(&d, "remove con5"), "\n");
    assert_eq!(ask(&d, "config con5"), "none\n");
    assert_eq!(ask(&d, "config eth3=mcast"), "\n");
    assert_eq!(
        refused(&d, "config eth3=mcast").0,
        "Device already configured"
    );
    assert_eq!(ask(&d, "remove eth3"), "\n");
    assert_eq!(refused(&d, "remove eth3").1, 237);

    let list = run(asking(&d).args(["--list", "--json"])).success();
    let list: serde_json::Value = serde_json::from_slice(&list.stdout).unwrap();
    assert_eq!(list[0]["umid"], "lab1");
    assert_eq!(list[0]["state"], "alive");
    assert_eq!(list[0]["pid"], guest.pid());
    let devices = list[0]["devices"].as_array().unwrap();
    assert!(
        devices.iter().any(|device| device["name"] == "ubd2"),
        "{list}"
    );
    assert_eq!(ask(&d, "halt"), "\n");
    wait_for_end(&mut guest);
}

#[test]
fn long_answers_are_whole() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    // Mounts with long names.
    let script = "name=$(head -c 240 /dev/zero | tr '\\0' m)
dir=/tmp/$name/$name/$name
mkdir -p $dir
i=0
while [ $i -lt 100 ]; do
    mount -t tmpfs none $dir || exit 1
    i=$((i + 1))
done
cat /proc/1/mounts >/mnt/mounts
echo 'guest: there'
while :; do sleep 1; done";
    let mut guest = Guest::new("lab1", d, script).start();
    guest.wait_for("guest: there");

    // 150 datagrams and more; the guest doesn't wait for whoever reads them.
    let mounts = fs::read_to_string(d.join("mounts")).unwrap();
    assert!(mounts.len() > 64 << 10, "{}", mounts.len());
    for _ in 0..10 {
        assert!(ask(d, "proc 1/mounts") == format!("\n{mounts}\n"));
    }
    for _ in 0..25 {
        let memory = ask(d, "sysrq m");
        assert!(
            memory.starts_with("sysrq: Show Memory\nMem-Info:\n"),
            "{memory}"
        );
        assert!(memory.ends_with(" pages reserved\n\n"), "{memory}");
    }
    let help = ask(d, "help");
    assert!(help.starts_with("Commands:"), "{help}");
    assert!(
        help.ends_with("    int  - Interrupt UML session\n"),
        "{help}"
    );
    assert!(ask(d, "stack 1").contains("Call Trace:"));
    kill(
        Pid::from_raw(guest.pid().try_into().unwrap()),
        Signal::SIGKILL,
    )
    .unwrap();
    wait_for_end(&mut guest);
}

#[test]
fn a_guest_answers_its_commands() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    let mut guest = boot(d, "lab1");

    let version = ask(d, "version");
    assert!(
        version.starts_with("Linux (none) ") && version.ends_with(" x86_64\n"),
        "{version}"
    );
    let uptime = ask(d, "proc uptime");
    assert_eq!(uptime.split_whitespace().count(), 2, "{uptime}");
    assert!(ask(d, "proc filesystems").contains("hostfs"));
    assert_eq!(
        refused(d, "proc no/such/file"),
        ("Failed to open file".into(), 1)
    );
    assert_eq!(
        refused(d, "proc self/mem"),
        ("Read of file failed".into(), 1)
    );
    assert_eq!(
        refused(d, "stack 99999"),
        ("Couldn't find that pid".into(), 1)
    );
    assert_eq!(refused(d, "no-such-command"), ("Unknown command".into(), 1));

    assert_eq!(ask(d, "stop"), "stopped\n");
    assert_eq!(refused(d, "stop"), ("Already stopped".into(), 1));
    assert_eq!(ask(d, "version"), version);
    assert_eq!(ask(d, "go"), "\n");
    assert_eq!(refused(d, "go"), ("Not stopped".into(), 1));

    let finished = run(asking(d).args(["lab1", "log", "a word", "from the host"])).success();
    assert_eq!(finished.out(), "OK \nOK \n");
    guest.wait_for("a word from the host");
    let lines: Vec<String> = (0..300).map(|number| format!("line {number}\n")).collect();
    let text = lines.concat();
    fs::write(d.join("text"), &text).unwrap();
    let finished = run(asking(d).args(["lab1", "log", "-f", "text"])).success();
    assert_eq!(finished.out().lines().count(), text.len().div_ceil(506));
    guest.wait_for("line 299");

    let script = "version\nproc nothing\n# and so on\nmconsole-version\n";
    let finished = run_with_input(asking(d).arg("lab1"), script.as_bytes());
    assert_eq!(
        finished.out(),
        format!("OK {version}ERR Failed to open file\numl_mconsole client version 2\n")
    );
    assert_eq!(finished.code(), 1);

    let finished = run(asking(d).args(["lab1", "int"])).success();
    assert_eq!((&*finished.out(), &*finished.err()), ("", ""));
    wait_for_end(&mut guest);
}

#[test]
fn two_guests_answer_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    let mut one = Guest::new("one", d, STAY).start();
    let mut two = Guest::new("two", d, STAY).start();
    for umid in ["one", "two"] {
        let finished = run(mconsole(d).args(["--wait-boot", umid])).success();
        assert_eq!((&*finished.out(), &*finished.err()), ("", ""));
    }
    one.wait_for("guest: there");
    two.wait_for("guest: there");
    let finished = run(asking(d).args(["--all", "version"])).success();
    let lines: Vec<String> = finished.out().lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].starts_with("one: OK Linux "), "{lines:?}");
    assert!(lines[1].starts_with("two: OK Linux "), "{lines:?}");
    assert_eq!(finished.err(), "");
    let finished = run(asking(d).args(["--all", "remove", "ubd7"]));
    assert_eq!(finished.code(), 237);

    let script = "version\ntwo: config ubd0\n";
    let finished = run_with_input(asking(d).arg("one"), script.as_bytes()).success();
    assert!(
        finished.out().contains("two-root.cow"),
        "{}",
        finished.out()
    );

    let finished = run(asking(d).args(["--all", "halt"])).success();
    assert_eq!(finished.out(), "one: OK \ntwo: OK \n");
    wait_for_end(&mut one);
    wait_for_end(&mut two);
    let finished = run(asking(d).args(["--all", "version"]));
    assert_eq!(finished.code(), 1);
}

#[test]
fn a_guest_that_the_host_has_stopped_is_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    let guest = boot(d, "lab1");
    let pid = Pid::from_raw(guest.pid().try_into().unwrap());
    kill(pid, Signal::SIGSTOP).unwrap();
    until("the guest to be stopped", || {
        (state(guest.pid()) == Some('T')).then_some(())
    });
    let ask = || run(mconsole(d).args(["--timeout", "0.5", "lab1", "version"]));
    let silent = ask();
    assert_eq!((&*silent.out(), silent.code()), ("", 1));
    assert_eq!(
        silent.err(),
        format!(
            "uml_mconsole: guest 'lab1' has not answered: nothing came for 0.5 s; its process \
             {pid} has been stopped by a signal (--timeout SECONDS waits longer)\n"
        )
    );
    kill(pid, Signal::SIGCONT).unwrap();
    until("an answer", || {
        let answered: Finished = ask();
        (answered.code() == 0 && answered.err().is_empty()).then_some(())
    });
}

/// The tool listening for notifications, and its lines.
struct Listening {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Listening {
    fn start(dir: &Path, socket: &Path) -> Self {
        let mut child = mconsole(dir)
            .arg("--notify")
            .arg(socket)
            .arg("--json")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        until("the notification socket", || {
            let connected = UnixDatagram::unbound().unwrap().connect(socket);
            connected.is_ok().then_some(())
        });
        Self { child, lines }
    }

    fn next(&mut self) -> serde_json::Value {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_guest_tells_of_its_boot_its_messages_and_its_panic() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    let socket = d.join("notify");
    let mut listening = Listening::start(d, &socket);
    let script = "echo 'a message' >/proc/mconsole
echo 'guest: there'
while [ ! -e /mnt/go ]; do sleep 0.1; done
echo c >/proc/sysrq-trigger";
    let mut guest = Guest::new("lab1", d, script)
        .arg(format!("mconsole=notify:{}", socket.display()))
        .start();
    // A kernel that died early in its boot, and was started again, may have told of its own.
    let boot = until("the boot of the kernel that runs", || {
        let told = listening.next();
        (told["pid"] == guest.pid()).then_some(told)
    });
    assert_eq!(
        (&boot["event"], &boot["umid"]),
        (&"boot".into(), &"lab1".into())
    );
    assert_eq!(boot["text"], guest.mconsole().display().to_string());
    let message = listening.next();
    assert_eq!(
        (&message["event"], &message["umid"], &message["text"]),
        (&"message".into(), &"lab1".into(), &"a message\n".into())
    );
    fs::write(d.join("go"), "").unwrap();
    let panic = listening.next();
    assert_eq!(
        (&panic["event"], &panic["umid"]),
        (&"panic".into(), &"lab1".into())
    );
    assert!(panic["text"].as_str().unwrap().contains("sysrq"), "{panic}");

    // What a guest that has panicked leaves behind is told from a guest. Processes of its programs
    // hold its socket a moment longer than the kernel's own.
    wait_for_end(&mut guest);
    let stale = format!(
        "uml_mconsole: no guest named 'lab1' is running (stale socket {})\n",
        guest.mconsole().display()
    );
    until("the end of all of the guest's processes", || {
        let finished = run(asking(d).args(["lab1", "version"]));
        assert_eq!((&*finished.out(), finished.code()), ("", 1));
        (finished.err() == stale).then_some(())
    });
    let list = run(mconsole(d).arg("--list")).success();
    assert!(list.out().contains("lab1  -    stale"), "{}", list.out());
}

#[test]
fn a_terminal_emulators_terminal_reaches_the_guest() {
    netns::isolated(|| {
        let dir = tempfile::tempdir().unwrap();
        let d = dir.path();
        in_place_of("/usr/lib/uml/port-helper", "port-helper");
        // It stands in for xterm: gets a title and what to run, and runs that on a new terminal.
        // What appears there goes to its own output.
        let emulator = d.join("emulator");
        let script = installed("script", "bsdutils");
        fs::write(
            &emulator,
            format!(
                "#!/bin/sh\nprintf '%s\\n' \"$@\" >\"$0.called\"\nshift 3\n\
                 exec {} -q -f -c \"$*\" \"$0.screen\" </dev/null >/dev/null 2>&1\n",
                script.display()
            ),
        )
        .unwrap();
        fs::set_permissions(&emulator, fs::Permissions::from_mode(0o755)).unwrap();
        let script = "mknod /tmp/tty1 c 4 1
exec 3>/tmp/tty1 || exit 1
echo 'hello, terminal of the host' >&3
echo 'guest: said hello'
while [ ! -e /mnt/go ]; do sleep 0.1; done
exec 3>&-
echo 'guest: closed it'
while [ ! -e /mnt/end ]; do sleep 0.1; done";
        let mut guest = Guest::new("lab1", d, script)
            .arg(format!("xterm={},-T,-e", emulator.display()))
            .arg("con1=xterm")
            .env("DISPLAY", ":stand-in")
            .start();
        guest.wait_for("guest: said hello");
        let screen = d.join("emulator.screen");
        until("the guest's words on the terminal", || {
            let screen = fs::read_to_string(&screen).ok()?;
            screen.contains("hello, terminal of the host").then_some(())
        });
        let called = fs::read_to_string(d.join("emulator.called")).unwrap();
        let called: Vec<&str> = called.lines().collect();
        assert_eq!(
            (called[0], called[2], called[4]),
            ("-T", "-e", "-uml-socket")
        );
        assert!(called[3].ends_with("/port-helper"), "{called:?}");
        fs::write(d.join("go"), "").unwrap();
        guest.wait_for("guest: closed it");
        fs::write(d.join("end"), "").unwrap();
        let _console = guest.halted();
    });
}

/// Puts our program where the kernel looks for it: a mount of this test's alone.
fn in_place_of(installed: &str, name: &str) {
    assert!(
        Path::new(installed).exists(),
        "{installed} is missing: apt-get install uml-utilities"
    );
    let (none, ours) = (None::<&str>, ours(name));
    mount(Some(&ours), installed, none, MsFlags::MS_BIND, none).unwrap();
}

#[test]
fn a_guests_watchdog_is_ours() {
    netns::isolated(|| {
        let dir = tempfile::tempdir().unwrap();
        let d = dir.path();
        in_place_of("/usr/bin/uml_watchdog", "uml_watchdog");
        let script = "mknod /tmp/watchdog c 10 130
exec 3>/tmp/watchdog || exit 1
echo -n x >&3
echo 'guest: watched'
while [ ! -e /mnt/go ]; do sleep 0.1; echo -n x >&3; done
exec 3>&-";
        let mut guest = Guest::new("lab1", d, script).start();
        guest.wait_for("guest: watched");
        let watchdog = until("the watchdog's process", || watchdog_of(guest.pid()));
        fs::write(d.join("go"), "").unwrap();
        until("the watchdog's end", || {
            (watchdog_of(guest.pid()) != Some(watchdog)).then_some(())
        });
        let _console = guest.halted();
    });
}

/// The process of our watchdog that watches over this guest.
fn watchdog_of(guest: u32) -> Option<u32> {
    let program = fs::metadata(ours("uml_watchdog")).unwrap();
    let call = format!("-pid\0{guest}\0");
    fs::read_dir("/proc").unwrap().find_map(|entry| {
        let process = entry.ok()?.path();
        let runs = fs::metadata(process.join("exe")).ok()?;
        let words = fs::read_to_string(process.join("cmdline")).ok()?;
        let is_it = (runs.dev(), runs.ino()) == (program.dev(), program.ino());
        (is_it && words.ends_with(&call))
            .then(|| process.file_name()?.to_str()?.parse().ok())
            .flatten()
    })
}
