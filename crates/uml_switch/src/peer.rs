//! Who is at the other end of a connection, and which sockets that peer may have made.

use std::{
    fmt,
    fs::OpenOptions,
    io,
    os::{
        fd::{AsFd, AsRawFd as _, OwnedFd},
        unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _},
    },
    path::Path,
    process,
    sync::atomic::{AtomicU32, Ordering},
};

use nix::{
    errno::Errno,
    fcntl::OFlag,
    sys::socket::{
        AddressFamily, SockFlag, SockType, UnixAddr, bind, connect, getsockopt, socket, sockopt,
    },
    unistd::{Gid, Uid, User, getgrouplist},
};
use uml_core::{
    IoError,
    error::shown,
    wire::{
        sockaddr::{Name, Sockaddr},
        switch::{Request, Version},
    },
};

/// A peer's credentials at the time when it connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Process id.
    pub pid: i32,
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

impl Peer {
    /// Who is at the other end of this connection.
    ///
    /// # Errors
    /// What the system said.
    pub(crate) fn of(connection: &impl AsFd) -> io::Result<Self> {
        let found = getsockopt(connection, sockopt::PeerCredentials)?;
        Ok(Self {
            pid: found.pid(),
            uid: found.uid(),
            gid: found.gid(),
        })
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pid, uid, gid } = self;
        write!(f, "process {pid} of user {uid}, group {gid}")
    }
}

/// Who may plug in.
#[derive(Debug, Clone, Default)]
pub(crate) struct Allowed {
    /// These users.
    pub(crate) uids: Vec<u32>,
    /// Members of these groups.
    pub(crate) gids: Vec<u32>,
}

impl Allowed {
    /// Whether this peer may plug in: anybody while nobody is named.
    #[must_use]
    pub(crate) fn allows(&self, peer: &Peer) -> bool {
        let open = self.uids.is_empty() && self.gids.is_empty();
        open || self.uids.contains(&peer.uid)
            || self.gids.contains(&peer.gid)
            || (!self.gids.is_empty() && self.is_member(peer))
    }

    fn is_member(&self, peer: &Peer) -> bool {
        let Ok(Some(user)) = User::from_uid(Uid::from_raw(peer.uid)) else {
            return false;
        };
        std::ffi::CString::new(user.name)
            .ok()
            .and_then(|name| getgrouplist(&name, Gid::from_raw(peer.gid)).ok())
            .is_some_and(|groups| groups.iter().any(|gid| self.gids.contains(&gid.as_raw())))
    }
}

/// Why a socket that a request names isn't used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DataSocketError {
    /// It isn't the peer's.
    #[error("socket '{path}' belongs to user {owner}, not to the caller")]
    NotThePeers {
        /// Its path.
        path: String,
        /// Whose it is.
        owner: u32,
    },
    /// It is no socket.
    #[error("'{0}' is no socket")]
    NoSocket(String),
    /// The system refuses.
    #[error(transparent)]
    Io(#[from] IoError),
}

/// Makes a datagram socket that is connected to the one that a request names.
///
/// It has a name of its own, which is returned too, unless the request is of version 0: those
/// guests send to the socket that they share.
///
/// Only a socket that the peer could have made is connected to: an abstract one, or one in the file
/// system that is the peer's own. What is looked at and what is connected to are the same.
///
/// # Errors
/// [`DataSocketError`].
pub(crate) fn data_socket(
    request: &Request,
    peer: &Peer,
) -> Result<(OwnedFd, Option<Sockaddr>), DataSocketError> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let at = |doing| {
        let name = request.address.to_string();
        move |error: Errno| IoError::at(doing, name)(error.into())
    };
    let new = socket(AddressFamily::Unix, SockType::Datagram, flags, None)
        .map_err(at("making a socket for"))?;
    let own = match request.version {
        Version::V0 => None,
        Version::V1 | Version::V3 => Some(bind_any(&new).map_err(at("naming a socket for"))?),
    };
    match request.address.name() {
        Name::Abstract(name) => {
            UnixAddr::new_abstract(name)
                .and_then(|name| connect(new.as_raw_fd(), &name))
                .map_err(at("connecting to"))?;
        }
        Name::Path(path) => connect_to_own(&new, path, peer)?,
    }
    Ok((new, own))
}

fn connect_to_own(socket: &OwnedFd, path: &Path, peer: &Peer) -> Result<(), DataSocketError> {
    let place = OpenOptions::new()
        .read(true)
        .custom_flags((OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC).bits())
        .open(path)
        .map_err(IoError::at("looking at", path))?;
    let found = place.metadata().map_err(IoError::at("looking at", path))?;
    if !found.file_type().is_socket() {
        return Err(DataSocketError::NoSocket(shown(path)));
    }
    if found.uid() != peer.uid {
        return Err(DataSocketError::NotThePeers {
            path: shown(path),
            owner: found.uid(),
        });
    }
    let same = format!("/proc/self/fd/{}", place.as_raw_fd());
    UnixAddr::new(same.as_str())
        .and_then(|same| connect(socket.as_raw_fd(), &same))
        .map_err(|error| IoError::at("connecting to", path)(error.into()))?;
    Ok(())
}

/// Gives a socket an abstract name of the full length, which guests send to.
fn bind_any(socket: &OwnedFd) -> Result<Sockaddr, Errno> {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    loop {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let text = format!("uml_switch/{}/{number}", process::id());
        let name = Sockaddr::from_abstract(text.as_bytes()).map_err(|_| Errno::ENAMETOOLONG)?;
        let Name::Abstract(bytes) = name.name() else {
            return Err(Errno::EINVAL);
        };
        match bind(socket.as_raw_fd(), &UnixAddr::new_abstract(bytes)?) {
            // Somebody else took that name: process ids are counted per namespace.
            Err(Errno::EADDRINUSE) => {}
            result => return result.map(|()| name),
        }
    }
}
