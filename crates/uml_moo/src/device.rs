//! Merging over a block device.

use std::{
    fs::{File, OpenOptions},
    ops::Range,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::Path,
};

use uml_core::{
    IoError,
    cow::{LockKind, backing::length, lock::lock},
    sparse::{self, index},
};

use crate::{
    compose::{Image, WINDOW},
    error::MooError,
    head_start::{HeadStart, OLD_BLOCKS},
    merge::{Durability, Outcome, Request, Verify},
    pipeline,
    progress::Progress,
    source::Source,
    stop::Stop,
    verify,
};

/// Writes the image over a device that is large enough and not in use. What lies behind the
/// image's end stays.
pub(crate) fn fill(
    source: &Source,
    path: &Path,
    request: &Request,
    stop: &Stop,
) -> Result<Outcome, MooError> {
    let survey = source.cow.survey()?;
    let size = source.size();
    let opening = || IoError::at("opening output device", path);
    // O_EXCL: not while it is mounted.
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_EXCL)
        .open(path);
    let file = file.map_err(opening())?;
    let metadata = file.metadata().map_err(opening())?;
    source.refuse_as_target(path, &metadata)?;
    lock(&file, path, LockKind::Write)?;
    let device = length(&file, &metadata).map_err(IoError::at("measuring", path))?;
    if device < size {
        return Err(MooError::DeviceTooSmall {
            path: path.to_path_buf(),
            device,
            image: size,
        });
    }
    let crc32 =
        write(source, (&file, path), request, stop).map_err(|error| MooError::HalfWritten {
            path: path.to_path_buf(),
            source: Box::new(error),
        })?;
    Ok(Outcome {
        survey,
        image: path.to_path_buf(),
        crc32,
        finished_another: false,
    })
}

/// Returns the image's crc32 if it was read back.
fn write(
    source: &Source,
    (file, path): (&File, &Path),
    request: &Request,
    stop: &Stop,
) -> Result<Option<u32>, MooError> {
    let progress = Progress::new(source.size(), request.talk);
    let mut zeros = Zeros {
        file,
        path,
        by_device: true,
    };
    let mut position = 0;
    let head_start = HeadStart::new(file, request.durability, OLD_BLOCKS);
    pipeline::in_order(source, Image::new(source), stop, |piece| {
        zeros.write(position..piece.offset, stop)?;
        file.write_all_at(piece.bytes(), piece.offset)
            .map_err(IoError::at("writing", path))?;
        head_start.wrote(piece);
        position = piece.end();
        progress.at(position);
        Ok(())
    })?;
    zeros.write(position..source.size(), stop)?;
    source.cow_unchanged()?;
    source.backing_unchanged()?;
    if request.durability == Durability::Synced {
        file.sync_all().map_err(IoError::at("syncing", path))?;
    }
    match request.verify {
        Verify::No => Ok(None),
        Verify::ReadBack => verify::image(source, (file, path), &progress, stop).map(Some),
    }
}

/// Makes ranges of a device zero.
struct Zeros<'f> {
    file: &'f File,
    path: &'f Path,
    /// Until the device says that it can't.
    by_device: bool,
}

impl Zeros<'_> {
    fn write(&mut self, mut range: Range<u64>, stop: &Stop) -> Result<(), MooError> {
        if range.is_empty() {
            return Ok(());
        }
        self.by_device = self.by_device
            && sparse::zero_range(self.file, &range).map_err(IoError::at("zeroing", self.path))?;
        if self.by_device {
            return Ok(());
        }
        let zeros = vec![0; index(WINDOW)];
        while !range.is_empty() {
            stop.check()?;
            let length = WINDOW.min(range.end - range.start);
            self.file
                .write_all_at(&zeros[..index(length)], range.start)
                .map_err(IoError::at("writing", self.path))?;
            range.start += length;
        }
        Ok(())
    }
}
