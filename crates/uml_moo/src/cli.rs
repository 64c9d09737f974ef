//! The command line.

use std::path::PathBuf;

use clap::Parser;
use uml_core::cli::{Usage, any_path};

use crate::merge::{Durability, Mtime, Request, Talk, Target, Verify};

/// What a wrong command line gets.
pub const USAGE: Usage = Usage {
    text: "uml_moo usage:\n\
           \tuml_moo [ -b <actual backing file> ] <COW file> <new backing file>\n\
           \tuml_moo [ -b <actual backing file> ] -d <COW file>\n\
           Creates a new filesystem image from the COW file and its backing file.\n\
           Specifying -d will cause a destructive, in-place merge of the COW file into\n\
           its current backing file\n\
           Specifying -b overrides the backing_file specified in the COW file.  This is\n\
           needed when dealing with a COW file that was created inside a chroot jail.\n\
           uml_moo supports version 1,2 and 3 COW files.",
    status: 1,
};

/// Merges a COW file with its backing file, into a new image or in place.
///
/// The new image appears under its name only when it is whole and on the disk. A merge in place
/// (-d) that was interrupted is finished by running the same command again.
#[derive(Debug, Parser)]
#[command(name = "uml_moo", version)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a switch of the command line"
)]
pub struct Cli {
    /// Merge into the backing file itself; every COW file on it is invalid afterwards
    #[arg(short = 'd', long = "in-place", conflicts_with = "new")]
    pub in_place: bool,

    /// Use this backing file instead of the one that the COW file names
    #[arg(
        short = 'b',
        long = "backing",
        value_name = "actual backing file",
        value_parser = any_path()
    )]
    pub backing: Option<PathBuf>,

    /// Accept a backing file whose time of last change isn't the one that the COW file records
    #[arg(long)]
    pub ignore_mtime: bool,

    /// Leave it to the kernel when the result reaches the disk
    #[arg(long)]
    pub no_sync: bool,

    /// Read the result back, compare it, and print its crc32
    #[arg(long)]
    pub verify: bool,

    /// No progress, no notes; errors are still told
    #[arg(short, long)]
    pub quiet: bool,

    /// The COW file, of any version
    #[arg(value_name = "COW file", value_parser = any_path())]
    pub cow: PathBuf,

    /// The image to make: a file, a block device, or - for standard output
    #[arg(
        value_name = "new backing file",
        value_parser = any_path(),
        required_unless_present = "in_place"
    )]
    pub new: Option<PathBuf>,
}

impl Cli {
    /// What is asked for; none where neither a new image nor -d is.
    #[must_use]
    pub fn request(self) -> Option<Request> {
        let into = match (self.in_place, self.new) {
            (true, None) => Target::Backing,
            (false, Some(new)) if new.as_os_str() == "-" => Target::Stdout,
            (false, Some(new)) => Target::New(new),
            _ => return None,
        };
        Some(Request {
            cow: self.cow,
            backing: self.backing,
            into,
            mtime: if self.ignore_mtime {
                Mtime::Ignore
            } else {
                Mtime::Demand
            },
            durability: if self.no_sync {
                Durability::Kernel
            } else {
                Durability::Synced
            },
            verify: if self.verify {
                Verify::ReadBack
            } else {
                Verify::No
            },
            talk: if self.quiet {
                Talk::Errors
            } else {
                Talk::Notes
            },
        })
    }
}
