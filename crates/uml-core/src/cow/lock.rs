//! The locks that a running guest takes.
//!
//! A guest holds a POSIX lock on each of its disk's files, whole: a write lock on what it writes
//! (the COW file), a read lock on what it only reads (the backing file). A tool that takes the
//! same locks can't run on a disk in use, and a guest can't start on a disk that a tool works on.
//!
//! A process loses its POSIX locks on a file as soon as it closes *any* descriptor of that file,
//! so a locked file is opened once and never looked at through a second descriptor.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, fcntl},
};

use crate::error::{IoError, printable, shown};

/// Which of the two locks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockKind {
    /// Others may read too. The file must be open for reading.
    Read,
    /// Nobody else. The file must be open for writing.
    Write,
}

/// Why a lock wasn't had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody else has it.
    #[error("'{}' is in use by {holder}", shown(path))]
    Held {
        /// The file.
        path: PathBuf,
        /// Who has it.
        holder: Holder,
    },
    /// The file system has no locks, or the system refused.
    #[error(transparent)]
    Io(#[from] IoError),
}

/// Who holds a lock. Its text names the process where the system tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The process; none where it isn't visible from here (another machine or container).
    pub pid: Option<i32>,
    /// The process's command name.
    pub name: Option<String>,
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.pid, &self.name) {
            (Some(pid), Some(name)) => write!(f, "process {pid} ({name})"),
            (Some(pid), None) => write!(f, "process {pid}"),
            (None, _) => f.write_str("a process that can't be seen from here"),
        }
    }
}

fn whole_file(kind: LockKind) -> libc::flock {
    let kind = match kind {
        LockKind::Read => libc::F_RDLCK,
        LockKind::Write => libc::F_WRLCK,
    };
    libc::flock {
        l_type: i16::try_from(kind).unwrap_or_default(),
        l_whence: i16::try_from(libc::SEEK_SET).unwrap_or_default(),
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

/// Takes the lock on the whole file, or says at once who has it. It ends with the file.
///
/// # Errors
/// [`LockError::Held`] names the holder.
pub fn lock(file: &File, path: &Path, kind: LockKind) -> Result<(), LockError> {
    match fcntl(file, FcntlArg::F_SETLK(&whole_file(kind))) {
        Ok(_) => Ok(()),
        Err(Errno::EAGAIN | Errno::EACCES) => Err(LockError::Held {
            path: path.to_path_buf(),
            holder: holder(file, kind),
        }),
        Err(errno) => Err(IoError::at("locking", path)(io::Error::from(errno)).into()),
    }
}

/// Takes a write lock that belongs to this opening of the file, not to the process: it ends with
/// `file` whatever else the process opens and closes. `false`: somebody else has one.
///
/// # Errors
/// The file system has no locks, or the system refused.
pub(crate) fn lock_opening(file: &File) -> io::Result<bool> {
    match fcntl(file, FcntlArg::F_OFD_SETLK(&whole_file(LockKind::Write))) {
        Ok(_) => Ok(true),
        Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

fn holder(file: &File, kind: LockKind) -> Holder {
    let mut answer = whole_file(kind);
    let asked = fcntl(file, FcntlArg::F_GETLK(&mut answer));
    let unlocked = i32::from(answer.l_type) == libc::F_UNLCK;
    let pid = (asked.is_ok() && !unlocked && answer.l_pid > 0).then_some(answer.l_pid);
    let name = pid
        .and_then(|pid| fs::read_to_string(format!("/proc/{pid}/comm")).ok())
        .map(|name| printable(name.trim_end()));
    Holder { pid, name }
}
