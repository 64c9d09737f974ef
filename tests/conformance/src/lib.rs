//! The same scenarios on the reference tools and on ours.
#![forbid(unsafe_code)]
