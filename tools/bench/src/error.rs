//! What can go wrong around a measurement.

use std::path::PathBuf;

use uml_core::error::IoError;

/// What can go wrong around a measurement.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or process operation failed.
    #[error(transparent)]
    Io(#[from] IoError),
    /// A system call failed.
    #[error("{doing}")]
    System {
        /// What was being done.
        doing: &'static str,
        /// What the system said.
        source: nix::errno::Errno,
    },
    /// A program is not installed.
    #[error("'{program}' is missing: apt-get install {package}")]
    Missing {
        /// The program.
        program: &'static str,
        /// Debian's package that has it.
        package: &'static str,
    },
    /// A program ended with an error.
    #[error("`{command}` ended with {status}: {stderr}")]
    Failed {
        /// The command line.
        command: String,
        /// Its exit status.
        status: String,
        /// What it said.
        stderr: String,
    },
    /// A merged image differs from what it must be.
    #[error("{who} made an image that differs at byte {offset}: '{}'", path.display())]
    WrongImage {
        /// Whose image.
        who: String,
        /// The first byte that differs, or the length of the shorter image.
        offset: u64,
        /// The image.
        path: PathBuf,
    },
    /// Something that the machine can't do.
    #[error("{0}")]
    Unsupported(String),
    /// The figures can't be written as JSON.
    #[error("writing the figures")]
    Json(#[from] serde_json::Error),
}

impl Error {
    /// Makes an adapter for `map_err` on a system call's result.
    pub fn system(doing: &'static str) -> impl FnOnce(nix::errno::Errno) -> Self {
        move |source| Self::System { doing, source }
    }
}
