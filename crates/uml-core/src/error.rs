//! I/O errors that say what was being done, and on what.

use std::{
    error::Error,
    ffi::OsStr,
    fmt::{self, Write as _},
    io,
    path::{Path, PathBuf},
};

/// An error of the operating system with what was being done, and on which path.
///
/// Its text is `DOING 'PATH'`, the path as [`shown`] has it; the system's answer is its source, which
/// [`chain`] appends.
#[derive(Debug, thiserror::Error)]
#[error("{doing} '{}'", shown(path))]
pub struct IoError {
    /// What was being done, as a present participle with its object: `opening COW file`.
    pub doing: &'static str,
    /// The path, or the name of the peer or device.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

impl IoError {
    /// Makes an adapter for `map_err`: `file.sync_all().map_err(IoError::at("syncing", path))`.
    pub fn at(doing: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Self {
        move |source| Self {
            doing,
            path: path.as_ref().to_path_buf(),
            source,
        }
    }

    /// The system's error number, where there is one.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        self.source.raw_os_error()
    }
}

/// An error and its sources, outermost first, joined by `: `.
///
/// The operating system's errors lose Rust's ` (os error N)`, so that they read as `perror` prints
/// them. Control characters are escaped, but for newlines: the old tools' texts have some. A path in
/// an error's own text is to be [`shown`], since it may hold newlines too.
#[must_use]
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = String::new();
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = next {
        let clause = match error.downcast_ref::<io::Error>() {
            Some(io_error) => system_text(io_error),
            None => error.to_string(),
        };
        if !text.is_empty() {
            text.push_str(": ");
        }
        for c in clause.chars() {
            if c.is_control() && c != '\n' {
                // Writing to a String can't fail.
                let _ = write!(text, "{}", c.escape_default());
            } else {
                text.push(c);
            }
        }
        next = error.source();
    }
    text
}

/// A text on one line, its control characters escaped: whoever chose it can neither steer a
/// terminal with it nor forge lines of a log.
#[must_use]
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// A path or a name for messages, [`printable`]; what isn't Unicode in it is replaced.
#[must_use]
pub fn shown(name: impl AsRef<OsStr>) -> String {
    printable(&name.as_ref().to_string_lossy())
}

/// The text of an I/O error as `strerror` has it.
#[must_use]
pub fn system_text(error: &io::Error) -> String {
    let text = error.to_string();
    match error.raw_os_error() {
        // The standard library puts its own suffix behind the system's text.
        Some(number) => match text.strip_suffix(&format!(" (os error {number})")) {
            Some(system) => system.to_owned(),
            None => text,
        },
        None => text,
    }
}

impl From<IoError> for io::Error {
    fn from(error: IoError) -> Self {
        Self::new(error.source.kind(), Text(chain(&error)))
    }
}

#[derive(Debug)]
struct Text(String);

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Text {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chain_reads_like_perror() {
        let error = IoError {
            doing: "opening COW file",
            path: "/a/b".into(),
            source: io::Error::from_raw_os_error(libc::EEXIST),
        };
        assert_eq!(chain(&error), "opening COW file '/a/b': File exists");
        assert_eq!(error.errno(), Some(libc::EEXIST));
    }

    #[test]
    fn system_texts_are_those_of_the_c_library() {
        for (number, text) in [
            (libc::ENOTTY, "Inappropriate ioctl for device"),
            (libc::ENODEV, "No such device"),
            (libc::EBUSY, "Device or resource busy"),
        ] {
            assert_eq!(system_text(&io::Error::from_raw_os_error(number)), text);
        }
    }

    #[test]
    fn chain_escapes_control_characters_of_paths() {
        let error = IoError {
            doing: "opening",
            path: "a\u{1b}[2J\nb".into(),
            source: io::Error::other("no\u{7}"),
        };
        assert_eq!(chain(&error), "opening 'a\\u{1b}[2J\\nb': no\\u{7}");
    }
}
