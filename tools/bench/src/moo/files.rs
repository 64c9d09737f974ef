//! Files of disk images: read, written, compared, put back as they were.

use std::{
    fs::{self, File, FileTimes, OpenOptions},
    io::ErrorKind,
    os::unix::fs::FileExt as _,
    path::Path,
};

use nix::unistd::{Whence, lseek};
use uml_core::error::IoError;

use crate::error::Error;

/// Images are made, compared and read in pieces of this size, in bytes.
pub(super) const WINDOW: usize = 1 << 20;

/// Makes `live` hold what `from` holds, on the disk, with the same time of last change.
///
/// # Errors
/// A file can't be read or written.
pub(super) fn restore(from: &Path, live: &Path) -> Result<(), Error> {
    let source = open(from)?;
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    let target = options.open(live).map_err(IoError::at("opening", live))?;
    let metadata = source.metadata().map_err(IoError::at("reading", from))?;
    target
        .set_len(metadata.len())
        .map_err(IoError::at("growing", live))?;
    let (mut good, mut found) = (vec![0; WINDOW], vec![0; WINDOW]);
    for at in (0..metadata.len()).step_by(WINDOW) {
        get(&source, from, &mut good, at)?;
        get(&target, live, &mut found, at)?;
        if good != found {
            put(&target, live, &good, at)?;
        }
    }
    let modified = metadata.modified().map_err(IoError::at("reading", from))?;
    target
        .set_times(FileTimes::new().set_modified(modified))
        .map_err(IoError::at("setting the time of", live))?;
    target.sync_all().map_err(IoError::at("syncing", live))?;
    Ok(())
}

/// Compares an image with what it must be.
///
/// # Errors
/// [`Error::WrongImage`], or a file can't be read.
pub(super) fn check(who: &str, found: &Path, good: &Path) -> Result<(), Error> {
    let wrong = |offset| Error::WrongImage {
        who: who.to_owned(),
        offset,
        path: found.to_owned(),
    };
    let (found_file, good_file) = (open(found)?, open(good)?);
    let length = |file: &File, path| {
        Ok::<_, Error>(file.metadata().map_err(IoError::at("reading", path))?.len())
    };
    let (found_length, length) = (length(&found_file, found)?, length(&good_file, good)?);
    if found_length != length {
        return Err(wrong(found_length.min(length)));
    }
    let (mut left, mut right) = (vec![0; WINDOW], vec![0; WINDOW]);
    let mut at = 0;
    while at < length {
        // Where both have a hole there is nothing to compare.
        at = next_data(&found_file, at)
            .min(next_data(&good_file, at))
            .min(length);
        if at == length {
            break;
        }
        get(&found_file, found, &mut left, at)?;
        get(&good_file, good, &mut right, at)?;
        if left != right {
            let same = left.iter().zip(&right).take_while(|(a, b)| a == b).count();
            return Err(wrong(at + u64::try_from(same).unwrap_or(0)));
        }
        at += u64::try_from(WINDOW).unwrap_or(u64::MAX);
    }
    Ok(())
}

/// Reads all data of a file, so that it is in the page cache.
///
/// # Errors
/// The file can't be read.
pub(super) fn warm(path: &Path) -> Result<(), Error> {
    let file = open(path)?;
    let length = file.metadata().map_err(IoError::at("reading", path))?.len();
    let mut window = vec![0; WINDOW];
    let mut at = next_data(&file, 0);
    while at < length {
        get(&file, path, &mut window, at)?;
        at = next_data(&file, at + u64::try_from(WINDOW).unwrap_or(u64::MAX));
    }
    Ok(())
}

/// Removes a file; none is no error.
///
/// # Errors
/// The file can't be removed.
pub(super) fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(IoError::at("removing", path)(error).into())
        }
        _ => Ok(()),
    }
}

/// The first byte from `at` on that isn't in a hole; `u64::MAX` if none is.
fn next_data(file: &File, at: u64) -> u64 {
    let Ok(offset) = i64::try_from(at) else {
        return u64::MAX;
    };
    lseek(file, offset, Whence::SeekData)
        .map_or(u64::MAX, |found| u64::try_from(found).unwrap_or(u64::MAX))
}

/// Opens a file to read it.
///
/// # Errors
/// What the system said.
pub(super) fn open(path: &Path) -> Result<File, Error> {
    Ok(File::open(path).map_err(IoError::at("opening", path))?)
}

/// Makes a new file of this length in bytes, one hole.
///
/// # Errors
/// What the system said.
pub(super) fn create(path: &Path, length: u64) -> Result<File, Error> {
    let file = File::create_new(path).map_err(IoError::at("creating", path))?;
    file.set_len(length).map_err(IoError::at("growing", path))?;
    Ok(file)
}

/// Writes all of `bytes` at this offset.
///
/// # Errors
/// What the system said.
pub(super) fn put(file: &File, path: &Path, bytes: &[u8], at: u64) -> Result<(), Error> {
    Ok(file
        .write_all_at(bytes, at)
        .map_err(IoError::at("writing", path))?)
}

/// Fills `window` from `at` on; what lies behind the end of the file is zero.
///
/// # Errors
/// What the system said.
pub(super) fn get(
    file: &File,
    path: &Path,
    mut window: &mut [u8],
    mut at: u64,
) -> Result<(), Error> {
    while !window.is_empty() {
        let read = file
            .read_at(window, at)
            .map_err(IoError::at("reading", path))?;
        if read == 0 {
            window.fill(0);
        }
        let rest = window.get_mut(read..).filter(|_| read > 0);
        window = rest.unwrap_or_default();
        at += u64::try_from(read).unwrap_or(0);
    }
    Ok(())
}
