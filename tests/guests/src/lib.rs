//! Real User-Mode Linux guests.
#![forbid(unsafe_code)]
