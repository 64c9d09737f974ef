//! The main job, for real, one line of plain words a step.

mod disks;
mod networks;
mod plugging;

use std::{
    error::Error,
    fmt::Display,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use nix::unistd::geteuid;
use testkit::{cmd, netns};
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

    /// `ubd0=` of a guest with a COW disk of its own over the story's root image.
    fn root_disk(&self, umid: &str) -> String {
        format!(
            "{},{}",
            self.path(&format!("{umid}.cow")),
            self.path("root.img")
        )
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
    disks::tell(&mut story)?;
    plugging::tell(&mut story)?;
    networks::through_the_switch(&mut story)?;
    if geteuid().is_root() {
        // In a network namespace of its own: the host's network stays as it is.
        netns::isolated(|| networks::through_a_tap(&mut story).map_err(|error| error.to_string()))?;
    } else {
        console::line("    The steps with tap devices need root: sudo tools/demo shows them too.")?;
    }
    console::line(format_args!(
        "All of it took {:.1} s.",
        start.elapsed().as_secs_f64()
    ))?;
    Ok(())
}
