//! The command line.

use std::{ffi::OsString, path::PathBuf};

use clap::Parser;
use uml_core::cli::Usage;

use crate::make::Existing;

/// What a wrong command line gets.
pub const USAGE: Usage = Usage {
    text: "uml_mkcow usage: \n\tuml_mkcow [-f] <COW file> <backing file>\n\t-f forces overwrite of an \
           existing COW file",
    status: 2,
};

/// Makes a COW file over a backing file: a disk that holds what a guest changes, while the backing
/// file stays as it is.
///
/// The new file is sparse. It records the backing file's absolute name, size and time of last
/// change; if either of the last two changes, the COW file can't be used any more.
#[derive(Debug, Parser)]
#[command(name = "uml_mkcow", version)]
pub struct Cli {
    /// Replace an existing COW file. It stays whole until the new one takes its place
    #[arg(short = 'f', long = "force")]
    pub force: bool,

    /// The COW file to make
    #[arg(value_name = "COW file", value_parser = uml_core::cli::any_path())]
    pub cow: PathBuf,

    /// The backing file: a disk image or a block device
    #[arg(value_name = "backing file", value_parser = uml_core::cli::any_path())]
    pub backing: PathBuf,

    /// More operands, which were never looked at
    #[arg(hide = true)]
    pub ignored: Vec<OsString>,
}

impl Cli {
    /// What to do with a COW file that exists.
    #[must_use]
    pub const fn existing(&self) -> Existing {
        if self.force {
            Existing::Replace
        } else {
            Existing::Refuse
        }
    }
}
