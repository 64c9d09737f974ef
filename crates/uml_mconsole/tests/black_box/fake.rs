//! A guest that is a thread: it answers each request with the datagrams that a test says.

use std::{
    fs,
    os::unix::net::{SocketAddr, UnixDatagram},
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex, atomic::AtomicBool, atomic::Ordering},
    thread::{self, JoinHandle},
    time::Duration,
};

use testkit::until;
use uml_core::wire::mconsole::{Piece, Request};

/// The program under test.
pub(crate) fn tool() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_uml_mconsole"));
    // No test may see or touch the guests of whoever runs it.
    command.env("HOME", "/nonexistent");
    command
}

/// The datagrams that answer a command. The last argument is for what a list can't say.
pub(crate) type Answer = dyn Fn(&[u8], &UnixDatagram, &SocketAddr) -> Vec<Vec<u8>> + Send;

/// A guest below a directory of the test's, at `DIR/UMID/mconsole`.
pub(crate) struct Fake {
    socket: PathBuf,
    heard: Arc<Mutex<Vec<String>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Fake {
    /// A guest that answers with these datagrams.
    pub(crate) fn new(
        uml_dir: &Path,
        umid: &str,
        answer: impl Fn(&[u8]) -> Vec<Vec<u8>> + Send + 'static,
    ) -> Self {
        Self::with_socket(
            uml_dir,
            umid,
            Box::new(move |command, _, _| answer(command)),
        )
    }

    /// A guest that may do what it likes with its socket.
    pub(crate) fn with_socket(uml_dir: &Path, umid: &str, answer: Box<Answer>) -> Self {
        let dir = uml_dir.join(umid);
        fs::create_dir_all(&dir).unwrap();
        let path = dir.join("mconsole");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_millis(50)))
            .unwrap();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let thread = {
            let (heard, stop) = (Arc::clone(&heard), Arc::clone(&stop));
            thread::spawn(move || {
                let mut buffer = [0; 1024];
                while !stop.load(Ordering::Relaxed) {
                    let Ok((length, from)) = socket.recv_from(&mut buffer) else {
                        continue;
                    };
                    let request = Request::decode(&buffer[..length]).unwrap();
                    let text = String::from_utf8_lossy(request.command()).into_owned();
                    heard.lock().unwrap().push(text);
                    for datagram in answer(request.command(), &socket, &from) {
                        // A client that has gone away is what some tests are about.
                        let _ = socket.send_to_addr(&datagram, &from);
                    }
                }
            })
        };
        Self {
            socket: path,
            heard,
            stop,
            thread: Some(thread),
        }
    }

    /// The path of its socket.
    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// The commands that it has received.
    pub(crate) fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let panicked = thread.join().is_err();
            assert!(!panicked || thread::panicking(), "the fake guest panicked");
        }
    }
}

/// What a guest that has ended without cleaning up leaves at `DIR/UMID/mconsole`; returns that path.
pub(crate) fn stale_guest(uml_dir: &Path, umid: &str) -> PathBuf {
    let dir = uml_dir.join(umid);
    fs::create_dir_all(&dir).unwrap();
    let path = dir.join("mconsole");
    drop(UnixDatagram::bind(&path).unwrap());
    until_stale(&path);
    path
}

/// Waits until nobody listens on a socket that has been closed: a program that another test is just
/// starting holds it a moment longer.
pub(crate) fn until_stale(socket: &Path) {
    until("a stale socket", || {
        let connected = UnixDatagram::unbound().unwrap().connect(socket);
        connected.is_err().then_some(())
    });
}

/// The last piece of a reply, or the only one.
pub(crate) fn last(text: &str) -> Vec<u8> {
    piece(0, false, text.as_bytes())
}

/// A piece that another follows.
pub(crate) fn more(text: &str) -> Vec<u8> {
    piece(0, true, text.as_bytes())
}

/// A piece of any kind.
pub(crate) fn piece(err: i32, more: bool, text: &[u8]) -> Vec<u8> {
    let err = u32::from_ne_bytes(err.to_ne_bytes());
    Piece { err, more, text }.encode()
}
