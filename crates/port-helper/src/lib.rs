//! Hands a terminal to a User-Mode Linux kernel.
#![forbid(unsafe_code)]
