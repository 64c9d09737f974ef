//! The two files that an image is made from.

use std::{fs::Metadata, os::unix::fs::MetadataExt as _, path::Path};

use jiff::{Timestamp, tz::TimeZone};
use uml_core::{
    IoError, console,
    cow::{
        Backing, BackingMismatch, CowError, CowFile, Geometry, LockKind,
        backing::{Access, same_file},
    },
    error::printable,
};

use crate::{
    error::MooError,
    journal::Journal,
    merge::{Mtime, Request, Target},
};

/// An open, locked and checked COW file and its backing file.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) cow: CowFile,
    pub(crate) backing: Backing,
    /// The journal of an interrupted merge of just these two.
    pub(crate) journal: Option<Journal>,
}

impl Source {
    /// Opens and locks both; the backing file for writing if the merge goes into it.
    pub(crate) fn open(request: &Request) -> Result<Self, MooError> {
        let in_place = request.into == Target::Backing;
        let (access, kind) = match request.into {
            Target::Backing => (Access::Write, LockKind::Write),
            Target::New(_) | Target::Stdout => (Access::Read, LockKind::Read),
        };
        let cow = if in_place {
            open_to_lock(&request.cow)?
        } else {
            open_to_read(&request.cow)?
        };
        let named = || cow.header().backing().to_path_buf();
        let path = request.backing.clone().unwrap_or_else(named);
        let backing = Backing::open(&path, access)?;
        if same_file(backing.metadata(), cow.metadata()) {
            return Err(MooError::BackingIsCow { path });
        }
        backing.lock(kind)?;
        let journal = Journal::find(&cow, &backing)?;
        match backing.matches(cow.header()) {
            Err(BackingMismatch::Mtime { .. })
                if journal.is_some() || request.mtime == Mtime::Ignore => {}
            matches => matches?,
        }
        Ok(Self {
            cow,
            backing,
            journal,
        })
    }

    pub(crate) const fn geometry(&self) -> &Geometry {
        self.cow.geometry()
    }

    /// The image's size in bytes.
    pub(crate) const fn size(&self) -> u64 {
        self.geometry().size()
    }

    /// Refuses a target that is one of the two, by whatever name.
    pub(crate) fn refuse_as_target(&self, path: &Path, target: &Metadata) -> Result<(), MooError> {
        for (metadata, what) in [
            (self.cow.metadata(), "COW file"),
            (self.backing.metadata(), "backing file"),
        ] {
            if same_file(metadata, target) {
                return Err(MooError::TargetIsSource {
                    path: path.to_path_buf(),
                    what,
                });
            }
        }
        Ok(())
    }

    /// Checks that nobody wrote to the COW file since it was opened.
    pub(crate) fn cow_unchanged(&self) -> Result<(), MooError> {
        let now = self.cow.file().metadata();
        let now = now.map_err(IoError::at("reading the attributes of", self.cow.path()))?;
        unchanged(self.cow.metadata(), &now, self.cow.path())
    }

    /// Checks that nobody wrote to the backing file since it was opened.
    pub(crate) fn backing_unchanged(&self) -> Result<(), MooError> {
        let now = self.backing.file().metadata();
        let now = now.map_err(IoError::at(
            "reading the attributes of",
            self.backing.path(),
        ))?;
        unchanged(self.backing.metadata(), &now, self.backing.path())
    }
}

fn open_to_read(path: &Path) -> Result<CowFile, MooError> {
    let cow = CowFile::open(path, Access::Read)?;
    // The kernel's lock on it is a write lock: this one is enough to notice a guest, and lets
    // others read too.
    cow.lock(LockKind::Read)?;
    Ok(cow)
}

/// As the kernel locks it, where the file may be written at all.
fn open_to_lock(path: &Path) -> Result<CowFile, MooError> {
    match CowFile::open(path, Access::Write) {
        Ok(cow) => {
            cow.lock(LockKind::Write)?;
            Ok(cow)
        }
        Err(CowError::Io(error))
            if matches!(
                error.errno(),
                Some(libc::EACCES | libc::EPERM | libc::EROFS)
            ) =>
        {
            open_to_read(path)
        }
        Err(error) => Err(error.into()),
    }
}

fn unchanged(before: &Metadata, now: &Metadata, path: &Path) -> Result<(), MooError> {
    let state = |metadata: &Metadata| (metadata.len(), metadata.mtime(), metadata.mtime_nsec());
    if state(before) == state(now) {
        Ok(())
    } else {
        Err(MooError::Changed {
            path: path.to_path_buf(),
        })
    }
}

/// Tells what to do about a backing file that changed, or seems to have.
pub(crate) fn ways_out(header: u32, found: i64, path: &Path) {
    console::note(format_args!(
        "uml_moo: the COW file was made when the backing file had last changed at {}; now that is \
         {}",
        readable(i64::from(header)),
        readable(found)
    ));
    console::note(format_args!(
        "uml_moo: a copy made without its time (cp without -p)? touch -d @{header} {}",
        shell_word(path)
    ));
    console::note(
        "uml_moo: other contents than then? The merged image would be damaged; --ignore-mtime \
         merges all the same",
    );
}

/// A path as a shell reads it back. One that can't be shown is left for the user to write.
fn shell_word(path: &Path) -> String {
    match path.to_str() {
        Some(text) if printable(text) == text => format!("'{}'", text.replace('\'', r"'\''")),
        _ => "BACKING-FILE".to_owned(),
    }
}

fn readable(seconds: i64) -> String {
    match Timestamp::from_second(seconds) {
        Ok(time) => time
            .to_zoned(TimeZone::system())
            .strftime("%Y-%m-%d %H:%M:%S %z")
            .to_string(),
        Err(_) => format!("{seconds} seconds after 1970"),
    }
}

#[cfg(test)]
mod tests {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _};

    use super::*;

    #[test]
    fn a_shell_reads_the_path_that_was_meant_or_none() {
        let word = |path: &[u8]| shell_word(Path::new(OsStr::from_bytes(path)));
        assert_eq!(word(b"/a b/root.img"), "'/a b/root.img'");
        assert_eq!(word(b"a'; reboot"), r"'a'\''; reboot'");
        for odd in [&b"a\nb"[..], b"\x1b[2J", b"\xff"] {
            assert_eq!(word(odd), "BACKING-FILE");
        }
    }
}
