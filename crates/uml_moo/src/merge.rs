//! A merge: what is asked for, and what came of it.

use std::{fs, os::unix::fs::FileTypeExt as _, path::PathBuf};

use uml_core::{console, cow::Survey, error::shown};

use crate::{error::MooError, image, in_place, source::Source, stop::Stop, stream};

/// Where the merged image goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A new file, or over a block device.
    New(PathBuf),
    /// Standard output.
    Stdout,
    /// The backing file itself.
    Backing,
}

/// What the backing file's time of last change counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mtime {
    /// It must be the one in the COW file's header.
    Demand,
    /// It counts nothing.
    Ignore,
}

/// When the result is on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// When the merge is over.
    Synced,
    /// When the kernel gets round to it.
    Kernel,
}

/// Whether the result is read back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verify {
    /// It isn't.
    No,
    /// It is read back and compared.
    ReadBack,
}

/// What is said on standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Talk {
    /// Errors only.
    Errors,
    /// Errors, notes, and progress on a terminal.
    Notes,
}

/// One merge.
#[derive(Debug, Clone)]
pub struct Request {
    /// The COW file.
    pub cow: PathBuf,
    /// The backing file to use instead of the one that the COW file names.
    pub backing: Option<PathBuf>,
    /// Where the image goes.
    pub into: Target,
    /// Whether the backing file may have another time of last change.
    pub mtime: Mtime,
    /// Whether to wait for the disk.
    pub durability: Durability,
    /// Whether to read the result back.
    pub verify: Verify,
    /// What to say on the way.
    pub talk: Talk,
}

impl Request {
    /// Whether the image goes where it can't be taken back: standard output, a pipe, a terminal.
    pub(crate) fn streams(&self) -> bool {
        match &self.into {
            Target::Stdout => true,
            Target::Backing => false,
            Target::New(path) => fs::metadata(path).is_ok_and(|target| {
                let kind = target.file_type();
                !kind.is_file() && !kind.is_dir() && !kind.is_block_device()
            }),
        }
    }
}

/// What a merge did.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// What had changed.
    pub survey: Survey,
    /// The image's name for messages.
    pub image: PathBuf,
    /// The crc32 of the whole image, where it was read back.
    pub crc32: Option<u32>,
    /// An interrupted merge was finished.
    pub finished_another: bool,
}

impl Outcome {
    /// Tells the user what he has to know.
    pub(crate) fn tell(&self, request: &Request) {
        if let Some(crc32) = self.crc32 {
            let line = format!("crc32 of '{}': {crc32:08x}", shown(&self.image));
            if let Err(error) = console::line(line) {
                console::report("uml_moo: writing to standard output", &error);
            }
        }
        if request.into != Target::Backing || request.talk == Talk::Errors {
            return;
        }
        let (cow, image) = (shown(&request.cow), shown(&self.image));
        if self.finished_another {
            console::note("uml_moo: an interrupted merge was found and finished");
        }
        if self.survey.sectors == 0 {
            console::note(format_args!(
                "uml_moo: '{cow}' holds no changes: nothing to merge"
            ));
        } else {
            console::note(format_args!(
                "uml_moo: '{cow}' is merged into '{image}'; it is invalid now, and so is any other \
                 COW file on that backing file"
            ));
        }
    }
}

/// Merges. Nothing half-made is left under a name that was asked for; a merge in place that ends
/// half-way is finished by the same request.
///
/// # Errors
/// Why it failed.
pub fn merge(request: &Request, stop: &Stop) -> Result<Outcome, MooError> {
    let source = Source::open(request)?;
    match &request.into {
        Target::New(path) => image::make(&source, path, request, stop),
        Target::Stdout => stream::to_stdout(&source, request, stop),
        Target::Backing => in_place::merge(&source, request, stop),
    }
}
