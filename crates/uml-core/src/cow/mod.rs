//! The COW file format.
