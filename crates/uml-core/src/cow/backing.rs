//! The backing file of a COW file: a regular file or a block device.

use std::{
    fs::{File, Metadata, OpenOptions},
    io::{self, Seek as _},
    os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use super::{
    header::CowHeader,
    lock::{LockError, LockKind, lock},
};
use crate::error::{IoError, shown};

/// The backing file isn't the one that the COW file was made for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BackingMismatch {
    /// Another length.
    #[error(
        "Size mismatch ({header} vs {found}) of COW header vs backing file \"{}\"",
        shown(path)
    )]
    Size {
        /// The header's, in bytes.
        header: u64,
        /// The file's, in bytes.
        found: u64,
        /// The file.
        path: PathBuf,
    },
    /// Changed since.
    #[error(
        "mtime mismatch ({header} vs {found}) of COW header vs backing file \"{}\"",
        shown(path)
    )]
    Mtime {
        /// The header's, in seconds since 1970.
        header: u32,
        /// The file's.
        found: i64,
        /// The file.
        path: PathBuf,
    },
}

/// How to open a disk's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reading only.
    Read,
    /// Reading and writing; a block device only while it isn't mounted.
    Write,
}

/// An open backing file. Its descriptor is the only one of the file in the process: see [`lock`].
#[derive(Debug)]
pub struct Backing {
    file: File,
    path: PathBuf,
    size: u64,
    metadata: Metadata,
}

impl Backing {
    /// Opens a regular file or a block device. Anything else is refused before it is opened, so
    /// that a pipe can't hold the tool up.
    ///
    /// # Errors
    /// The file can't be opened, or isn't one that can back a disk.
    pub fn open(path: &Path, access: Access) -> Result<Self, IoError> {
        let file = open_disk_file("opening backing file", path, access)?;
        let metadata = file
            .metadata()
            .map_err(IoError::at("reading the attributes of", path))?;
        let size = length(&file, &metadata).map_err(IoError::at("measuring backing file", path))?;
        Ok(Self {
            file,
            path: path.to_path_buf(),
            size,
            metadata,
        })
    }

    /// Takes the kernel's lock on it.
    ///
    /// # Errors
    /// Somebody else has it.
    pub fn lock(&self, kind: LockKind) -> Result<(), LockError> {
        lock(&self.file, &self.path, kind)
    }

    /// Compares size and time of last change with a header.
    ///
    /// # Errors
    /// What differs, size first.
    pub fn matches(&self, header: &CowHeader) -> Result<(), BackingMismatch> {
        let size = header.geometry().size();
        if size != self.size {
            let path = self.path.clone();
            return Err(BackingMismatch::Size {
                header: size,
                found: self.size,
                path,
            });
        }
        if i64::from(header.mtime()) != self.mtime() {
            let path = self.path.clone();
            return Err(BackingMismatch::Mtime {
                header: header.mtime(),
                found: self.mtime(),
                path,
            });
        }
        Ok(())
    }

    /// The open file.
    #[must_use]
    pub const fn file(&self) -> &File {
        &self.file
    }

    /// The name it was opened by.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its length in bytes, a block device's too.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// When it last changed, in whole seconds since 1970.
    #[must_use]
    pub fn mtime(&self) -> i64 {
        self.metadata.mtime()
    }

    /// Its attributes when it was opened.
    #[must_use]
    pub const fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Whether it is a block device.
    #[must_use]
    pub fn is_block_device(&self) -> bool {
        self.metadata.file_type().is_block_device()
    }
}

/// Opens a regular file or a block device; everything else is `InvalidInput`.
pub(super) fn open_disk_file(
    doing: &'static str,
    path: &Path,
    access: Access,
) -> Result<File, IoError> {
    let disk = |metadata: &Metadata| {
        let kind = metadata.file_type();
        if kind.is_file() || kind.is_block_device() {
            Ok(())
        } else if kind.is_dir() {
            Err(io::Error::from_raw_os_error(libc::EISDIR))
        } else {
            let text = "neither a regular file nor a block device";
            Err(io::Error::new(io::ErrorKind::InvalidInput, text))
        }
    };
    // O_EXCL: a device that is mounted is busy. Without O_CREAT it says nothing to regular files.
    let exclusive = match access {
        Access::Read => 0,
        Access::Write => libc::O_EXCL,
    };
    let open = || {
        disk(&path.metadata()?)?;
        let file = OpenOptions::new()
            .read(true)
            .write(access == Access::Write)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY | exclusive)
            .open(path)?;
        // The name may lead to something else by now.
        disk(&file.metadata()?)?;
        Ok(file)
    };
    open().map_err(IoError::at(doing, path))
}

/// Whether two files are one file or one block device, by whatever names.
#[must_use]
pub fn same_file(one: &Metadata, other: &Metadata) -> bool {
    if one.file_type().is_block_device() && other.file_type().is_block_device() {
        return one.rdev() == other.rdev();
    }
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

/// The length in bytes of a regular file or a block device.
///
/// # Errors
/// What the system said.
pub fn length(mut file: &File, metadata: &Metadata) -> io::Result<u64> {
    if metadata.file_type().is_block_device() {
        file.seek(io::SeekFrom::End(0))
    } else {
        Ok(metadata.len())
    }
}
