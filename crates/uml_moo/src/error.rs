//! Why a merge failed.

use std::path::PathBuf;

use uml_core::{
    IoError,
    cow::{BackingMismatch, CowError, LockError},
    error::shown,
};

use crate::journal::JournalError;

/// Why a merge failed.
#[derive(Debug, thiserror::Error)]
pub enum MooError {
    /// The system refused.
    #[error(transparent)]
    Io(#[from] IoError),
    /// The COW file can't be used.
    #[error(transparent)]
    Cow(#[from] CowError),
    /// One of the files is in use.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The backing file isn't the one that the COW file was made for.
    #[error(transparent)]
    Mismatch(#[from] BackingMismatch),
    /// The journal of an interrupted merge is in the way.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The image would overwrite what it is made from.
    #[error("'{}' is the {what} itself: it would be lost", shown(path))]
    TargetIsSource {
        /// The target.
        path: PathBuf,
        /// Which of the two.
        what: &'static str,
    },
    /// The COW file is its own backing file.
    #[error("'{}' is the COW file and the backing file at once", shown(path))]
    BackingIsCow {
        /// The file.
        path: PathBuf,
    },
    /// The device has no room.
    #[error("device '{}' has {device} bytes, the image {image}", shown(path))]
    DeviceTooSmall {
        /// The device.
        path: PathBuf,
        /// Its length.
        device: u64,
        /// The image's.
        image: u64,
    },
    /// An image on a terminal helps nobody.
    #[error("the image isn't written to a terminal: redirect standard output")]
    Terminal,
    /// What goes through a pipe is gone.
    #[error(
        "--verify reads the image back, which can't be done with '{}'",
        shown(path)
    )]
    NotReadable {
        /// The target.
        path: PathBuf,
    },
    /// A process that knows nothing of locks wrote to it meanwhile.
    #[error(
        "'{}' changed while it was being merged: the result is of no use",
        shown(path)
    )]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// What was read back isn't what was written.
    #[error(
        "verifying '{}': bytes {offset} to {end} have crc32 {found:08x}, expected {expected:08x}",
        shown(path)
    )]
    Verify {
        /// The image.
        path: PathBuf,
        /// Where the window begins.
        offset: u64,
        /// Where it ends.
        end: u64,
        /// The crc32 of what the image holds there.
        found: u32,
        /// The crc32 of what it should hold.
        expected: u32,
    },
    /// A signal came.
    #[error("stopped by a signal")]
    Stopped,
    /// A thread of the merge died.
    #[error("the reading thread died")]
    Thread,
    /// A merge over a device ended half-way.
    #[error(
        "device '{}' doesn't hold the whole image: run the same command again, it writes all of it \
         anew",
        shown(path)
    )]
    HalfWritten {
        /// The device.
        path: PathBuf,
        /// Why it ended.
        source: Box<MooError>,
    },
    /// A merge in place ended half-way.
    #[error(
        "the backing file '{}' is half merged: no guest can use it now; run the same command again, \
         it finishes the merge",
        shown(path)
    )]
    HalfMerged {
        /// The backing file.
        path: PathBuf,
        /// Why it ended.
        source: Box<MooError>,
    },
}
