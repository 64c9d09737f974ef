//! Merging into the backing file itself.
//!
//! The order that makes it safe against a crash at any moment: the COW file and the journal are on
//! the disk before the first byte of the backing file changes, and the journal goes after the last
//! one is there. Only changed sectors get other contents, and always those of the COW file, which
//! stays as it is; so the whole merge can be done again, however far it had come.

use std::{
    os::unix::fs::MetadataExt as _,
    time::{Duration, SystemTime},
};

use uml_core::{IoError, cow::Survey};

use crate::{
    error::MooError,
    journal::Journal,
    merge::{Durability, Outcome, Request, Verify},
    overlay::{self, Between},
    progress::Progress,
    source::Source,
    stop::Stop,
    verify,
};

/// Merges the COW file into its backing file.
pub(crate) fn merge(source: &Source, request: &Request, stop: &Stop) -> Result<Outcome, MooError> {
    let survey = source.cow.survey()?;
    let path = source.backing.path();
    let crc32 = if survey.sectors == 0 && source.journal.is_none() {
        match request.verify {
            Verify::No => None,
            Verify::ReadBack => {
                let progress = Progress::new(source.size(), request.talk);
                let target = (source.backing.file(), path);
                Some(verify::image(source, target, &progress, stop)?)
            }
        }
    } else {
        let journal = match &source.journal {
            Some(journal) => journal.clone(),
            None => Journal::begin(&source.cow, &source.backing, request.durability)?,
        };
        let crc32 = lay(source, &survey, request, stop).map_err(|error| MooError::HalfMerged {
            path: path.to_path_buf(),
            source: Box::new(error),
        })?;
        journal.end(request.durability)?;
        crc32
    };
    Ok(Outcome {
        survey,
        image: path.to_path_buf(),
        crc32,
        finished_another: source.journal.is_some(),
    })
}

fn lay(
    source: &Source,
    survey: &Survey,
    request: &Request,
    stop: &Stop,
) -> Result<Option<u32>, MooError> {
    let target = (source.backing.file(), source.backing.path());
    let progress = Progress::new(source.size(), request.talk);
    overlay::lay(
        source,
        target,
        Between::Own,
        request.durability,
        &progress,
        stop,
    )?;
    source.cow_unchanged()?;
    if survey.sectors > 0 {
        invalidate_cow_files(source);
    }
    if request.durability == Durability::Synced {
        target
            .0
            .sync_all()
            .map_err(IoError::at("syncing", target.1))?;
    }
    match request.verify {
        Verify::No => Ok(None),
        Verify::ReadBack => verify::image(source, target, &progress, stop).map(Some),
    }
}

/// The headers of COW files hold whole seconds: a merge within the second of the backing file's
/// last change would leave them valid, with other contents below them. So the time moves on, to
/// behind what this COW file records and what the others do.
fn invalidate_cow_files(source: &Source) {
    let file = source.backing.file();
    let recorded = i64::from(source.cow.header().mtime());
    let last = source.backing.mtime();
    let now = file.metadata().map(|metadata| metadata.mtime());
    if !now.is_ok_and(|now| now == recorded || now == last) {
        return;
    }
    let next = u64::try_from(recorded.max(last))
        .ok()
        .and_then(|second| second.checked_add(1))
        .and_then(|second| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(second)));
    if let Some(next) = next {
        // Only the owner may set a time; the merge is done all the same.
        let _ = file.set_modified(next);
    }
}
