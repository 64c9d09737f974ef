//! The listening end of `mconsole=notify:SOCKET`.

use std::{
    collections::HashMap,
    fs,
    io::{self, IoSliceMut},
    os::{
        fd::{AsFd as _, AsRawFd as _, OwnedFd},
        unix::{fs::MetadataExt as _, net::UnixDatagram},
    },
    path::{Path, PathBuf},
    time::Duration,
};

use nix::{
    cmsg_space,
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{
        AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr,
        UnixCredentials, bind, recvmsg, setsockopt, socket, sockopt,
    },
};
use uml_core::{
    IoError,
    wire::mconsole::{Event, Notification, NotificationError},
};

use crate::{
    guests::{Guest, Places, is_socket},
    process,
};

/// How many senders are remembered by name.
const MAX_REMEMBERED: usize = 1024;

/// A notification with what is known of its sender.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// What has happened.
    pub event: Event,
    /// More of it: may hold anything.
    pub text: Vec<u8>,
    /// The sender's process, as the kernel tells it.
    pub pid: Option<i32>,
    /// The guest's umid, where it can be told.
    pub umid: Option<String>,
}

/// A socket that hears notifications. Its name goes when it does.
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
    path: PathBuf,
    /// The file under `path` that is ours: device and inode.
    identity: (u64, u64),
    places: Places,
    names: HashMap<i32, String>,
}

impl Listener {
    /// Makes the socket. A stale one of that name, on which nobody listens, is replaced.
    ///
    /// # Errors
    /// What the system said; `AddrInUse` when somebody listens there, or it is no socket.
    pub fn bind(path: &Path, places: Places) -> Result<Self, IoError> {
        let at = |doing| IoError::at(doing, path);
        let socket = match bound(path) {
            Err(Errno::EADDRINUSE) if is_stale(path) => {
                fs::remove_file(path).map_err(at("removing stale socket"))?;
                bound(path)
            }
            other => other,
        }
        .map_err(io::Error::from)
        .map_err(at("listening on"))?;
        let meta = fs::symlink_metadata(path).map_err(at("listening on"))?;
        Ok(Self {
            socket,
            path: path.to_path_buf(),
            identity: (meta.dev(), meta.ino()),
            places,
            names: HashMap::new(),
        })
    }

    /// Waits this long for a notification; `None` when none came, or a signal did.
    ///
    /// # Errors
    /// What the system said. What is no notification is `Ok(Some(Err(…)))`.
    pub fn next(
        &mut self,
        wait: Duration,
    ) -> Result<Option<Result<Heard, NotificationError>>, IoError> {
        let mut fds = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX);
        match poll(&mut fds, timeout) {
            Ok(0) | Err(Errno::EINTR) => return Ok(None),
            Ok(_) => {}
            Err(errno) => return Err(IoError::at("waiting for", &self.path)(errno.into())),
        }
        let mut buffer = [0; 4096];
        let mut parts = [IoSliceMut::new(&mut buffer)];
        let mut control = cmsg_space!(UnixCredentials);
        let received = recvmsg::<UnixAddr>(
            self.socket.as_raw_fd(),
            &mut parts,
            Some(&mut control),
            MsgFlags::MSG_CMSG_CLOEXEC,
        );
        let (length, pid) = match received {
            Ok(received) => {
                let pid = received.cmsgs().ok().and_then(|messages| {
                    messages
                        .filter_map(|message| match message {
                            ControlMessageOwned::ScmCredentials(sender) => Some(sender.pid()),
                            _ => None,
                        })
                        .find(|pid| *pid > 0)
                });
                (received.bytes, pid)
            }
            Err(Errno::EAGAIN | Errno::EINTR) => return Ok(None),
            Err(errno) => return Err(IoError::at("receiving from", &self.path)(errno.into())),
        };
        let datagram = buffer.get(..length).unwrap_or_default();
        Ok(Some(Notification::decode(datagram).map(|heard| Heard {
            event: heard.event,
            text: heard.text.to_vec(),
            pid,
            umid: self.umid(&heard, pid),
        })))
    }

    /// A boot names the guest's socket; later ones are known by the sender's process. The
    /// watchdog's process is a child of the guest's.
    fn umid(&mut self, heard: &Notification<'_>, pid: Option<i32>) -> Option<String> {
        if heard.event == Event::Boot {
            let text = String::from_utf8_lossy(heard.text).into_owned();
            let name = Guest::at(text.into()).name;
            if self.names.len() >= MAX_REMEMBERED {
                self.names.clear();
            }
            if let Some(pid) = pid {
                self.names.insert(pid, name.clone());
            }
            return Some(name);
        }
        let pid = pid?;
        self.known(pid)
            .or_else(|| self.known(process::parent(pid)?))
    }

    fn known(&self, pid: i32) -> Option<String> {
        self.names.get(&pid).cloned().or_else(|| {
            let mut guests = self.places.guests().into_iter();
            guests
                .find(|guest| guest.pid().is_ok_and(|of_guest| of_guest == pid))
                .map(|guest| guest.name)
        })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let is_ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|meta| (meta.dev(), meta.ino()) == self.identity);
        if is_ours {
            // Nobody is left to tell when that fails.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// A non-blocking socket of that name. It tells the senders' processes from the first datagram on.
fn bound(path: &Path) -> nix::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Unix, SockType::Datagram, flags, None)?;
    setsockopt(&socket, sockopt::PassCred, &true)?;
    bind(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(socket)
}

fn is_stale(path: &Path) -> bool {
    let refused = UnixDatagram::unbound()
        .and_then(|socket| socket.connect(path))
        .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
    is_socket(path) && refused
}
