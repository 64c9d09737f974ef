//! The binary as a guest's kernel and as strangers run it, in network namespaces of its own.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod answers;
mod hostile;
mod killed;
mod kit;
mod policy;
mod privilege;
mod undo;
