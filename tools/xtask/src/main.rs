//! Man pages, completions, fixtures, guest images, reports.
#![forbid(unsafe_code)]
fn main() {}
