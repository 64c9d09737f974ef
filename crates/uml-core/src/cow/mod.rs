//! The COW file format: a header, a bitmap, a data area.
//!
//! A COW file holds the sectors of a disk that differ from a read-only backing file. [`header`] and
//! [`geometry`] are pure; [`bitmap`] walks the bits; [`mod@file`] and [`backing`] open, check and lock
//! what is on disk; [`lock`] takes the locks that a running guest takes.

pub mod backing;
pub mod bitmap;
pub mod file;
pub mod geometry;
pub mod header;
pub mod lock;

pub use backing::{Backing, BackingMismatch};
pub use bitmap::{Bitmap, Survey};
pub use file::{CowError, CowFile};
pub use geometry::Geometry;
pub use header::{CowHeader, HeaderError, Layout};
pub use lock::{LockError, LockKind};
