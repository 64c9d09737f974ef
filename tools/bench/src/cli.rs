//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Measures the tools against the 2007 ones and the peers, in turn, in one run.
#[derive(Debug, Parser)]
#[command(name = "bench", version)]
pub struct Cli {
    /// What every benchmark takes.
    #[command(flatten)]
    pub options: Options,
    /// What is measured.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What every benchmark takes.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// How often each contender runs, after one round that isn't counted
    #[arg(long, global = true, value_name = "N")]
    pub runs: Option<usize>,
    /// Only the rows whose name contains this (may be repeated)
    #[arg(long, global = true, value_name = "ROW")]
    pub only: Vec<String>,
    /// List the rows and their targets, and measure nothing
    #[arg(long, global = true)]
    pub list: bool,
    /// Add the figures of every run to this file; rows that it holds already are replaced
    #[arg(long, global = true, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Where our tools are
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        default_value = "target/release"
    )]
    pub ours: PathBuf,
    /// Where the 2007 tools are
    #[arg(long, global = true, value_name = "DIR", default_value = "/usr/bin")]
    pub reference: PathBuf,
}

impl Options {
    /// Whether a row was asked for. Those of the plots (`plot-…`) have to be named.
    #[must_use]
    pub fn wants(&self, row: &str) -> bool {
        if self.only.is_empty() {
            return self.list || !row.starts_with("plot-");
        }
        self.only.iter().any(|part| row.contains(part))
    }
}

/// What is measured.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// `uml_moo` against the 2007 tool, cp and qemu-img
    Moo(Moo),
    /// `uml_switch` against the 2007 switch and `vde_switch`
    Switch(Switch),
    /// Everything
    All(All),
    /// Write the report and its plots from a file of figures
    Document(Document),
}

/// Where the report comes from and goes to.
#[derive(Debug, Clone, Args)]
pub struct Document {
    /// The file that `--json` wrote
    #[arg(long, value_name = "FILE", default_value = "target/bench/figures.json")]
    pub figures: PathBuf,
    /// The directory of `performance.md` and its plots
    #[arg(long, value_name = "DIR", default_value = "tools/docs")]
    pub out: PathBuf,
}

/// Options of the merge benchmark.
#[derive(Debug, Clone, Args)]
pub struct Moo {
    /// Where the disk images are made, and found again by the next run (12 GiB)
    #[arg(long, value_name = "DIR", default_value = "target/bench/moo")]
    pub work: PathBuf,
}

/// Options of the switch benchmark.
#[derive(Debug, Clone, Args)]
pub struct Switch {
    /// How long each load lasts, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 1000)]
    pub time: u64,
}

/// Options of all benchmarks.
#[derive(Debug, Clone, Args)]
pub struct All {
    /// The merge benchmark's.
    #[command(flatten)]
    pub moo: Moo,
    /// The switch benchmark's.
    #[command(flatten)]
    pub switch: Switch,
}
