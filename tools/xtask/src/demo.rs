//! The main job, for real, one line of plain words a step.

use std::{
    error::Error,
    fmt::Display,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use testkit::{cmd, guest::Guest, image};
use uml_core::console;

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// What the steps share: where the tools are, where the files lie, how many steps were told.
struct Story {
    bin_dir: PathBuf,
    dir: PathBuf,
    steps: usize,
}

impl Story {
    fn tell(&mut self, what: impl Display) -> Outcome {
        self.steps += 1;
        Ok(console::line(format_args!("{:2}. {what}", self.steps))?)
    }

    /// Runs one of the tools in the story's folder.
    ///
    /// An error holds all that it said.
    fn tool(&self, name: &str, args: &[&str]) -> Outcome<String> {
        let mut command = Command::new(self.bin_dir.join(name));
        let finished = cmd::run(command.args(args).current_dir(&self.dir));
        if !finished.status.success() {
            return Err(format!("{name} {}: {}", args.join(" "), finished.err().trim()).into());
        }
        Ok(finished.out())
    }

    fn path(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }
}

/// Runs the whole story.
///
/// # Errors
/// The first step that failed. A guest that fails panics with its console.
pub(crate) fn run(bin_dir: &Path, keep: Option<&Path>) -> Outcome {
    let start = Instant::now();
    let temporary = tempfile::tempdir()?;
    if let Some(dir) = keep {
        fs::create_dir_all(dir)?;
    }
    let dir = fs::canonicalize(keep.unwrap_or(temporary.path()))?;
    let mut story = Story {
        bin_dir: fs::canonicalize(bin_dir)?,
        dir,
        steps: 0,
    };
    disks(&mut story)?;
    console::line(format_args!(
        "All of it took {:.1} s.",
        start.elapsed().as_secs_f64()
    ))?;
    Ok(())
}

/// A COW disk is made, booted from, written to, merged; a guest boots from the merged image.
fn disks(story: &mut Story) -> Outcome {
    image::build(&story.dir.join("root.img"));
    story.tell("root.img: a root file system of 24 MiB, made from busybox.")?;

    story.tool("uml_mkcow", &["disk.cow", "root.img"])?;
    let on_disk = fs::metadata(story.dir.join("disk.cow"))?.blocks() * 512;
    story.tell(format_args!(
        "uml_mkcow disk.cow root.img: a copy-on-write disk over it, {} KiB on disk.",
        on_disk / 1024
    ))?;

    let script = "echo 'written by a guest' >/letter; md5sum /letter";
    let disk = format!("{},{}", story.path("disk.cow"), story.path("root.img"));
    let before = fs::read(story.dir.join("root.img"))?;
    Guest::new("first", &story.dir, script)
        .root_disk(&disk)
        .start()
        .halted();
    if fs::read(story.dir.join("root.img"))? != before {
        return Err("the guest changed root.img, which its COW disk should have spared".into());
    }
    story
        .tell("A real guest boots on disk.cow, writes /letter and halts; root.img is untouched.")?;

    story.tool("uml_moo", &["disk.cow", "merged.img"])?;
    story.tell("uml_moo disk.cow merged.img: both merged into a new image.")?;

    let script = "cat /letter >/mnt/letter-read";
    Guest::new("second", &story.dir, script)
        .root_disk(&story.path("merged.img"))
        .start()
        .halted();
    let letter = fs::read_to_string(story.dir.join("letter-read"))?;
    if letter.trim() != "written by a guest" {
        return Err(format!("the second guest read '{}' from /letter", letter.trim()).into());
    }
    story.tell(format_args!(
        "A guest boots from merged.img and reads /letter: '{}'.",
        letter.trim()
    ))
}
