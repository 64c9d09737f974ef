//! The same scenarios on the reference tools (Debian's uml-utilities) and on ours.
//!
//! A scenario runs twice, in two fresh sandboxes under the same path. Both transcripts (standard
//! output and error, status, files with their crc32) are compared. Every known difference stands in
//! one table, `differences.toml`, with its reason, and a scenario asserts that it still exists.
//!
//! Each scenario leaves a line below `target/conformance`, from which `cargo run -p xtask --
//! conformance` makes its report.
#![forbid(unsafe_code)]
#![expect(
    clippy::missing_panics_doc,
    clippy::expect_used,
    reason = "a test harness fails by panicking; each function's doc says on what"
)]

pub mod differences;
mod sandbox;

use std::{fs, path::Path};

pub use sandbox::{Entry, Sandbox, Transcript};
use testkit::bins;

/// Runs a scenario on both; panics with both transcripts unless they are equal.
#[track_caller]
pub fn same(tool: &str, name: &str, scenario: impl Fn(&mut Sandbox)) {
    let (reference, ours) = both(tool, &scenario);
    assert!(
        reference == ours,
        "{tool}: {name}: ours differs\n--- reference\n{reference}\n--- ours\n{ours}"
    );
    record(tool, name, "equal");
}

/// Runs a scenario on both; panics unless they are equal in all but the words on standard error,
/// which must be there in both or in neither.
///
/// The words differ where ours name the path, what the system said and a way out: difference
/// `messages`.
#[track_caller]
pub fn same_but_words(tool: &str, name: &str, scenario: impl Fn(&mut Sandbox)) {
    let (reference, ours) = both(tool, &scenario);
    assert!(
        reference.without_words() == ours.without_words(),
        "{tool}: {name}: ours differs\n--- reference\n{reference}\n--- ours\n{ours}"
    );
    record(tool, name, "messages");
}

/// Runs a scenario in which ours is known to differ; panics when it doesn't any more, when
/// `difference` is not in the table, or when `check` finds one of them not as the table says.
#[track_caller]
pub fn differs(
    tool: &str,
    name: &str,
    difference: &str,
    scenario: impl Fn(&mut Sandbox),
    check: impl FnOnce(&Transcript, &Transcript),
) {
    assert!(
        differences::all()
            .iter()
            .any(|known| known.id == difference),
        "{tool}: {name}: difference '{difference}' is not in differences.toml"
    );
    let (reference, ours) = both(tool, &scenario);
    assert!(
        reference != ours,
        "{tool}: {name}: difference '{difference}' exists no more: both say\n{ours}"
    );
    check(&reference, &ours);
    record(tool, name, difference);
}

fn both(tool: &str, scenario: &impl Fn(&mut Sandbox)) -> (Transcript, Transcript) {
    let parent = tempfile::tempdir().expect("a folder for the sandboxes");
    let dir = parent.path().join("sandbox");
    let run = |binary: &Path, is_ours: bool| {
        fs::create_dir(&dir).expect("a fresh sandbox");
        let mut sandbox = Sandbox::new(&dir, tool, binary, is_ours);
        scenario(&mut sandbox);
        let transcript = sandbox.finish();
        fs::remove_dir_all(&dir).expect("clearing the sandbox");
        transcript
    };
    let reference = run(&bins::reference(tool), false);
    let ours = run(&bins::ours(tool), true);
    (reference, ours)
}

fn record(tool: &str, name: &str, outcome: &str) {
    let dir = bins::target_dir().join("conformance").join(tool);
    fs::create_dir_all(&dir).expect("a folder for the report's lines");
    let file: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    fs::write(dir.join(file), format!("{outcome}\t{name}\n")).expect("a line for the report");
}
