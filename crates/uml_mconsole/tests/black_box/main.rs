//! The built program against guests that are threads of the test.
#![expect(clippy::unwrap_used, reason = "a test")]

mod fake;
mod one_shot;
mod replies;
