//! Files that appear under their name only when they are whole.
//!
//! A staged file is written under a temporary name beside its target, `.TARGET.uml-PID-N`, and
//! renamed over it at the end. While it lives it is locked; the file of a run that was killed is
//! not, and the next run with the same target removes it.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File, Metadata, OpenOptions, Permissions},
    io,
    os::unix::{
        ffi::{OsStrExt as _, OsStringExt as _},
        fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown},
    },
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU32, Ordering},
};

use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, RenameFlags, renameat2},
};

use crate::{
    cow::{backing::same_file, lock},
    error::IoError,
};

/// A longer target name is cut, so that the temporary one fits the usual limit of 255 bytes.
const NAME_KEPT: usize = 200;
const MARK: &str = ".uml-";
const MOST_LINKS: usize = 40;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A file under a temporary name. Dropped before it is published, it is removed.
#[derive(Debug)]
pub struct Staged {
    file: File,
    path: PathBuf,
    target: PathBuf,
    directory: PathBuf,
    published: bool,
}

impl Staged {
    /// Makes an empty file beside `target`, a symbolic link being followed. `mode` are its
    /// permission bits, less the umask. What dead runs left for the same target is removed first.
    ///
    /// # Errors
    /// The directory can't be written, or the target has no file name.
    pub fn beside(target: &Path, mode: u32) -> Result<Self, IoError> {
        let at = || IoError::at("making a temporary file beside", target);
        let target = follow_links(target).map_err(at())?;
        let name = target
            .file_name()
            .ok_or_else(|| {
                let nothing = target.as_os_str().is_empty();
                let errno = if nothing { libc::ENOENT } else { libc::EISDIR };
                io::Error::from_raw_os_error(errno)
            })
            .map_err(at())?;
        let directory = directory_of(&target);
        let prefix = temporary_prefix(name);
        remove_stale(&directory, &prefix, &target);
        loop {
            let mut name = prefix.clone();
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            name.push(format!("{}-{number}", process::id()));
            let path = directory.join(name);
            let opened = OpenOptions::new()
                .read(true)
                .write(true)
                .create_new(true)
                .mode(mode)
                .open(&path);
            let file = match opened {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                opened => opened.map_err(at())?,
            };
            // A file system without locks keeps the litter of dead runs, nothing worse.
            let locked = lock::lock_opening(&file).unwrap_or(true);
            // Another run may have taken it for litter before it was locked.
            let linked = file.metadata().map_err(at())?.nlink() > 0;
            if locked && linked {
                return Ok(Self {
                    file,
                    path,
                    target,
                    directory,
                    published: false,
                });
            }
        }
    }

    /// The open file, for reading and writing.
    #[must_use]
    pub const fn file(&self) -> &File {
        &self.file
    }

    /// Its temporary name.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the file another one's permission bits, and its owner and group as far as the system
    /// lets it.
    ///
    /// # Errors
    /// The permission bits can't be set.
    pub fn inherit(&self, from: &Metadata) -> io::Result<()> {
        let file = &self.file;
        // Only root may give a file away. Its group may be kept without that, and counts too: the
        // bits for the group would else be for another one.
        if fchown(file, Some(from.uid()), Some(from.gid())).is_err() {
            let _ = fchown(file, None, Some(from.gid()));
        }
        file.set_permissions(Permissions::from_mode(from.mode() & 0o777))
    }

    /// Gives the file its name, in place of what has it now.
    ///
    /// # Errors
    /// The file can't be renamed; then it is removed.
    pub fn replace(mut self) -> Result<(), IoError> {
        fs::rename(&self.path, &self.target).map_err(IoError::at("renaming to", &self.target))?;
        self.published = true;
        Ok(())
    }

    /// Gives the file its name, if nothing has it.
    ///
    /// # Errors
    /// `EEXIST` where something has it; then the file is removed.
    pub fn publish_new(mut self) -> Result<(), IoError> {
        let renamed = renameat2(
            AT_FDCWD,
            &self.path,
            AT_FDCWD,
            &self.target,
            RenameFlags::RENAME_NOREPLACE,
        );
        match renamed {
            Ok(()) => {
                self.published = true;
                Ok(())
            }
            // Not every file system knows that.
            Err(Errno::EINVAL | Errno::ENOSYS | Errno::EPERM) => self.link_new(),
            Err(error) => Err(IoError::at("renaming to", &self.target)(error.into())),
        }
    }

    /// As [`Staged::publish_new`], in two steps.
    fn link_new(self) -> Result<(), IoError> {
        // A second name appears only where there is none, on every file system that knows links;
        // dropping `self` takes the first name away.
        match fs::hard_link(&self.path, &self.target) {
            Err(error) if no_links(&error) => {
                if fs::symlink_metadata(&self.target).is_ok() {
                    let exists = io::Error::from_raw_os_error(libc::EEXIST);
                    return Err(IoError::at("renaming to", &self.target)(exists));
                }
                self.replace()
            }
            linked => linked.map_err(IoError::at("renaming to", &self.target)),
        }
    }

    /// The directory that both names are in, for [`sync_directory`] after publishing.
    #[must_use]
    pub fn directory(&self) -> PathBuf {
        self.directory.clone()
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.published {
            // Nobody is left to tell; the next run tries again.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn no_links(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EPERM | libc::EOPNOTSUPP | libc::ENOSYS | libc::EMLINK)
    )
}

/// Makes the names in a directory durable.
///
/// # Errors
/// What the system said; a file system that knows no such thing is no error.
pub fn sync_directory(directory: &Path) -> Result<(), IoError> {
    let synced = File::open(directory).and_then(|directory| directory.sync_all());
    match synced {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(()),
        synced => synced.map_err(IoError::at("syncing directory", directory)),
    }
}

/// The directory a path lies in.
#[must_use]
pub fn directory_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

/// Follows the symbolic links of a path's last component, to a file that needn't exist.
///
/// # Errors
/// `ELOOP` after 40 links, or what the system said.
pub fn follow_links(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_path_buf();
    for _ in 0..MOST_LINKS {
        match fs::read_link(&path) {
            Ok(next) => path = directory_of(&path).join(next),
            // Not a link, or nothing there.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOENT)) => {
                return Ok(path);
            }
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::from_raw_os_error(libc::ELOOP))
}

fn temporary_prefix(name: &OsStr) -> OsString {
    let name = name.as_bytes();
    let kept = &name[..name.len().min(NAME_KEPT)];
    OsString::from_vec([b".", kept, MARK.as_bytes()].concat())
}

/// Removes temporary files that nobody holds any more. What can't be removed stays.
fn remove_stale(directory: &Path, prefix: &OsStr, target: &Path) {
    let Ok(entries) = fs::read_dir(directory) else {
        return;
    };
    let published = fs::metadata(target).ok();
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(rest) = name.as_bytes().strip_prefix(prefix.as_bytes()) else {
            continue;
        };
        let regular = entry.file_type().is_ok_and(|kind| kind.is_file());
        if !is_pid_and_number(rest) || !regular {
            continue;
        }
        // The second name of a file that has its own. It isn't opened: closing it would take the
        // locks away that this process has on the file.
        let same = |published| {
            entry
                .metadata()
                .is_ok_and(|file| same_file(&file, published))
        };
        if published.as_ref().is_some_and(same) {
            let _ = fs::remove_file(entry.path());
            continue;
        }
        let opened = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(entry.path());
        if opened.is_ok_and(|file| lock::lock_opening(&file).unwrap_or(false)) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Whether this is what stands behind a temporary name's prefix: `PID-N`.
fn is_pid_and_number(rest: &[u8]) -> bool {
    let is_number = |part: &[u8]| !part.is_empty() && part.iter().all(u8::is_ascii_digit);
    let mut parts = rest.split(|&byte| byte == b'-');
    matches!(
        (parts.next(), parts.next(), parts.next()),
        (Some(pid), Some(number), None) if is_number(pid) && is_number(number)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<OsString> {
        let mut names: Vec<_> = fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_dropped_file_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let staged = Staged::beside(&directory.path().join("x"), 0o600).unwrap();
        assert_eq!(names(directory.path()).len(), 1);
        drop(staged);
        assert_eq!(names(directory.path()).len(), 0);
    }

    #[test]
    fn replace_takes_the_name_and_publish_new_does_not() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("x");
        fs::write(&target, "old").unwrap();
        let error = Staged::beside(&target, 0o600)
            .unwrap()
            .publish_new()
            .unwrap_err();
        assert_eq!(error.errno(), Some(libc::EEXIST));
        assert_eq!(fs::read(&target).unwrap(), b"old");
        Staged::beside(&target, 0o600).unwrap().replace().unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"");
        let other = directory.path().join("y");
        Staged::beside(&other, 0o600)
            .unwrap()
            .publish_new()
            .unwrap();
        assert_eq!(names(directory.path()), ["x", "y"]);
    }

    #[test]
    fn litter_goes_and_living_files_stay() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("x");
        let living = Staged::beside(&target, 0o600).unwrap();
        fs::write(directory.path().join(".x.uml-1-0"), "").unwrap();
        fs::write(&target, "").unwrap();
        let held = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&target)
            .unwrap();
        lock::lock_opening(&held).unwrap();
        fs::hard_link(&target, directory.path().join(".x.uml-2-0")).unwrap();
        for others in [".x.uml-notes", ".x.uml-", ".x.uml-7", ".x.uml-2026-11-22"] {
            fs::write(directory.path().join(others), "").unwrap();
        }
        fs::write(directory.path().join(".xy.uml-1-0"), "").unwrap();
        let second = Staged::beside(&target, 0o600).unwrap();
        let mut expected = vec![
            OsString::from(".x.uml-"),
            OsString::from(".x.uml-2026-11-22"),
            OsString::from(".x.uml-7"),
            OsString::from(".x.uml-notes"),
            OsString::from(".xy.uml-1-0"),
            living.path().file_name().unwrap().to_owned(),
            second.path().file_name().unwrap().to_owned(),
            OsString::from("x"),
        ];
        expected.sort();
        assert_eq!(names(directory.path()), expected);
    }

    #[test]
    fn links_lead_to_their_target() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        std::os::unix::fs::symlink("b", at("a")).unwrap();
        std::os::unix::fs::symlink("c", at("b")).unwrap();
        assert_eq!(follow_links(&at("a")).unwrap(), at("c"));
        std::os::unix::fs::symlink("loop", at("loop")).unwrap();
        assert_eq!(
            follow_links(&at("loop")).unwrap_err().raw_os_error(),
            Some(libc::ELOOP)
        );
        Staged::beside(&at("a"), 0o600).unwrap().replace().unwrap();
        assert!(at("c").metadata().unwrap().is_file());
        assert!(fs::symlink_metadata(at("a")).unwrap().is_symlink());
    }

    #[test]
    fn long_names_fit() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("n".repeat(255));
        Staged::beside(&target, 0o600)
            .unwrap()
            .publish_new()
            .unwrap();
        assert!(target.exists());
    }
}
