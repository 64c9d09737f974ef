//! TCP between two network namespaces, by iperf3.
//!
//! One namespace is reached through the switch's own tap device. The 2007 switch has only one: the
//! other namespace's is carried to an ordinary port by a relay here, for all contenders alike.

use std::{
    io::{Read as _, Write as _},
    os::fd::AsFd as _,
    path::PathBuf,
    process::{Child, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use nix::{
    poll::{PollFd, PollFlags, poll},
    sched::{CloneFlags, unshare},
};
use uml_core::{
    error::{IoError, chain},
    hostnet::NamePattern,
    tuntap::{Device, Existing, Mode},
};

use crate::{
    error::Error,
    programs::{self, command},
    switch::{
        port::Port,
        process::{Recipe, Switch},
    },
};

/// How long a relay's thread waits before it looks whether it should end.
const TICK: Duration = Duration::from_millis(200);
/// The switch's tap device, and the relay's (or the switch's second one).
const TAPS: [&str; 2] = ["benchtap0", "benchtap1"];
const NEAR: &str = "10.254.254.1";
const FAR: &str = "10.254.254.2";

/// How the second namespace is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FarEnd {
    /// A relay between a tap device and an ordinary port.
    Relay,
    /// A second tap device of the switch.
    Tap,
}

/// Which way the bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From the switch's tap device to the far end.
    Out,
    /// From the far end to the switch's tap device.
    Back,
}

/// What iperf3 found.
#[derive(Debug, Clone, Copy)]
pub struct Throughput {
    /// Bits that arrived, per second.
    pub bits_per_second: f64,
    /// Segments sent again.
    pub retransmits: f64,
}

/// Lets iperf3 work for a time.
///
/// # Errors
/// Not root, a program is missing, or the switch passes nothing on.
pub fn run(recipe: &Recipe, far: FarEnd, way: Way, time: Duration) -> Result<Throughput, Error> {
    // A thread of its own has the namespaces, and all it starts; they end with it.
    thread::scope(|scope| {
        let measured = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET)
                .map_err(Error::system("making a network namespace (root is needed)"))?;
            within(recipe, far, way, time)
        });
        let ended = |_| Error::Unsupported("a thread ended early".into());
        measured.join().map_err(ended)?
    })
}

fn within(recipe: &Recipe, far: FarEnd, way: Way, time: Duration) -> Result<Throughput, Error> {
    let [near_tap, far_tap] = TAPS;
    let taps: &[&str] = match far {
        FarEnd::Relay => &[near_tap],
        FarEnd::Tap => &[near_tap, far_tap],
    };
    let switch = recipe.with_taps(taps).start()?;
    let (near, other) = (Namespace::new()?, Namespace::new()?);
    near.take(near_tap, NEAR)?;
    match far {
        FarEnd::Tap => {
            other.take(far_tap, FAR)?;
            iperf(&near, &other, way, time)
        }
        FarEnd::Relay => relayed(&switch, far_tap, &other, || iperf(&near, &other, way, time)),
    }
}

/// Carries frames between a new tap device (which moves to `namespace`) and a port, during `work`.
fn relayed<T>(
    switch: &Switch,
    tap: &str,
    namespace: &Namespace,
    work: impl FnOnce() -> Result<T, Error>,
) -> Result<T, Error> {
    let pattern: NamePattern = tap
        .parse()
        .map_err(|_| Error::Unsupported(format!("no name for a device: {tap}")))?;
    let device = Device::open(&pattern, Mode::default(), Existing::Refuse)
        .map_err(|error| Error::Unsupported(chain(&error)))?;
    let port = switch.plug()?;
    port.receive_within(TICK)?;
    namespace.take(tap, FAR)?;
    let finished = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| from_tap(&device, &port, &finished));
        scope.spawn(|| to_tap(&port, &device, &finished));
        let done = work();
        finished.store(true, Ordering::Release);
        done
    })
}

fn from_tap(device: &Device, port: &Port, finished: &AtomicBool) {
    let mut tap = device.file();
    let mut room = [0; 2048];
    let limit = u16::try_from(TICK.as_millis()).unwrap_or(u16::MAX);
    while !finished.load(Ordering::Acquire) {
        let mut fds = [PollFd::new(tap.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, limit) != Ok(1) {
            continue;
        }
        if let Ok(length) = tap.read(&mut room) {
            // A frame that can't be sent is lost, as on any wire; TCP sends it again.
            let _ = port.send(room.get(..length).unwrap_or_default());
        }
    }
}

fn to_tap(port: &Port, device: &Device, finished: &AtomicBool) {
    let mut tap = device.file();
    let mut room = [0; 2048];
    while !finished.load(Ordering::Acquire) {
        match port.receive(&mut room) {
            Ok(Some(length)) => {
                // As above.
                let _ = tap.write(room.get(..length).unwrap_or_default());
            }
            Ok(None) => {}
            Err(_) => return,
        }
    }
}

fn iperf(near: &Namespace, far: &Namespace, way: Way, time: Duration) -> Result<Throughput, Error> {
    let iperf3 = programs::find("iperf3", "iperf3")?;
    let mut server = near.command(&["iperf3", "-s", "-1"])?;
    let mut server = server
        .stderr(Stdio::null())
        .spawn()
        .map_err(IoError::at("starting", &iperf3))?;
    let seconds = time.as_secs().max(1).to_string();
    let mut words = vec!["iperf3", "-J", "-c", NEAR, "-t", &seconds];
    if way == Way::Out {
        words.push("-R");
    }
    let start = Instant::now();
    let result = loop {
        let mut client = far.command(&words)?;
        let output = client
            .stdout(Stdio::piped())
            .output()
            .map_err(IoError::at("starting", &iperf3))?;
        let result = parse(&output.stdout);
        // The server may not listen yet.
        if result.is_some() || start.elapsed() > Duration::from_secs(10) + time {
            break result;
        }
        thread::sleep(Duration::from_millis(50));
    };
    end(&mut server);
    result.ok_or_else(|| Error::Unsupported("iperf3 got nothing through".into()))
}

/// Reads iperf3's JSON.
fn parse(output: &[u8]) -> Option<Throughput> {
    let json: serde_json::Value = serde_json::from_slice(output).ok()?;
    let end = json.get("end")?;
    Some(Throughput {
        bits_per_second: end.get("sum_received")?.get("bits_per_second")?.as_f64()?,
        retransmits: end.get("sum_sent")?.get("retransmits")?.as_f64()?,
    })
}

/// A network namespace, held by a process that sleeps.
struct Namespace {
    holder: Child,
}

impl Namespace {
    fn new() -> Result<Self, Error> {
        let unshare = programs::find("unshare", "util-linux")?;
        let holder = command(&unshare)
            .args(["-n", "sleep", "600"])
            .spawn()
            .map_err(IoError::at("starting", &unshare))?;
        let namespace = Self { holder };
        // It is there once the process's namespace isn't this thread's any more.
        let own = PathBuf::from("/proc/thread-self/ns/net");
        let own = std::fs::read_link(&own).map_err(IoError::at("reading", &own))?;
        let start = Instant::now();
        loop {
            let theirs = PathBuf::from(format!("/proc/{}/ns/net", namespace.holder.id()));
            let theirs = std::fs::read_link(&theirs).map_err(IoError::at("reading", &theirs))?;
            if theirs != own {
                return Ok(namespace);
            }
            if start.elapsed() > Duration::from_secs(10) {
                return Err(Error::Unsupported("no network namespace after 10 s".into()));
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Moves a device of this thread's namespace here, and gives it an address.
    fn take(&self, device: &str, address: &str) -> Result<(), Error> {
        let ip = programs::find("ip", "iproute2")?;
        let holder = self.holder.id().to_string();
        programs::run(command(ip).args(["link", "set", device, "netns", &holder]))?;
        let address = format!("{address}/24");
        programs::run(&mut self.command(&["ip", "address", "add", &address, "dev", device])?)?;
        programs::run(&mut self.command(&["ip", "link", "set", device, "up"])?)
    }

    /// A command that is to run in the namespace.
    fn command(&self, words: &[&str]) -> Result<std::process::Command, Error> {
        let holder = self.holder.id().to_string();
        let mut command = command(programs::find("nsenter", "util-linux")?);
        command.args(["-t", &holder, "-n"]).args(words);
        Ok(command)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        end(&mut self.holder);
    }
}

fn end(child: &mut Child) {
    // It may have ended already, which is as good.
    let _ = child.kill();
    let _ = child.wait();
}
