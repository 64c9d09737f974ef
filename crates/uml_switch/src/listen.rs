//! Sockets that guests plug in at: bound, with the rights asked for, and removed at the end.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::{
            ffi::OsStrExt as _,
            fs::{
                FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
                lchown,
            },
        },
    },
    path::{Path, PathBuf, absolute},
    time::Duration,
};

use nix::{
    errno::Errno,
    fcntl::{Flock, OFlag},
    sys::{
        socket::{
            AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, socket,
        },
        stat::{Mode, umask},
    },
};
use uml_core::{
    IoError,
    error::{shown, system_text},
    lock,
};

/// How long a folder's lock is waited for. Switches hold it for a moment only, but anybody may hold
/// it.
const LOCK_PATIENCE: Duration = Duration::from_millis(500);

/// Why a socket can't be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListenError {
    /// Somebody listens there.
    #[error(
        "The {what} socket '{}' has another server attached to it",
        shown(path)
    )]
    InUse {
        /// `control`, `data`, `bess`.
        what: &'static str,
        /// Its path.
        path: PathBuf,
    },
    /// Something is there that is no socket.
    #[error("'{}' exists and is no socket: it is left alone", shown(.0))]
    NoSocket(PathBuf),
    /// The system refuses.
    #[error(
        "bind: {}\nThe {what} socket '{}' can't be used",
        system_text(source),
        shown(path)
    )]
    Bind {
        /// `control`, `data`, `bess`.
        what: &'static str,
        /// Its path.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// Something else failed.
    #[error(transparent)]
    Io(#[from] IoError),
}

/// The rights of sockets.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Rights {
    /// The mode; without it the umask decides, as ever.
    pub(crate) mode: Option<u32>,
    /// The group; without it the process's.
    pub(crate) gid: Option<u32>,
}

/// A path that is removed when this is dropped, unless it is somebody else's by then.
#[derive(Debug)]
pub(crate) struct OwnPath {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl OwnPath {
    /// Takes on what is at this path now.
    ///
    /// # Errors
    /// Where nothing is there.
    pub(crate) fn at(path: &Path) -> Result<Self, IoError> {
        // The process may go to another folder.
        let path = absolute(path).map_err(IoError::at("looking at", path))?;
        let found = fs::symlink_metadata(&path).map_err(IoError::at("looking at", &path))?;
        Ok(Self {
            device: found.dev(),
            inode: found.ino(),
            path,
        })
    }
}

impl Drop for OwnPath {
    fn drop(&mut self) {
        let same = fs::symlink_metadata(&self.path)
            .is_ok_and(|found| (found.dev(), found.ino()) == (self.device, self.inode));
        if same {
            // Nobody is left to tell; the next switch replaces a socket that stays.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// A bound socket and its path.
#[derive(Debug)]
pub(crate) struct Bound {
    /// The socket: listening, unless it is one for datagrams.
    pub(crate) socket: OwnedFd,
    /// Removes it.
    pub(crate) path: OwnPath,
}

/// Binds a socket to a path, in the place of one that nobody listens at any more.
///
/// # Errors
/// [`ListenError`].
pub(crate) fn bind_at(
    what: &'static str,
    path: &Path,
    kind: SockType,
    rights: Rights,
) -> Result<Bound, ListenError> {
    let failed = |source: Errno| ListenError::Bind {
        what,
        path: path.to_path_buf(),
        source: source.into(),
    };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let address = UnixAddr::new(path).map_err(failed)?;
    let new = socket(AddressFamily::Unix, kind, flags, None).map_err(failed)?;
    // Two switches that start at once must not take each other's new socket for an old one.
    let _alone = lock_parent(path);
    // An empty name would make the kernel choose one.
    let first = if path.as_os_str().as_bytes().is_empty() {
        Err(Errno::ENOENT)
    } else {
        bind_with(&new, &address, rights)
    };
    match first {
        Err(Errno::EADDRINUSE) => {
            remove_stale(what, path, kind, &address)?;
            bind_with(&new, &address, rights).map_err(failed)?;
        }
        result => result.map_err(failed)?,
    }
    let own = OwnPath::at(path)?;
    set_group(path, rights)?;
    if kind != SockType::Datagram {
        let backlog = Backlog::new(4096).unwrap_or(Backlog::MAXCONN);
        listen(&new, backlog).map_err(failed)?;
    }
    Ok(Bound {
        socket: new,
        path: own,
    })
}

fn bind_with(socket: &OwnedFd, address: &UnixAddr, rights: Rights) -> Result<(), Errno> {
    // The socket must never be there with other rights, not even for a moment.
    let mask = rights
        .mode
        .map(|mode| umask(Mode::from_bits_truncate(!mode & 0o777)));
    let result = bind(socket.as_raw_fd(), address);
    if let Some(mask) = mask {
        umask(mask);
    }
    result
}

fn lock_parent(path: &Path) -> Option<Flock<File>> {
    let parent = match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => return None,
    };
    // A folder that can't be read is used all the same, and so is one that somebody keeps locked.
    let folder = OpenOptions::new()
        .read(true)
        // A pipe in its place would be waited for.
        .custom_flags(OFlag::O_DIRECTORY.bits())
        .open(parent)
        .ok()?;
    lock::within(LOCK_PATIENCE, folder, || {}).ok()?
}

fn remove_stale(
    what: &'static str,
    path: &Path,
    kind: SockType,
    address: &UnixAddr,
) -> Result<(), ListenError> {
    let found = fs::symlink_metadata(path).map_err(IoError::at("looking at", path))?;
    if !found.file_type().is_socket() {
        return Err(ListenError::NoSocket(path.to_path_buf()));
    }
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let probe = socket(AddressFamily::Unix, kind, flags, None)
        .map_err(|error| IoError::at("looking for a server at", path)(error.into()))?;
    match connect(probe.as_raw_fd(), address) {
        Err(Errno::ECONNREFUSED | Errno::ENOENT) => match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(IoError::at("removing unused socket", path)(error).into())
            }
            _ => Ok(()),
        },
        // Whatever it answers, it is alive, or not ours to judge.
        _ => Err(ListenError::InUse {
            what,
            path: path.to_path_buf(),
        }),
    }
}

/// Gives what was just made to the group asked for. Where it has that one already, the system isn't
/// asked: under systemd, whose units forbid the call, it has the unit's.
fn set_group(path: &Path, rights: Rights) -> Result<(), IoError> {
    let Some(gid) = rights.gid else { return Ok(()) };
    if fs::symlink_metadata(path).is_ok_and(|made| made.gid() == gid) {
        return Ok(());
    }
    lchown(path, None, Some(gid)).map_err(IoError::at("setting the group of", path))
}

/// Makes a folder unless it is there, with these rights for the sockets in it.
///
/// # Errors
/// What the system said.
pub(crate) fn make_folder(path: &Path, rights: Rights) -> Result<(), IoError> {
    match fs::create_dir(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        Err(error) => return Err(IoError::at("making folder", path)(error)),
    }
    set_group(path, rights)?;
    if let Some(mode) = rights.mode {
        // Who may write to the sockets may make some of their own here, and find them.
        let mode = mode | (mode & 0o222) >> 1 | 0o700;
        fs::set_permissions(path, fs::Permissions::from_mode(mode))
            .map_err(IoError::at("setting the rights of", path))?;
    }
    Ok(())
}
