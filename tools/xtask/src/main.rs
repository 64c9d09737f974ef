//! What the project does with itself: the demo and the reports.
#![forbid(unsafe_code)]

mod bench;
mod command;
mod completions;
mod conformance_report;
mod demo;
mod man;
mod package;
mod tools;

use std::{
    error::Error,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Parser, Subcommand};
use uml_core::console;

/// The demo and the reports of the User-Mode Linux utilities.
#[derive(Debug, Parser)]
#[command(name = "xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Runs the main job with real guests, one line of plain words a step.
    Demo {
        /// The folder of the built tools.
        #[arg(long, value_name = "DIR", default_value = "target/release")]
        bin_dir: PathBuf,
        /// Keep the images and consoles in this folder instead of throwing them away.
        #[arg(long, value_name = "DIR")]
        keep: Option<PathBuf>,
    },
    /// Reports the conformance scenarios that the last test run ran on the reference and on ours.
    Conformance {
        /// Fail unless every known difference was asserted by a scenario, and every tool has some.
        #[arg(long)]
        require_all: bool,
        /// Instead, put the table of differences into the README.
        #[arg(long)]
        write_readme: bool,
    },
    /// Writes the man pages.
    Man {
        /// Where to.
        #[arg(long, value_name = "DIR", default_value = "target/man")]
        out: PathBuf,
    },
    /// Writes the completions for bash, zsh and fish.
    Completions {
        /// Where to.
        #[arg(long, value_name = "DIR", default_value = "target/completions")]
        out: PathBuf,
    },
    /// Measures everything against the reference and the peers, and writes the report.
    Bench {
        /// Write the report from the figures of the last measurement.
        #[arg(long)]
        no_measure: bool,
        /// Where to.
        #[arg(long, value_name = "DIR", default_value = "tools/docs")]
        out: PathBuf,
    },
    /// Makes the source tarball, and packages built from it, of what is committed.
    Package {
        /// What to make besides the tarball.
        #[arg(required = true, value_name = "KIND")]
        kinds: Vec<package::Kind>,
        /// Where to.
        #[arg(long, value_name = "DIR", default_value = "dist")]
        out: PathBuf,
    },
}

fn main() -> ExitCode {
    let outcome: Result<(), Box<dyn Error>> = match Cli::parse().task {
        Task::Demo { bin_dir, keep } => demo::run(&bin_dir, keep.as_deref()),
        Task::Conformance {
            write_readme: true, ..
        } => conformance_report::write_readme(Path::new("README.md")),
        Task::Bench { no_measure, out } => bench::run(!no_measure, &out),
        Task::Man { out } => man::run(&out),
        Task::Completions { out } => completions::run(&out),
        Task::Package { kinds, out } => package::run(&kinds, &out),
        Task::Conformance { require_all, .. } => conformance_report::run(require_all),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            console::report("xtask", &*error);
            ExitCode::FAILURE
        }
    }
}
