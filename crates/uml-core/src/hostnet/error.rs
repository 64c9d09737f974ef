//! What the kernel said, and to what.

use std::{error::Error, fmt, io};

use crate::error::system_text;

/// A change or a question that the kernel refused, named with its object.
///
/// Its text is what was being done (`adding route 192.168.5.1/32 dev tap0`); the kernel's answer
/// is its source, which [`crate::error::chain`] appends.
#[derive(Debug, thiserror::Error)]
#[error("{doing}")]
pub struct HostError {
    /// What was being done, as a present participle with its object and device.
    pub doing: String,
    /// What the kernel said.
    pub source: KernelAnswer,
}

/// The kernel's refusal: an error number, and often a sentence.
#[derive(Debug)]
pub enum KernelAnswer {
    /// An error number, with the sentence that netlink's extended answer may hold.
    Refused {
        /// The error number (`EEXIST`, `ESRCH`, `EPERM` …).
        errno: i32,
        /// The kernel's own words, for example `Nexthop has invalid gateway`.
        words: Option<String>,
    },
    /// An answer that cannot be understood.
    Unreadable(String),
}

impl HostError {
    /// Makes an adapter for `map_err`.
    pub(crate) fn at<S: Into<KernelAnswer>>(doing: impl Into<String>) -> impl FnOnce(S) -> Self {
        move |source| Self {
            doing: doing.into(),
            source: source.into(),
        }
    }

    /// The system's error number, where there is one.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        match self.source {
            KernelAnswer::Refused { errno, .. } => Some(errno),
            KernelAnswer::Unreadable(_) => None,
        }
    }

    /// Whether the kernel answered with this number: `error.is(libc::EEXIST)`.
    #[must_use]
    pub fn is(&self, errno: i32) -> bool {
        self.errno() == Some(errno)
    }
}

impl KernelAnswer {
    pub(crate) const fn number(errno: i32) -> Self {
        Self::Refused { errno, words: None }
    }
}

impl fmt::Display for KernelAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { errno, words } => {
                f.write_str(&system_text(&io::Error::from_raw_os_error(*errno)))?;
                match words {
                    Some(words) => write!(f, " ({})", words.trim_end_matches('.')),
                    None => Ok(()),
                }
            }
            Self::Unreadable(why) => write!(f, "the kernel's answer can't be read: {why}"),
        }
    }
}

impl Error for KernelAnswer {}

impl From<io::Error> for KernelAnswer {
    fn from(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(errno) => Self::number(errno),
            None => Self::Unreadable(error.to_string()),
        }
    }
}

impl From<netlink_packet_core::DecodeError> for KernelAnswer {
    fn from(error: netlink_packet_core::DecodeError) -> Self {
        Self::Unreadable(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::chain;

    #[test]
    fn text_names_the_object_and_the_answer() {
        let error = HostError::at("adding route 192.168.5.1/32 dev tap0")(KernelAnswer::number(
            libc::EEXIST,
        ));
        assert_eq!(
            chain(&error),
            "adding route 192.168.5.1/32 dev tap0: File exists"
        );
        assert!(error.is(libc::EEXIST));
    }

    #[test]
    fn text_holds_the_kernels_own_words() {
        let error = HostError::at("x")(KernelAnswer::Refused {
            errno: libc::EINVAL,
            words: Some("Invalid prefix for given prefix length.".into()),
        });
        assert_eq!(
            chain(&error),
            "x: Invalid argument (Invalid prefix for given prefix length)"
        );
    }
}
