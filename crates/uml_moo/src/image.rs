//! Merging into a new image.

use std::{
    fs::{self, File, Metadata, OpenOptions},
    io,
    os::unix::fs::{FileExt as _, FileTypeExt as _, OpenOptionsExt as _},
    path::Path,
};

use uml_core::{
    IoError,
    cow::{LockKind, Survey, backing::same_file, lock::lock},
    sparse,
    staged::{Staged, sync_directory},
    sys::file_range::hint_cow_extent_size,
};

use crate::{
    compose::Image,
    device,
    error::MooError,
    head_start::{HeadStart, NEW_BLOCKS},
    merge::{Durability, Outcome, Request, Verify},
    overlay::{self, Between},
    pipeline,
    progress::Progress,
    source::Source,
    stop::Stop,
    stream, verify,
};

const OPENING: &str = "opening output file";

/// What a changed block of a clone takes on the disk, in bytes.
const BLOCK_BYTES: u32 = 4096;

/// With more runs than these a GiB, changing a clone takes longer than writing anew.
const CLONE_RUNS_PER_GIB: u64 = 16_000;

/// Merges into what is, or will be, called `path`.
pub(crate) fn make(
    source: &Source,
    path: &Path,
    request: &Request,
    stop: &Stop,
) -> Result<Outcome, MooError> {
    let old = match fs::metadata(path) {
        Ok(old) => Some(old),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(IoError::at(OPENING, path)(error).into()),
    };
    let Some(old) = old else {
        return into_file(source, path, request, stop);
    };
    source.refuse_as_target(path, &old)?;
    let kind = old.file_type();
    if kind.is_file() {
        let _held = hold(path, &old)?;
        into_file(source, path, request, stop)
    } else if kind.is_dir() {
        let error = io::Error::from_raw_os_error(libc::EISDIR);
        Err(IoError::at(OPENING, path)(error).into())
    } else if kind.is_block_device() {
        device::fill(source, path, request, stop)
    } else {
        let file = OpenOptions::new().write(true).open(path);
        let file = file.map_err(IoError::at(OPENING, path))?;
        stream::into(source, (&file, path), request, stop)
    }
}

/// Locks a file that will be replaced: a guest that runs on it holds a lock.
fn hold(path: &Path, old: &Metadata) -> Result<Option<File>, MooError> {
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path);
    // A file that may not be written may still be replaced, as `mv` does.
    let Ok(file) = opened else { return Ok(None) };
    let now = file
        .metadata()
        .map_err(IoError::at("reading the attributes of", path))?;
    if same_file(old, &now) {
        lock(&file, path, LockKind::Write)?;
    }
    Ok(Some(file))
}

fn into_file(
    source: &Source,
    path: &Path,
    request: &Request,
    stop: &Stop,
) -> Result<Outcome, MooError> {
    let survey = source.cow.survey()?;
    let staged = Staged::beside(path, 0o600)?;
    let file = staged.file();
    let progress = Progress::new(source.size(), request.talk);
    let cloned = worth_a_clone(source, &survey)
        && sparse::clone_file(source.backing.file(), file)
            .map_err(IoError::at("cloning to", path))?;
    if cloned {
        // Only a hint, which one file system knows.
        let _ = hint_cow_extent_size(file, Some(BLOCK_BYTES));
        let target = (file, path);
        overlay::lay(
            source,
            target,
            Between::Shared,
            request.durability,
            &progress,
            stop,
        )?;
        let _ = hint_cow_extent_size(file, None);
    } else {
        write(source, (file, path), request.durability, &progress, stop)?;
    }
    source.cow_unchanged()?;
    source.backing_unchanged()?;
    // A private disk stays private.
    staged
        .inherit(source.backing.metadata())
        .map_err(IoError::at("setting the mode of", path))?;
    if request.durability == Durability::Synced {
        stop.check()?;
        file.sync_all().map_err(IoError::at("syncing", path))?;
    }
    let crc32 = match request.verify {
        Verify::No => None,
        Verify::ReadBack => Some(verify::image(source, (file, path), &progress, stop)?),
    };
    stop.check()?;
    let directory = staged.directory();
    staged.replace()?;
    if request.durability == Durability::Synced {
        sync_directory(&directory)?;
    }
    Ok(Outcome {
        survey,
        image: path.to_path_buf(),
        crc32,
        finished_another: false,
    })
}

/// Whether a clone with the changes laid over it is quicker than a new file.
fn worth_a_clone(source: &Source, survey: &Survey) -> bool {
    let most = (u128::from(CLONE_RUNS_PER_GIB) * u128::from(source.size())) >> 30;
    source.backing.metadata().is_file() && u128::from(survey.runs) <= most.max(64)
}

/// Writes the image into an empty file; what is zero becomes a hole.
fn write(
    source: &Source,
    (file, path): (&File, &Path),
    durability: Durability,
    progress: &Progress,
    stop: &Stop,
) -> Result<(), MooError> {
    file.set_len(source.size())
        .map_err(IoError::at("setting the length of", path))?;
    let head_start = HeadStart::new(file, durability, NEW_BLOCKS);
    pipeline::scatter(source, Image::new(source), stop, |piece| {
        for part in &piece.data {
            let at = piece.offset + part.start as u64;
            file.write_all_at(&piece.bytes()[part.clone()], at)
                .map_err(IoError::at("writing", path))?;
        }
        head_start.wrote(piece);
        progress.at(piece.end());
        Ok(())
    })
}
