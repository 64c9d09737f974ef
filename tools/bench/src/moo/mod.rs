//! `uml_moo` against the 2007 tool, cp and qemu-img.

mod images;
mod loopfs;

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::Command,
};

use nix::unistd::syncfs;
use uml_core::error::IoError;

use crate::{
    cli::{self, Options},
    contest::{Contender, interleave, seconds},
    error::Error,
    programs::{self, Cost, command, within},
    report::{Figures, Metric, OURS, Plan, Report, Rule, Series, Target},
};
use images::{Changes, Disk, Images};
use loopfs::LoopFs;

const WALL: Metric = Metric::new("wall", "s", 3);
const USER: Metric = Metric::new("user", "s", 3);
const SYSTEM: Metric = Metric::new("system", "s", 3);
const NEW_SPACE: Metric = Metric::new("new space", "MiB", 0);

const OLD: &str = "2007";
const CP: &str = "cp";
const QEMU: &str = "qemu-img";

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
const REFLINK: Disk = Disk {
    windows: 1024,
    data_every: 1,
    changes: Changes::Blocks(2621),
};

/// Whether the image must have reached the disk when the clock stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Durability {
    /// Ours with `--no-sync`.
    Cached,
    /// Ours as it is, the others followed by `sync FILE`.
    Synced,
}

/// Runs the rows that were asked for.
///
/// # Errors
/// A program is missing, or the images can't be made.
pub fn run(options: &Options, moo: &cli::Moo, report: &mut Report) -> Result<(), Error> {
    for row in rows() {
        if !options.wants(&row.plan.name) {
            continue;
        }
        if options.list {
            Report::list(&row.plan)?;
            continue;
        }
        let bench = Bench {
            ours: within(&options.ours, "uml_moo"),
            old: within(&options.reference, "uml_moo"),
            runs: options.runs.unwrap_or(row.runs),
            work: moo.work.clone(),
        };
        let series = (row.measure)(&bench)?;
        report.add(row.plan, series)?;
    }
    Ok(())
}

struct Row {
    plan: Plan,
    runs: usize,
    measure: fn(&Bench) -> Result<Vec<Series>, Error>,
}

struct Bench {
    ours: Option<PathBuf>,
    old: Option<PathBuf>,
    runs: usize,
    work: PathBuf,
}

fn rows() -> Vec<Row> {
    let row = |name: &str, title: &str, runs, measure, targets: &[(Rule, &'static str)]| Row {
        plan: Plan {
            name: name.to_owned(),
            title: title.to_owned(),
            targets: targets
                .iter()
                .map(|(rule, against)| Target::new(WALL, *rule, against))
                .collect(),
        },
        runs,
        measure,
    };
    let (faster, at_most) = (Rule::Faster, Rule::AtMost);
    let mut rows = vec![
        row(
            "moo-random",
            "1 GiB dense, 10 % random sectors changed, new image, --no-sync",
            5,
            |bench| bench.new_image("random", DENSE_RANDOM, Durability::Cached),
            &[
                (faster(12.0), OLD),
                (at_most(0.85), CP),
                (at_most(0.7), QEMU),
            ],
        ),
        row(
            "moo-run",
            "1 GiB dense, 50 % changed in one run, new image, --no-sync",
            5,
            |bench| bench.new_image("run", DENSE_RUN, Durability::Cached),
            &[
                (faster(12.0), OLD),
                (at_most(0.7), CP),
                (at_most(0.6), QEMU),
            ],
        ),
        row(
            "moo-sparse",
            "16 GiB sparse, 64 MiB of data, 4 MiB changed, new image, --no-sync",
            3,
            |bench| bench.new_image("sparse", SPARSE, Durability::Cached),
            &[(faster(300.0), OLD), (at_most(2.0), CP)],
        ),
        row(
            "moo-synced-random",
            "as moo-random, with the sync (the others followed by `sync FILE`)",
            5,
            |bench| bench.new_image("random", DENSE_RANDOM, Durability::Synced),
            &[(faster(5.0), OLD), (at_most(0.95), CP)],
        ),
        row(
            "moo-synced-run",
            "as moo-run, with the sync (the others followed by `sync FILE`)",
            5,
            |bench| bench.new_image("run", DENSE_RUN, Durability::Synced),
            &[(faster(5.0), OLD), (at_most(0.95), CP)],
        ),
        row(
            "moo-in-place-random",
            "in place, 10 % random sectors, journal included, all synced",
            5,
            |bench| bench.in_place("random", DENSE_RANDOM),
            &[(faster(1.5), OLD), (at_most(1.1), QEMU)],
        ),
        row(
            "moo-in-place-run",
            "in place, 50 % in one run, journal included, all synced",
            5,
            |bench| bench.in_place("run", DENSE_RUN),
            &[(faster(5.0), OLD), (at_most(1.1), QEMU)],
        ),
    ];
    for (name, title, measure) in [
        (
            "moo-xfs",
            "xfs with reflinks, 1 GiB, 1 % changed in 4 KiB blocks, new image, --no-sync",
            (|bench: &Bench| bench.reflink("xfs", Durability::Cached))
                as fn(&Bench) -> Result<Vec<Series>, Error>,
        ),
        (
            "moo-btrfs",
            "btrfs, 1 GiB, 1 % changed in 4 KiB blocks, new image, --no-sync",
            |bench| bench.reflink("btrfs", Durability::Cached),
        ),
        ("moo-synced-xfs", "as moo-xfs, with the sync", |bench| {
            bench.reflink("xfs", Durability::Synced)
        }),
        ("moo-synced-btrfs", "as moo-btrfs, with the sync", |bench| {
            bench.reflink("btrfs", Durability::Synced)
        }),
    ] {
        let mut row = row(name, title, 5, measure, &[(at_most(0.1), CP)]);
        row.plan.targets.push(Target::within(NEW_SPACE, 20.0));
        rows.push(row);
    }
    rows
}

impl Bench {
    fn images(&self, name: &str, disk: Disk) -> Result<Images, Error> {
        Images::make(&self.work.join(name), disk)
    }

    /// A new image by ours, the 2007 tool, `cp` of the backing file, and qemu-img.
    fn new_image(
        &self,
        name: &str,
        disk: Disk,
        durability: Durability,
    ) -> Result<Vec<Series>, Error> {
        let images = self.images(name, disk)?;
        let overlay = images.qcow2(&images.backing)?;
        let target = images.dir.join("out");
        let cp = programs::find("cp", "coreutils")?;
        let qemu_img = programs::find("qemu-img", "qemu-utils")?;
        let inputs = [&images.backing, &images.cow, &overlay];

        let mut ways: Vec<(&'static str, Command, Option<&Path>)> = Vec::new();
        if let Some(ours) = &self.ours {
            let mut command = command(ours);
            if durability == Durability::Cached {
                command.arg("--no-sync");
            }
            command.args([&images.cow, &target]);
            ways.push((OURS, command, Some(&images.merged)));
        }
        if let Some(old) = &self.old {
            let mut command = command(old);
            command.args([&images.cow, &target]);
            ways.push((OLD, command, Some(&images.merged)));
        }
        let mut copy = command(cp);
        copy.arg("--sparse=always").args([&images.backing, &target]);
        ways.push((CP, copy, Some(&images.backing)));
        let mut convert = command(qemu_img);
        convert.args(["convert", "-f", "qcow2", "-O", "raw"]);
        convert.args([&overlay, &target]);
        ways.push((QEMU, convert, Some(&images.merged)));

        let contenders = ways.into_iter().map(|(who, mut command, good)| {
            let target = target.clone();
            Contender::new(who, move |checked| {
                images::remove(&target)?;
                inputs.iter().try_for_each(|path| images::warm(path))?;
                settle(&target)?;
                let mut cost = programs::time(&mut command)?;
                if durability == Durability::Synced && who != OURS {
                    cost = cost + sync(&target)?;
                }
                if let (true, Some(good)) = (checked, good) {
                    images::check(who, &target, good)?;
                }
                images::remove(&target)?;
                Ok(figures(cost))
            })
        });
        Ok(interleave(contenders.collect(), self.runs))
    }

    /// A merge into the backing file by ours, the 2007 tool, and qemu-img.
    fn in_place(&self, name: &str, disk: Disk) -> Result<Vec<Series>, Error> {
        let images = self.images(name, disk)?;
        let live = images.dir.join("live");
        images::restore(&images.backing, &live)?;
        let overlay = images.qcow2(&live)?;
        let qemu_img = programs::find("qemu-img", "qemu-utils")?;
        let inputs = [&live, &images.cow, &overlay];

        let mut ways: Vec<(&'static str, Command)> = Vec::new();
        for (who, program) in [(OURS, &self.ours), (OLD, &self.old)] {
            if let Some(program) = program {
                let mut command = command(program);
                // The 2007 tool knows no other order.
                command.arg("-d").arg("-b").arg(&live).arg(&images.cow);
                ways.push((who, command));
            }
        }
        let mut commit = command(qemu_img);
        // -d: the overlay isn't emptied, so that it is there for the next run.
        commit
            .args(["commit", "-q", "-f", "qcow2", "-d"])
            .arg(&overlay);
        ways.push((QEMU, commit));

        let contenders = ways.into_iter().map(|(who, mut command)| {
            let (live, images) = (&live, &images);
            Contender::new(who, move |checked| {
                images::restore(&images.backing, live)?;
                inputs.iter().try_for_each(|path| images::warm(path))?;
                settle(live)?;
                let mut cost = programs::time(&mut command)?;
                if who != OURS {
                    cost = cost + sync(live)?;
                }
                if checked {
                    images::check(who, live, &images.merged)?;
                }
                Ok(figures(cost))
            })
        });
        Ok(interleave(contenders.collect(), self.runs))
    }

    /// A new image on a file system that can share blocks, by ours, and `cp --reflink=never`.
    fn reflink(&self, kind: &str, durability: Durability) -> Result<Vec<Series>, Error> {
        std::fs::create_dir_all(&self.work).map_err(IoError::at("creating", &self.work))?;
        let fs = LoopFs::mount(&self.work, kind)?;
        let images = Images::make(&fs.dir.join("disk"), REFLINK)?;
        let target = images.dir.join("out");
        let mut ways: Vec<(&'static str, Command, &Path)> = Vec::new();
        if let Some(ours) = &self.ours {
            let mut command = command(ours);
            if durability == Durability::Cached {
                command.arg("--no-sync");
            }
            command.args([&images.cow, &target]);
            ways.push((OURS, command, &images.merged));
        }
        let mut copy = command(programs::find("cp", "coreutils")?);
        copy.arg("--reflink=never").args([&images.backing, &target]);
        ways.push((CP, copy, &images.backing));

        let (fs, target, images) = (&fs, &target, &images);
        let contenders = ways.into_iter().map(|(who, mut command, good)| {
            Contender::new(who, move |checked| {
                images::remove(target)?;
                images::warm(&images.backing)?;
                images::warm(&images.cow)?;
                let used = fs.used()?;
                let mut cost = programs::time(&mut command)?;
                if durability == Durability::Synced && who != OURS {
                    cost = cost + sync(target)?;
                }
                if checked {
                    images::check(who, target, good)?;
                }
                let new = fs.used()?.saturating_sub(used) >> 20;
                images::remove(target)?;
                let mut figures = figures(cost);
                figures.push((NEW_SPACE, f64::from(u32::try_from(new).unwrap_or(u32::MAX))));
                Ok(figures)
            })
        });
        Ok(interleave(contenders.collect(), self.runs))
    }
}

/// `sync FILE`, measured.
fn sync(path: &Path) -> Result<Cost, Error> {
    let sync = programs::find("sync", "coreutils")?;
    programs::time(command(sync).arg(path))
}

/// Waits until everything is written on the file system of `path`, or of its directory.
fn settle(path: &Path) -> Result<(), Error> {
    let existing = if path.exists() {
        path
    } else {
        path.parent().unwrap_or(path)
    };
    let file = File::open(existing).map_err(IoError::at("opening", existing))?;
    syncfs(&file).map_err(Error::system("writing the file system's caches"))
}

fn figures(cost: Cost) -> Figures {
    vec![
        (WALL, seconds(cost.wall)),
        (USER, seconds(cost.user)),
        (SYSTEM, seconds(cost.system)),
    ]
}
