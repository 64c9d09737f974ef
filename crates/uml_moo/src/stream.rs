//! Merging into a stream: standard output, a pipe.

use std::{
    fs::File,
    io::{self, IsTerminal as _, Write as _},
    ops::Range,
    os::fd::AsFd as _,
    path::Path,
};

use uml_core::{IoError, sparse::index};

use crate::{
    compose::{Image, WINDOW},
    error::MooError,
    merge::{Durability, Outcome, Request, Verify},
    pipeline,
    progress::Progress,
    source::Source,
    stop::Stop,
};

/// Writes the image to standard output.
pub(crate) fn to_stdout(
    source: &Source,
    request: &Request,
    stop: &Stop,
) -> Result<Outcome, MooError> {
    let path = Path::new("standard output");
    let file = io::stdout().as_fd().try_clone_to_owned();
    let file = File::from(file.map_err(IoError::at("opening", path))?);
    into(source, (&file, path), request, stop)
}

/// Writes the image to what takes bytes in order; holes are zeros.
pub(crate) fn into(
    source: &Source,
    (mut file, path): (&File, &Path),
    request: &Request,
    stop: &Stop,
) -> Result<Outcome, MooError> {
    if file.is_terminal() {
        return Err(MooError::Terminal);
    }
    if request.verify == Verify::ReadBack {
        return Err(MooError::NotReadable {
            path: path.to_path_buf(),
        });
    }
    let metadata = file
        .metadata()
        .map_err(IoError::at("reading the attributes of", path))?;
    source.refuse_as_target(path, &metadata)?;
    let survey = source.cow.survey()?;
    let progress = Progress::new(source.size(), request.talk);
    let mut position = 0;
    pipeline::in_order(source, Image::new(source), stop, |piece| {
        zeros((file, path), position..piece.offset, stop)?;
        file.write_all(piece.bytes())
            .map_err(IoError::at("writing", path))?;
        position = piece.end();
        progress.at(position);
        Ok(())
    })?;
    zeros((file, path), position..source.size(), stop)?;
    source.cow_unchanged()?;
    source.backing_unchanged()?;
    if request.durability == Durability::Synced && metadata.is_file() {
        file.sync_all().map_err(IoError::at("syncing", path))?;
    }
    Ok(Outcome {
        survey,
        image: path.to_path_buf(),
        crc32: None,
        finished_another: false,
    })
}

fn zeros((mut file, path): (&File, &Path), range: Range<u64>, stop: &Stop) -> Result<(), MooError> {
    let window = vec![0; index(WINDOW.min(range.end - range.start))];
    let mut left = range.end - range.start;
    while left > 0 {
        stop.check()?;
        let length = WINDOW.min(left);
        file.write_all(&window[..index(length)])
            .map_err(IoError::at("writing", path))?;
        left -= length;
    }
    Ok(())
}
