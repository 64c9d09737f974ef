//! The rows of the table, and their targets.

use crate::{
    moo::images::{Changes, Disk},
    report::{Metric, Plan, Rule, Target},
};

pub(super) const WALL: Metric = Metric::new("wall", "s", 3);
pub(super) const USER: Metric = Metric::new("user", "s", 3);
pub(super) const SYSTEM: Metric = Metric::new("system", "s", 3);
pub(super) const NEW_SPACE: Metric = Metric::new("new space", "MiB", 0);

pub(super) const OLD: &str = "2007";
pub(super) const CP: &str = "cp";
pub(super) const QEMU: &str = "qemu-img";
/// Writing as many bytes, read from nowhere, to a new file: what the kernel lets one file take in.
pub(super) const WRITE: &str = "write alone";

/// The disks of the rows.
const DENSE_RANDOM: Disk = Disk {
    windows: 1024,
    data_every: 1,
    changes: Changes::Sectors(100),
};
const DENSE_RUN: Disk = Disk {
    windows: 1024,
    data_every: 1,
    changes: Changes::Run(512),
};
const SPARSE: Disk = Disk {
    windows: 16 << 10,
    data_every: 256,
    changes: Changes::Blocks(1024),
};
pub(super) const REFLINK: Disk = Disk {
    windows: 1024,
    data_every: 1,
    changes: Changes::Blocks(2621),
};

/// Whether the image must have reached the disk when the clock stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Durability {
    /// Ours with `--no-sync`.
    Cached,
    /// Ours as it is, the others followed by `sync FILE`.
    Synced,
}

pub(super) struct Row {
    pub(super) plan: Plan,
    pub(super) runs: usize,
    pub(super) measure: Measure,
}

/// What one row measures.
#[derive(Debug, Clone, Copy)]
pub(super) enum Measure {
    /// A new image. The disk's images are kept in a directory of that name.
    New(&'static str, Disk, Durability),
    /// A merge into the backing file.
    InPlace(&'static str, Disk),
    /// A new image on a file system of that kind.
    Reflink(&'static str, Durability),
    /// A new image of a disk that isn't kept.
    Share(Disk),
}

const fn faster(times: f64, whom: &'static str) -> Target {
    Target::new(WALL, Rule::Faster(times), whom)
}

const fn at_most(times: f64, whom: &'static str) -> Target {
    Target::new(WALL, Rule::AtMost(times), whom)
}

fn row(name: &str, title: &str, measure: Measure, targets: &[Target]) -> Row {
    Row {
        plan: Plan::new(name, title, targets),
        runs: 5,
        measure,
    }
}

/// All rows.
pub(super) fn all() -> Vec<Row> {
    let mut rows = dense();
    rows.extend(in_place());
    rows.extend(reflink());
    rows.extend(shares());
    rows
}

fn dense() -> Vec<Row> {
    use Durability::{Cached, Synced};
    let sparse = Row {
        runs: 3,
        ..row(
            "moo-sparse",
            "16 GiB sparse, 64 MiB of data, 4 MiB changed, new image, --no-sync",
            Measure::New("sparse", SPARSE, Cached),
            &[faster(300.0, OLD), at_most(2.0, CP)],
        )
    };
    vec![
        row(
            "moo-random",
            "1 GiB dense, 10 % random sectors changed, new image, --no-sync",
            Measure::New("random", DENSE_RANDOM, Cached),
            &[faster(12.0, OLD), at_most(0.85, CP), at_most(0.7, QEMU)],
        ),
        row(
            "moo-run",
            "1 GiB dense, 50 % changed in one run, new image, --no-sync",
            Measure::New("run", DENSE_RUN, Cached),
            &[faster(12.0, OLD), at_most(0.7, CP), at_most(0.6, QEMU)],
        ),
        sparse,
        row(
            "moo-synced-random",
            "as moo-random, with the sync (the others followed by `sync FILE`)",
            Measure::New("random", DENSE_RANDOM, Synced),
            &[faster(5.0, OLD), at_most(0.95, CP)],
        ),
        row(
            "moo-synced-run",
            "as moo-run, with the sync (the others followed by `sync FILE`)",
            Measure::New("run", DENSE_RUN, Synced),
            &[faster(5.0, OLD), at_most(0.95, CP)],
        ),
    ]
}

fn in_place() -> Vec<Row> {
    vec![
        row(
            "moo-in-place-random",
            "in place, 10 % random sectors, journal included, all synced",
            Measure::InPlace("random", DENSE_RANDOM),
            &[faster(1.5, OLD), at_most(1.1, QEMU)],
        ),
        row(
            "moo-in-place-run",
            "in place, 50 % in one run, journal included, all synced",
            Measure::InPlace("run", DENSE_RUN),
            &[faster(5.0, OLD), at_most(1.1, QEMU)],
        ),
    ]
}

fn reflink() -> Vec<Row> {
    let mut rows = Vec::new();
    for (durability, prefix, suffix) in [
        (Durability::Cached, "", ", --no-sync"),
        (Durability::Synced, "synced-", ", with the sync"),
    ] {
        for kind in ["xfs", "btrfs"] {
            rows.push(row(
                &format!("moo-{prefix}{kind}"),
                &format!(
                    "{kind} with reflinks, 1 GiB, 1 % changed in 4 KiB blocks, new image{suffix}"
                ),
                Measure::Reflink(kind, durability),
                &[at_most(0.1, CP), Target::within(NEW_SPACE, 20.0)],
            ));
        }
    }
    rows
}

fn shares() -> impl Iterator<Item = Row> {
    [10, 20, 50, 100, 250, 500, 1000]
        .into_iter()
        .map(|per_mille| {
            let disk = Disk {
                windows: 256,
                data_every: 1,
                changes: Changes::Sectors(per_mille),
            };
            let percent = per_mille / 10;
            Row {
                runs: 3,
                ..row(
                    &format!("plot-merge-{percent}"),
                    &format!(
                        "256 MiB dense, {percent} % random sectors changed, new image, --no-sync"
                    ),
                    Measure::Share(disk),
                    &[],
                )
            }
        })
}
