//! COW files on disk.

use std::{
    ffi::OsString,
    fs::{File, Metadata},
    io,
    os::unix::{
        ffi::{OsStrExt as _, OsStringExt as _},
        fs::FileExt as _,
    },
    path::{Path, PathBuf},
};

use super::{
    backing::{Access, length, open_disk_file},
    bitmap::{Bitmap, Survey},
    geometry::Geometry,
    header::{CowHeader, HeaderError, LONGEST_HEADER},
    lock::{LockError, LockKind, lock},
};
use crate::{
    error::{IoError, shown},
    sparse,
};

const JOURNAL_SUFFIX: &[u8] = b".merge-journal";
/// `NAME_MAX` of the usual file systems.
const LONGEST_NAME: usize = 255;

/// Why a COW file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum CowError {
    /// The system refused.
    #[error(transparent)]
    Io(#[from] IoError),
    /// Its header is wrong.
    #[error("COW file '{}'", shown(path))]
    Header {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: HeaderError,
    },
    /// It ends before its bitmap does.
    #[error(
        "COW file '{}' is cut off: {length} bytes, its bitmap ends at {bitmap_end}",
        shown(path)
    )]
    BitmapCut {
        /// The file.
        path: PathBuf,
        /// Its length.
        length: u64,
        /// The bitmap's end.
        bitmap_end: u64,
    },
    /// It ends before a changed sector does.
    #[error(
        "COW file '{}' is cut off: sector {sector} changed, its data would end at byte {data_end}, \
         the file ends at {length}: that data is lost",
        shown(path)
    )]
    SectorCut {
        /// The file.
        path: PathBuf,
        /// The last changed sector.
        sector: u64,
        /// Where its data would end.
        data_end: u64,
        /// The file's length.
        length: u64,
    },
    /// It was cut while it was being read.
    #[error("COW file '{}' became shorter while it was read", shown(path))]
    Shrunk {
        /// The file.
        path: PathBuf,
    },
}

/// An open COW file with a valid header and a whole bitmap.
///
/// Its descriptor is the only one of the file in the process: see [`lock`].
#[derive(Debug)]
pub struct CowFile {
    file: File,
    path: PathBuf,
    length: u64,
    metadata: Metadata,
    header: CowHeader,
    header_bytes: Vec<u8>,
}

impl CowFile {
    /// Opens a COW file.
    ///
    /// # Errors
    /// It can't be opened or read, its header is wrong, or it ends inside its bitmap.
    pub fn open(path: &Path, access: Access) -> Result<Self, CowError> {
        let file = open_disk_file("opening COW file", path, access)?;
        Self::read(file, path)
    }

    /// Takes a file that is open already; `path` is for messages.
    ///
    /// # Errors
    /// It can't be read, its header is wrong, or it ends inside its bitmap.
    pub fn read(file: File, path: &Path) -> Result<Self, CowError> {
        let at = |doing| IoError::at(doing, path);
        let metadata = file.metadata().map_err(at("reading the attributes of"))?;
        let length = length(&file, &metadata).map_err(at("measuring COW file"))?;
        let mut bytes = vec![0; LONGEST_HEADER];
        let got = sparse::read_up_to(&file, &mut bytes, 0).map_err(at("reading COW file"))?;
        bytes.truncate(got);
        let path = path.to_path_buf();
        let header = match CowHeader::parse(&bytes) {
            Ok(header) => header,
            Err(source) => return Err(CowError::Header { path, source }),
        };
        bytes.truncate(header.layout().header_bytes());
        let geometry = header.geometry();
        let bitmap_end = geometry.bitmap_offset() + geometry.bitmap_bytes();
        // An empty image has no bitmap, and nothing needs to be where it would be.
        if length < bitmap_end && geometry.bitmap_bytes() > 0 {
            return Err(CowError::BitmapCut {
                path,
                length,
                bitmap_end,
            });
        }
        Ok(Self {
            file,
            path,
            length,
            metadata,
            header,
            header_bytes: bytes,
        })
    }

    /// Takes the kernel's lock on it.
    ///
    /// # Errors
    /// Somebody else has it.
    pub fn lock(&self, kind: LockKind) -> Result<(), LockError> {
        lock(&self.file, &self.path, kind)
    }

    /// Walks the bitmap and checks that the data of every changed sector is there.
    ///
    /// Missing data of unchanged sectors is no damage: the file is sparse and may end early.
    ///
    /// # Errors
    /// The bitmap can't be read, or a changed sector lies behind the end of the file.
    pub fn survey(&self) -> Result<Survey, CowError> {
        let survey = self.bitmap().survey()?;
        if let Some(sector) = survey.last {
            let geometry = self.geometry();
            let data_end = geometry.data_offset() + geometry.image_range(&(sector..sector + 1)).end;
            if data_end > self.length {
                let path = self.path.clone();
                return Err(CowError::SectorCut {
                    path,
                    sector,
                    data_end,
                    length: self.length,
                });
            }
        }
        Ok(survey)
    }

    /// A new walk over the bitmap.
    #[must_use]
    pub fn bitmap(&self) -> Bitmap<'_> {
        Bitmap::new(&self.file, &self.path, *self.geometry())
    }

    /// Reads changed data: `buffer.len()` bytes of the image from `image_offset` on, from the COW
    /// side. Where the bit of a sector is clear, its bytes mean nothing.
    ///
    /// # Errors
    /// It can't be read, or was cut meanwhile.
    pub fn read_data(&self, buffer: &mut [u8], image_offset: u64) -> Result<(), CowError> {
        let at = self.geometry().data_offset() + image_offset;
        match self.file.read_exact_at(buffer, at) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(CowError::Shrunk {
                path: self.path.clone(),
            }),
            Err(error) => Err(IoError::at("reading COW file", &self.path)(error).into()),
        }
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

    /// Its length in bytes when it was opened.
    #[must_use]
    pub const fn length(&self) -> u64 {
        self.length
    }

    /// Its attributes when it was opened.
    #[must_use]
    pub const fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The header.
    #[must_use]
    pub const fn header(&self) -> &CowHeader {
        &self.header
    }

    /// The header's bytes as they stand in the file, those behind the name included.
    #[must_use]
    pub fn header_bytes(&self) -> &[u8] {
        &self.header_bytes
    }

    /// Where everything is.
    #[must_use]
    pub const fn geometry(&self) -> &Geometry {
        self.header.geometry()
    }
}

/// Where the journal of a merge in place of this COW file lies: beside the real file, whatever link
/// it is called by, as `.NAME.merge-journal`.
///
/// As long as it is there, the backing file is half merged, and only this COW file has what is
/// needed to finish that.
///
/// # Errors
/// The COW file isn't there.
pub fn journal_path(cow: &Path) -> Result<PathBuf, IoError> {
    let real = cow
        .canonicalize()
        .map_err(IoError::at("finding the directory of", cow))?;
    let name = real.file_name().unwrap_or_default().as_bytes();
    let sum;
    let name = if name.len() + 1 + JOURNAL_SUFFIX.len() > LONGEST_NAME {
        sum = format!("{:08x}", crc32fast::hash(name));
        sum.as_bytes()
    } else {
        name
    };
    let journal = [b".", name, JOURNAL_SUFFIX].concat();
    Ok(real.with_file_name(OsString::from_vec(journal)))
}

/// Makes an empty file a COW file without a changed sector: the header, and one zero byte at the
/// very end, so that the file has its full length. Everything between is a hole.
///
/// # Errors
/// What the system said.
pub fn write_new(file: &File, header: &CowHeader) -> io::Result<()> {
    file.write_all_at(&header.to_bytes(), 0)?;
    let geometry = header.geometry();
    match geometry.size() {
        0 => file.set_len(geometry.data_offset()),
        size => file.write_all_at(&[0], geometry.data_offset() + size - 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journal_lies_beside_the_real_file() {
        let directory = tempfile::tempdir().unwrap();
        let real = directory.path().canonicalize().unwrap();
        std::fs::write(real.join("cow"), "").unwrap();
        std::os::unix::fs::symlink("cow", real.join("link")).unwrap();
        assert_eq!(
            journal_path(&real.join("link")).unwrap(),
            real.join(".cow.merge-journal")
        );
        let long = real.join("n".repeat(255));
        std::fs::write(&long, "").unwrap();
        let journal = journal_path(&long).unwrap();
        std::fs::write(journal, "").unwrap();
    }
}
