//! `uml_moo` against the 2007 tool, cp and qemu-img.

mod files;
mod images;
mod loopfs;
mod rows;

use std::{
    fs::{self, File},
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
    report::{Figures, OURS, Report, Series},
};
use images::{Disk, Images};
use loopfs::LoopFs;
use rows::{CP, Durability, Measure, NEW_SPACE, OLD, QEMU, REFLINK, SYSTEM, USER, WALL, WRITE};

/// Runs the rows that were asked for.
///
/// # Errors
/// A program is missing, or the images can't be made.
pub fn run(options: &Options, moo: &cli::Moo, report: &mut Report) -> Result<(), Error> {
    for row in rows::all() {
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
        let series = bench.measure(row.measure)?;
        report.add(row.plan, series)?;
    }
    Ok(())
}

struct Bench {
    ours: Option<PathBuf>,
    old: Option<PathBuf>,
    runs: usize,
    work: PathBuf,
}

impl Bench {
    fn measure(&self, measure: Measure) -> Result<Vec<Series>, Error> {
        match measure {
            Measure::New(name, disk, durability) => self.new_image(name, disk, durability),
            Measure::InPlace(name, disk) => self.in_place(name, disk),
            Measure::Reflink(kind, durability) => self.reflink(kind, durability),
            Measure::Share(disk) => {
                let series = self.new_image("share", disk, Durability::Cached);
                let dir = self.work.join("share");
                fs::remove_dir_all(&dir).map_err(IoError::at("removing", &dir))?;
                series
            }
        }
    }

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
                files::remove(&target)?;
                inputs.iter().try_for_each(|path| files::warm(path))?;
                settle(&target)?;
                let mut cost = programs::time(&mut command)?;
                if durability == Durability::Synced && who != OURS {
                    cost = cost + sync(&target)?;
                }
                if let (true, Some(good)) = (checked, good) {
                    files::check(who, &target, good)?;
                }
                files::remove(&target)?;
                Ok(figures(cost))
            })
        });
        let mut contenders: Vec<_> = contenders.collect();
        if disk.is_dense() && durability == Durability::Cached {
            contenders.push(Contender::new(WRITE, |_| {
                files::remove(&target)?;
                settle(&target)?;
                let cost = images::write_alone(&target, disk)?;
                files::remove(&target)?;
                Ok(figures(cost))
            }));
        }
        Ok(interleave(contenders, self.runs))
    }

    /// A merge into the backing file by ours, the 2007 tool, and qemu-img.
    fn in_place(&self, name: &str, disk: Disk) -> Result<Vec<Series>, Error> {
        let images = self.images(name, disk)?;
        let live = images.dir.join("live");
        files::restore(&images.backing, &live)?;
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
                files::restore(&images.backing, live)?;
                inputs.iter().try_for_each(|path| files::warm(path))?;
                settle(live)?;
                let mut cost = programs::time(&mut command)?;
                if who != OURS {
                    cost = cost + sync(live)?;
                }
                if checked {
                    files::check(who, live, &images.merged)?;
                }
                Ok(figures(cost))
            })
        });
        Ok(interleave(contenders.collect(), self.runs))
    }

    /// A new image on a file system that can share blocks, by ours, and `cp --reflink=never`.
    fn reflink(&self, kind: &str, durability: Durability) -> Result<Vec<Series>, Error> {
        fs::create_dir_all(&self.work).map_err(IoError::at("creating", &self.work))?;
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
                files::remove(target)?;
                files::warm(&images.backing)?;
                files::warm(&images.cow)?;
                let used = fs.used()?;
                let mut cost = programs::time(&mut command)?;
                if durability == Durability::Synced && who != OURS {
                    cost = cost + sync(target)?;
                }
                if checked {
                    files::check(who, target, good)?;
                }
                let new = fs.used()?.saturating_sub(used) >> 20;
                files::remove(target)?;
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
