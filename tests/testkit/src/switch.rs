//! A switch that runs for a test, and guests' ends of its protocol, written from its description.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            fs::FileExt as _,
            net::{SocketAddr, UnixDatagram, UnixStream},
            process::{CommandExt as _, ExitStatusExt as _},
        },
    },
    path::Path,
    process::{self, Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{PATIENCE, bins::installed, cmd, until};

/// The first word of a request of version 1 and later.
pub const MAGIC: u32 = 0xfeed_face;

/// The address of all stations.
pub const BROADCAST: [u8; 6] = [0xff; 6];

/// The length of an address in requests and replies: `sockaddr_un`, all of it.
pub const ADDRESS_LEN: usize = 110;

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

/// The versions of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// No magic number, 120 bytes, no reply.
    V0,
    /// Magic number, type, Ethernet address: 124 bytes.
    V1,
    /// Magic number, version, type: 122 bytes and two of padding.
    V3,
}

/// A request for that kind of port (0 = a new one) of the guest whose data socket has this address.
#[must_use]
pub fn request(version: Version, kind: u32, address: &[u8; ADDRESS_LEN]) -> Vec<u8> {
    let mut bytes = Vec::new();
    if version != Version::V0 {
        bytes.extend(MAGIC.to_ne_bytes());
    }
    if version == Version::V3 {
        bytes.extend(3_u32.to_ne_bytes());
    }
    bytes.extend(kind.to_ne_bytes());
    if version != Version::V3 {
        bytes.extend(station(0));
    }
    bytes.extend(address);
    if version == Version::V3 {
        bytes.extend([0, 0]);
    }
    bytes
}

/// 110 bytes that name the socket at this path.
#[must_use]
pub fn path_address(path: &Path) -> [u8; ADDRESS_LEN] {
    let mut bytes = [0; ADDRESS_LEN];
    bytes[..2].copy_from_slice(&1_u16.to_ne_bytes());
    let path = path.as_os_str().as_encoded_bytes();
    bytes[2..2 + path.len()].copy_from_slice(path);
    bytes
}

/// 110 bytes that name an abstract socket as guests name theirs: NUL, the process id, a number, and
/// rubbish in all the rest, which is part of the name. No two calls give the same.
#[must_use]
pub fn fresh_address() -> [u8; ADDRESS_LEN] {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let mut bytes = [0xee; ADDRESS_LEN];
    bytes[..2].copy_from_slice(&1_u16.to_ne_bytes());
    bytes[2] = 0;
    bytes[3..7].copy_from_slice(&process::id().to_ne_bytes());
    bytes[7..11].copy_from_slice(&NEXT.fetch_add(1, Ordering::Relaxed).to_ne_bytes());
    bytes
}

/// The socket that 110 bytes name.
#[must_use]
pub fn socket_address(bytes: &[u8; ADDRESS_LEN]) -> SocketAddr {
    let name = &bytes[2..];
    if name[0] == 0 {
        return SocketAddr::from_abstract_name(&name[1..]).expect("an abstract name");
    }
    let end = name
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(name.len());
    let path = String::from_utf8(name[..end].to_vec()).expect("a path");
    SocketAddr::from_pathname(path).expect("a path")
}

/// A guest's end: its connection and its data socket. It is unplugged when dropped.
#[derive(Debug)]
pub struct Plug {
    /// The connection to the control socket.
    pub control: UnixStream,
    /// The guest's data socket.
    pub data: UnixDatagram,
    /// The switch's data socket.
    pub switch: SocketAddr,
    /// The switch's reply, unless the request was of version 0.
    pub reply: Option<[u8; ADDRESS_LEN]>,
}

impl Plug {
    /// Plugs a guest in by a request of that version (not 0) with an abstract data socket.
    ///
    /// Panics when the reply isn't 110 bytes that name a socket.
    #[track_caller]
    #[must_use]
    pub fn new(control: &Path, version: Version) -> Self {
        let address = fresh_address();
        let data = bind(&address);
        Self::ask(control, data, &request(version, 0, &address))
    }

    /// Plugs in by this request a guest that has bound this data socket.
    #[track_caller]
    #[must_use]
    pub fn ask(control: &Path, data: UnixDatagram, request: &[u8]) -> Self {
        let mut stream = connect(control);
        stream.write_all(request).expect("sending a request");
        let mut reply = [0; ADDRESS_LEN];
        stream.read_exact(&mut reply).expect("the switch's reply");
        Self {
            control: stream,
            data,
            switch: socket_address(&reply),
            reply: Some(reply),
        }
    }

    /// Sends a version 0 request. There is no reply: the switch's data socket is known beforehand,
    /// and nothing tells when the guest is plugged in.
    #[track_caller]
    #[must_use]
    pub fn v0(control: &Path, data_socket: &Path) -> Self {
        let address = fresh_address();
        let data = bind(&address);
        let mut stream = connect(control);
        stream
            .write_all(&request(Version::V0, 0, &address))
            .expect("sending a request");
        Self {
            control: stream,
            data,
            switch: SocketAddr::from_pathname(data_socket).expect("a path"),
            reply: None,
        }
    }

    /// Sends a frame to the switch.
    #[track_caller]
    pub fn send(&self, frame: &[u8]) {
        self.data
            .send_to_addr(frame, &self.switch)
            .expect("sending a frame");
    }

    /// The next frame from the switch. Panics when none comes in time.
    #[track_caller]
    #[must_use]
    pub fn recv(&self) -> Vec<u8> {
        let mut frame = vec![0; 1 << 17];
        let length = self.data.recv(&mut frame).expect("a frame");
        frame.truncate(length);
        frame
    }

    /// Whether a frame waits.
    #[must_use]
    pub fn has_frame(&self) -> bool {
        self.data.set_nonblocking(true).expect("a data socket");
        let peeked = nix::sys::socket::recv(
            std::os::fd::AsRawFd::as_raw_fd(&self.data),
            &mut [0],
            nix::sys::socket::MsgFlags::MSG_PEEK,
        );
        self.data.set_nonblocking(false).expect("a data socket");
        peeked.is_ok()
    }
}

/// A data socket with this address, whose receiving has a time limit.
#[track_caller]
#[must_use]
pub fn bind(address: &[u8; ADDRESS_LEN]) -> UnixDatagram {
    let data = UnixDatagram::bind_addr(&socket_address(address)).expect("a guest's data socket");
    data.set_read_timeout(Some(PATIENCE)).expect("a time limit");
    data.set_write_timeout(Some(PATIENCE))
        .expect("a time limit");
    data
}

/// A connection to a control socket, with time limits.
#[track_caller]
#[must_use]
pub fn connect(control: &Path) -> UnixStream {
    let stream = UnixStream::connect(control).expect("connecting to the switch");
    stream
        .set_read_timeout(Some(PATIENCE))
        .expect("a time limit");
    stream
        .set_write_timeout(Some(PATIENCE))
        .expect("a time limit");
    stream
}

/// Waits for the switch to close a connection; panics when it doesn't, or sends anything first.
#[track_caller]
pub fn wait_for_close(stream: &mut UnixStream) {
    let mut bytes = [0; 256];
    match stream.read(&mut bytes) {
        Ok(0) => {}
        Ok(length) => panic!("{length} bytes instead of the end"),
        Err(error) => assert_eq!(
            error.kind(),
            std::io::ErrorKind::ConnectionReset,
            "the end of a connection"
        ),
    }
}

/// The address of a station: 02:00:00:00:00:N.
#[must_use]
pub fn station(number: u8) -> [u8; 6] {
    [2, 0, 0, 0, 0, number]
}

/// A frame of the ethertype for experiments.
#[must_use]
pub fn frame(destination: [u8; 6], source: [u8; 6], payload: &[u8]) -> Vec<u8> {
    [&destination[..], &source, &[0x88, 0xb5], payload].concat()
}

/// The processes that were started with this `NAME=VALUE` in their environment: how a switch is
/// found that went to the background.
#[must_use]
pub fn processes_with(variable: &str) -> Vec<Pid> {
    let processes = std::fs::read_dir("/proc").expect("the list of processes");
    processes
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| {
            // One that has ended meanwhile has none.
            let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment
                .split(|byte| *byte == 0)
                .any(|entry| entry == variable.as_bytes())
        })
        .map(Pid::from_raw)
        .collect()
}
