//! The journal of a merge in place.
//!
//! It lies beside the COW file as `.COW.merge-journal` while the merge runs, and says that the
//! backing file is half merged, and with what. A later run of the same merge finds it, knows that
//! the backing file's new time of last change is the merge's own doing, and does it again.
//!
//! | offset | bytes | field |
//! | --- | --- | --- |
//! | 0 | 8 | `UMLMOOJ` and a newline |
//! | 8 | 4 | version, 1 |
//! | 12 | 4 | state, 1 = merging |
//! | 16 | 4 | crc32 of the COW file's header, the whole name field included |
//! | 20 | 4 | bytes of the backing file's path |
//! | 24 | 8 | the COW file's length in bytes |
//! | 32 | 8 | the COW file's time of last change, seconds since 1970 |
//! | 40 | 4 | its nanoseconds |
//! | 44 | 4 | nanoseconds of the backing file's time of last change |
//! | 48 | 8 | the backing file's device |
//! | 56 | 8 | the backing file's inode |
//! | 64 | 8 | the backing file's length in bytes |
//! | 72 | 8 | the backing file's time of last change before the merge, seconds since 1970 |
//! | 80 | | the backing file's real path |
//! | 80 + path | 4 | crc32 of all bytes before it |
//!
//! Integers are big-endian, times signed.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File, Metadata, OpenOptions},
    io,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _},
    },
    path::PathBuf,
};

use byteorder::{BigEndian, ByteOrder as _};
use uml_core::{
    IoError,
    cow::{Backing, CowFile, file::journal_path},
    error::shown,
    sparse::read_up_to,
    staged::{Staged, directory_of, sync_directory},
};

use crate::{error::MooError, merge::Durability};

const MAGIC: &[u8; 8] = b"UMLMOOJ\n";
const VERSION: u32 = 1;
const MERGING: u32 = 1;
const FIXED: usize = 80;
const CHECKSUM: usize = 4;
/// `PATH_MAX`: no real path is longer.
const LONGEST_PATH: usize = 4096;

/// Why a journal can't be used. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// It isn't one that this program wrote, or not all of it is there.
    #[error(
        "'{}' should be the journal of an interrupted merge, but {why}: if no merge of this COW \
         file was interrupted, remove it",
        shown(path)
    )]
    Damaged {
        /// The journal.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The merge it tells of was another one.
    #[error(
        "'{}' tells of an interrupted merge into '{}', but {why}: finish that merge first (-d -b), \
         or, if you are sure that it counts for nothing any more, remove the journal and use \
         --ignore-mtime",
        shown(path),
        shown(backing)
    )]
    Foreign {
        /// The journal.
        path: PathBuf,
        /// The backing file of that merge.
        backing: PathBuf,
        /// What differs.
        why: &'static str,
    },
}

/// A journal on disk that belongs to the merge at hand.
#[derive(Debug, Clone)]
pub(crate) struct Journal {
    path: PathBuf,
}

impl Journal {
    /// Writes a journal. When this returns, it is on the disk, and so is the COW file.
    pub(crate) fn begin(
        cow: &CowFile,
        backing: &Backing,
        durability: Durability,
    ) -> Result<Self, MooError> {
        let path = journal_path(cow.path())?;
        let record = Record::of(cow, backing)?;
        if durability == Durability::Synced {
            // What its guest wrote last may still be in memory only. Lost with the power, it could
            // not finish the merge.
            cow.file()
                .sync_all()
                .map_err(IoError::at("syncing COW file", cow.path()))?;
        }
        let staged = Staged::beside(&path, 0o600)?;
        let written = staged.file().write_all_at(&record.to_bytes(), 0);
        written.map_err(IoError::at("writing journal", &path))?;
        if durability == Durability::Synced {
            staged
                .file()
                .sync_all()
                .map_err(IoError::at("syncing journal", &path))?;
        }
        staged.replace()?;
        if durability == Durability::Synced {
            sync_directory(&directory_of(&path))?;
        }
        Ok(Self { path })
    }

    /// Looks for the journal of an interrupted merge of just these two files.
    pub(crate) fn find(cow: &CowFile, backing: &Backing) -> Result<Option<Self>, MooError> {
        let path = journal_path(cow.path())?;
        let opened = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(&path);
        let file = match opened {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(IoError::at("opening journal", &path))?,
        };
        let found = match read(&file).map_err(IoError::at("reading journal", &path))? {
            Ok(record) => record,
            Err(why) => return Err(JournalError::Damaged { path, why }.into()),
        };
        match found.differs(&Record::of(cow, backing)?, backing.is_block_device()) {
            None => Ok(Some(Self { path })),
            Some(why) => Err(JournalError::Foreign {
                path,
                backing: found.path.into(),
                why,
            }
            .into()),
        }
    }

    /// Removes it: the merge is whole, and on the disk.
    pub(crate) fn end(&self, durability: Durability) -> Result<(), MooError> {
        fs::remove_file(&self.path).map_err(IoError::at("removing journal", &self.path))?;
        if durability == Durability::Synced {
            sync_directory(&directory_of(&self.path))?;
        }
        Ok(())
    }
}

fn read(file: &File) -> io::Result<Result<Record, &'static str>> {
    if !file.metadata()?.is_file() {
        return Ok(Err("it is no regular file"));
    }
    let mut bytes = vec![0; FIXED + LONGEST_PATH + CHECKSUM + 1];
    let got = read_up_to(file, &mut bytes, 0)?;
    Ok(Record::parse(&bytes[..got]))
}

/// What a journal says.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Record {
    header_crc32: u32,
    cow: State,
    device: u64,
    inode: u64,
    backing: State,
    path: OsString,
}

/// Length and time of last change of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct State {
    length: u64,
    seconds: i64,
    nanoseconds: u32,
}

impl State {
    fn of(metadata: &Metadata, length: u64) -> Self {
        let nanoseconds = u32::try_from(metadata.mtime_nsec()).unwrap_or_default();
        Self {
            length,
            seconds: metadata.mtime(),
            nanoseconds,
        }
    }
}

impl Record {
    fn of(cow: &CowFile, backing: &Backing) -> Result<Self, MooError> {
        let path = backing.path();
        let real = path
            .canonicalize()
            .map_err(IoError::at("finding the directory of", path))?;
        Ok(Self {
            header_crc32: crc32fast::hash(cow.header_bytes()),
            cow: State::of(cow.metadata(), cow.length()),
            device: backing.metadata().dev(),
            inode: backing.metadata().ino(),
            backing: State::of(backing.metadata(), backing.size()),
            path: real.into_os_string(),
        })
    }

    /// What of the merge at hand isn't as it was in the interrupted one.
    ///
    /// The backing file's time isn't compared: the merge itself changed it. Its device and inode
    /// count as well as its path: either may be another after a restart or a renaming.
    fn differs(&self, now: &Self, is_device: bool) -> Option<&'static str> {
        let inode = (self.device, self.inode) == (now.device, now.inode);
        if self.header_crc32 != now.header_crc32 {
            Some("this COW file has another header")
        } else if self.cow != now.cow {
            Some("this COW file has changed since")
        } else if self.backing.length != now.backing.length {
            Some("the backing file has another length")
        } else if self.path != now.path && (is_device || !inode) {
            Some("this is another backing file")
        } else {
            None
        }
    }

    fn to_bytes(&self) -> Vec<u8> {
        let path = self.path.as_bytes();
        let mut bytes = vec![0; FIXED];
        bytes[..8].copy_from_slice(MAGIC);
        BigEndian::write_u32(&mut bytes[8..], VERSION);
        BigEndian::write_u32(&mut bytes[12..], MERGING);
        BigEndian::write_u32(&mut bytes[16..], self.header_crc32);
        // A real path is shorter than 4096 bytes.
        BigEndian::write_u32(
            &mut bytes[20..],
            u32::try_from(path.len()).unwrap_or_default(),
        );
        BigEndian::write_u64(&mut bytes[24..], self.cow.length);
        BigEndian::write_i64(&mut bytes[32..], self.cow.seconds);
        BigEndian::write_u32(&mut bytes[40..], self.cow.nanoseconds);
        BigEndian::write_u32(&mut bytes[44..], self.backing.nanoseconds);
        BigEndian::write_u64(&mut bytes[48..], self.device);
        BigEndian::write_u64(&mut bytes[56..], self.inode);
        BigEndian::write_u64(&mut bytes[64..], self.backing.length);
        BigEndian::write_i64(&mut bytes[72..], self.backing.seconds);
        bytes.extend(path);
        let crc32 = crc32fast::hash(&bytes);
        bytes.extend(crc32.to_be_bytes());
        bytes
    }

    fn parse(bytes: &[u8]) -> Result<Self, &'static str> {
        if bytes.get(..8) != Some(MAGIC) {
            return Err("it doesn't begin as one");
        }
        let Some(length) = bytes
            .len()
            .checked_sub(CHECKSUM)
            .filter(|&length| length >= FIXED)
        else {
            return Err("it is cut off");
        };
        let u32_at = |offset: usize| BigEndian::read_u32(&bytes[offset..]);
        let u64_at = |offset: usize| BigEndian::read_u64(&bytes[offset..]);
        let i64_at = |offset: usize| BigEndian::read_i64(&bytes[offset..]);
        if crc32fast::hash(&bytes[..length]) != u32_at(length) {
            return Err("its crc32 is wrong");
        }
        if (u32_at(8), u32_at(12)) != (VERSION, MERGING) {
            return Err("it is of another version");
        }
        let path = &bytes[FIXED..length];
        if u32::try_from(path.len()) != Ok(u32_at(20)) {
            return Err("its path has another length than it says");
        }
        Ok(Self {
            header_crc32: u32_at(16),
            cow: State {
                length: u64_at(24),
                seconds: i64_at(32),
                nanoseconds: u32_at(40),
            },
            device: u64_at(48),
            inode: u64_at(56),
            backing: State {
                length: u64_at(64),
                seconds: i64_at(72),
                nanoseconds: u32_at(44),
            },
            path: OsStr::from_bytes(path).to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            header_crc32: 1,
            cow: State {
                length: 2,
                seconds: -3,
                nanoseconds: 4,
            },
            device: 5,
            inode: 6,
            backing: State {
                length: 7,
                seconds: 8,
                nanoseconds: 9,
            },
            path: "/a/b".into(),
        }
    }

    #[test]
    fn a_record_reads_back() {
        assert_eq!(Record::parse(&record().to_bytes()), Ok(record()));
    }

    #[test]
    fn every_damaged_or_missing_byte_is_noticed() {
        let bytes = record().to_bytes();
        for place in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[place] ^= 0x10;
            assert!(Record::parse(&damaged).is_err(), "byte {place}");
            assert!(Record::parse(&bytes[..place]).is_err(), "cut at {place}");
        }
        assert!(Record::parse(&[bytes.as_slice(), &[0]].concat()).is_err());
    }

    #[test]
    fn only_the_same_merge_belongs() {
        let now = record();
        let mut later = record();
        later.backing.seconds += 100;
        assert_eq!(
            later.differs(&now, false),
            None,
            "the merge changes the time itself"
        );
        let renamed = Record {
            path: "/c".into(),
            ..record()
        };
        assert_eq!(renamed.differs(&now, false), None);
        assert!(renamed.differs(&now, true).is_some());
        let restarted = Record {
            device: 50,
            inode: 60,
            ..record()
        };
        assert_eq!(restarted.differs(&now, false), None);
        let copy = Record {
            path: "/c".into(),
            inode: 60,
            ..record()
        };
        assert!(copy.differs(&now, false).is_some());
        assert!(
            Record {
                header_crc32: 0,
                ..record()
            }
            .differs(&now, false)
            .is_some()
        );
        let mut longer = record();
        longer.backing.length += 1;
        assert!(longer.differs(&now, false).is_some());
        let mut written = record();
        written.cow.nanoseconds += 1;
        assert!(written.differs(&now, false).is_some());
    }
}
