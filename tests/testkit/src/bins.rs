//! Where the binaries under test and the reference binaries are.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use crate::cmd::run;

/// Our binary of that name, built beside the running test.
///
/// Panics when it has not been built: a crate's own tests use `env!("CARGO_BIN_EXE_…")` instead.
#[must_use]
pub fn ours(name: &str) -> PathBuf {
    let path = target_dir().join(name);
    assert!(
        path.is_file(),
        "{} is not built: run `cargo build --workspace --bins` first (tools/test does)",
        path.display()
    );
    path
}

/// The reference binary of that name, from Debian's uml-utilities.
///
/// Panics when it is not installed.
#[must_use]
pub fn reference(name: &str) -> PathBuf {
    let dir = if name == "port-helper" {
        "/usr/lib/uml"
    } else {
        "/usr/bin"
    };
    let path = PathBuf::from(dir).join(name);
    assert!(
        path.is_file(),
        "{} is missing: apt-get install uml-utilities",
        path.display()
    );
    path
}

/// The program of that name on the search path.
///
/// Panics with the Debian package to install when there is none.
#[must_use]
pub fn installed(name: &str, package: &str) -> PathBuf {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")])
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
        .unwrap_or_else(|| panic!("{name} is missing: apt-get install {package}"))
}

/// Copies a program to where others than root may run it.
///
/// Another process does it: what this one has open for writing is for a moment open in each process
/// that another test is just starting, and the system says "Text file busy" to whoever runs it then.
#[track_caller]
pub fn copy(program: &Path, to: &Path) {
    let _ = run(Command::new("cp").args([program, to])).success();
}

/// The folder of the running build's binaries: `target/debug` or `target/release`.
#[must_use]
pub fn target_dir() -> PathBuf {
    let mut dir = env::current_exe().expect("the test's own path");
    dir.pop();
    if dir.ends_with("deps") || dir.ends_with("examples") {
        dir.pop();
    }
    dir
}
