//! Merges a User-Mode Linux copy-on-write disk with its backing file.
#![forbid(unsafe_code)]
