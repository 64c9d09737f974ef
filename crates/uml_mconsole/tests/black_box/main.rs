//! The built program against guests that are threads of the test.
#![expect(clippy::unwrap_used, reason = "a test")]

mod fake;
mod faults;
mod many;
mod notifications;
mod one_shot;
mod prompt;
mod replies;
mod script;
