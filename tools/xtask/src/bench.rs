//! The benchmark report. The measuring itself is `tools/bench`, built with all optimisations.

use std::{
    error::Error,
    path::{Path, PathBuf},
    process::Command,
};

use crate::command::call;

/// The file that the figures of all runs are kept in.
const FIGURES: &str = "target/bench/figures.json";

/// Builds, measures every row (about half an hour) unless `measure` is false, and writes
/// `performance.md` and its plots to `out`.
///
/// # Errors
/// A build, a measurement or the writing failed.
pub(crate) fn run(measure: bool, out: &Path) -> Result<(), Box<dyn Error>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args(["build", "--release", "-p", "bench"]);
    build.args(["-p", "uml_moo", "-p", "uml_switch"]);
    call(&mut build)?;
    let bench = || {
        let mut command = Command::new(PathBuf::from("target/release/bench"));
        command.args(["--json", FIGURES]);
        command
    };
    if measure {
        call(bench().arg("all"))?;
        call(bench().args(["all", "--only", "plot-", "--time", "500"]))?;
    }
    call(
        bench()
            .args(["document", "--figures", FIGURES, "--out"])
            .arg(out),
    )
}
