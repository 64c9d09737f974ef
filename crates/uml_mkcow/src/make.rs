//! Making a COW file.

use std::{
    fs::{self, Metadata, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use uml_core::{
    IoError,
    cow::{
        Backing, CowHeader, HeaderError, Layout, LockError, LockKind,
        backing::{Access, same_file},
        file::{journal_path, write_new},
        header::{DEFAULT_ALIGNMENT, DEFAULT_SECTOR_SIZE},
        lock::lock,
    },
    error::shown,
    staged::{Staged, directory_of, follow_links, sync_directory},
};

/// Permission bits of a new COW file, less the umask.
const NEW_FILE_MODE: u32 = 0o644;

/// What to do with a COW file that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// Leave it alone and fail.
    Refuse,
    /// Put the new one in its place.
    Replace,
}

/// Why no COW file was made.
#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    /// The COW file can't be made under its name.
    #[error("open COW file")]
    OpenCow(#[source] io::Error),
    /// The system refused something else.
    #[error(transparent)]
    Io(#[from] IoError),
    /// One of the files is in use.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The two are one file.
    #[error("'{}' is the backing file itself: it would be lost", shown(cow))]
    SameFile {
        /// The COW file's name.
        cow: PathBuf,
    },
    /// What would be replaced is no COW file.
    #[error("'{}' is not a regular file: it can't be replaced", shown(cow))]
    NotRegular {
        /// The COW file's name.
        cow: PathBuf,
    },
    /// A merge in place isn't finished, and what would be replaced is needed for it.
    #[error(
        "'{}' is needed to finish an interrupted merge ('{}' tells of it): finish that first with \
         uml_moo -d",
        shown(cow),
        shown(journal)
    )]
    Merging {
        /// The COW file's name.
        cow: PathBuf,
        /// The merge's journal.
        journal: PathBuf,
    },
    /// The backing file can't be described by a header.
    #[error("backing file '{}'", shown(path))]
    Header {
        /// The backing file.
        path: PathBuf,
        /// Which field is out of range.
        source: HeaderError,
    },
    /// The format has no room for the time.
    #[error(
        "backing file '{}' last changed {seconds} seconds after 1970: a COW file holds 0 to \
         4294967295",
        shown(path)
    )]
    Time {
        /// The backing file.
        path: PathBuf,
        /// Its time of last change.
        seconds: i64,
    },
}

/// Makes the COW file `cow` over `backing`, which may be a block device.
///
/// # Errors
/// Why it couldn't be made. Then nothing is left behind, and a COW file that existed is untouched.
pub fn make(cow: &Path, backing: &Path, existing: Existing) -> Result<(), MakeError> {
    let old = look_at(cow, existing)?;
    let backing = Backing::open(backing, Access::Read)?;
    // A running guest that writes to it, or a merge into it, will change what the header records.
    backing.lock(LockKind::Read)?;
    if let Some(old) = &old {
        if same_file(old, backing.metadata()) {
            return Err(MakeError::SameFile {
                cow: cow.to_path_buf(),
            });
        }
        if !old.is_file() {
            return Err(MakeError::NotRegular {
                cow: cow.to_path_buf(),
            });
        }
    }
    let header = header_for(&backing)?;

    // A guest that runs on the old COW file holds a lock on it.
    let _held = old.is_some().then(|| hold(cow)).transpose()?;
    if old.is_some() {
        let journal = journal_path(cow)?;
        if fs::symlink_metadata(&journal).is_ok() {
            return Err(MakeError::Merging {
                cow: cow.to_path_buf(),
                journal,
            });
        }
    }
    let staged =
        Staged::beside(cow, NEW_FILE_MODE).map_err(|error| MakeError::OpenCow(error.source))?;
    write_new(staged.file(), &header).map_err(IoError::at("writing COW file", cow))?;
    if let Some(old) = &old {
        staged
            .inherit(old)
            .map_err(IoError::at("setting the mode of", cow))?;
    }
    staged
        .file()
        .sync_all()
        .map_err(IoError::at("syncing COW file", cow))?;
    let directory = staged.directory();
    match existing {
        Existing::Refuse => staged.publish_new(),
        Existing::Replace => staged.replace(),
    }
    .map_err(|error| MakeError::OpenCow(error.source))?;
    Ok(sync_directory(&directory)?)
}

/// The attributes of what has the COW file's name now, if anything.
fn look_at(cow: &Path, existing: Existing) -> Result<Option<Metadata>, MakeError> {
    let refuse = |errno| Err(MakeError::OpenCow(io::Error::from_raw_os_error(errno)));
    let name = cow.as_os_str().as_encoded_bytes();
    if name.ends_with(b"/") {
        return refuse(libc::EISDIR);
    }
    if existing == Existing::Refuse && fs::symlink_metadata(cow).is_ok() {
        return refuse(libc::EEXIST);
    }
    let found = follow_links(cow).and_then(fs::metadata);
    match found {
        Ok(metadata) if metadata.is_dir() => refuse(libc::EISDIR),
        Ok(metadata) => Ok(Some(metadata)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // The file, or the directory it would be in?
            fs::metadata(directory_of(cow)).map_err(MakeError::OpenCow)?;
            Ok(None)
        }
        Err(error) => Err(MakeError::OpenCow(error)),
    }
}

/// Locks an old COW file, so that no guest starts on it now.
fn hold(cow: &Path) -> Result<fs::File, MakeError> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(cow)
        .map_err(MakeError::OpenCow)?;
    lock(&file, cow, LockKind::Write)?;
    Ok(file)
}

fn header_for(backing: &Backing) -> Result<CowHeader, MakeError> {
    let path = backing.path().to_path_buf();
    let name = absolute(&path).map_err(IoError::at("finding the directory of", &path))?;
    let Ok(mtime) = u32::try_from(backing.mtime()) else {
        return Err(MakeError::Time {
            path,
            seconds: backing.mtime(),
        });
    };
    let header = CowHeader::new(
        Layout::V3,
        name.into_os_string(),
        mtime,
        backing.size(),
        DEFAULT_SECTOR_SIZE,
        DEFAULT_ALIGNMENT,
    );
    header.map_err(|source| MakeError::Header { path, source })
}

/// The directory's real path with the last component as it was given: a link stays a link.
fn absolute(path: &Path) -> io::Result<PathBuf> {
    let directory = directory_of(path).canonicalize()?;
    match path.file_name() {
        Some(name) => Ok(directory.join(name)),
        None => path.canonicalize(),
    }
}
