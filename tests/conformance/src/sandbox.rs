//! One run of a scenario: a fresh folder, commands in it, and what they left.

use std::{
    fmt,
    fs::{self, File},
    os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, UNIX_EPOCH},
};

use testkit::cmd::{self, Finished};

/// The modification time of every file that a scenario writes: 2020-09-13 12:26:40 UTC.
const MTIME: Duration = Duration::from_secs(1_600_000_000);

/// One observation: what was done or looked at, and what was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What was done: `$ uml_moo cow new`.
    pub label: String,
    /// What was seen on standard error. Empty for looks at files.
    pub words: String,
    /// Everything else: status and standard output, or the state of files.
    pub seen: String,
}

/// All observations of one run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Transcript(pub Vec<Entry>);

impl Transcript {
    /// The same with standard error reduced to whether there was any.
    #[must_use]
    pub fn without_words(&self) -> Self {
        let mut copy = self.clone();
        for entry in &mut copy.0 {
            if !entry.words.is_empty() {
                "(some)".clone_into(&mut entry.words);
            }
        }
        copy
    }

    /// Whether any observation holds this text.
    #[must_use]
    pub fn contains(&self, text: &str) -> bool {
        self.to_string().contains(text)
    }
}

impl fmt::Display for Transcript {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for entry in &self.0 {
            writeln!(f, "{}", entry.label)?;
            for line in entry.seen.lines() {
                writeln!(f, "  {line}")?;
            }
            for line in entry.words.lines() {
                writeln!(f, "  stderr: {line}")?;
            }
        }
        Ok(())
    }
}

/// A fresh folder, and the tool that the scenario is about.
#[derive(Debug)]
pub struct Sandbox {
    dir: PathBuf,
    name: String,
    binary: PathBuf,
    is_ours: bool,
    transcript: Transcript,
}

impl Sandbox {
    pub(crate) fn new(dir: &Path, name: &str, binary: &Path, is_ours: bool) -> Self {
        Self {
            dir: dir.to_path_buf(),
            name: name.to_owned(),
            binary: binary.to_path_buf(),
            is_ours,
            transcript: Transcript::default(),
        }
    }

    pub(crate) fn finish(self) -> Transcript {
        self.transcript
    }

    /// The folder, which is also the current one of the commands.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The tool's binary, for scenarios that start it by themselves.
    #[must_use]
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// Whether this run is ours. Only for the few scenarios that must prepare the two differently.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.is_ours
    }

    /// Writes a file, with the same modification time in every run.
    pub fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.dir.join(name);
        fs::write(&path, bytes).expect("a scenario's file");
        self.set_mtime(name, MTIME);
    }

    /// Makes a file with a hole of that length, with the same modification time in every run.
    pub fn write_hole(&self, name: &str, length_bytes: u64) {
        let file = File::create(self.dir.join(name)).expect("a scenario's file");
        file.set_len(length_bytes).expect("a scenario's file");
        self.set_mtime(name, MTIME);
    }

    /// Sets a file's modification time.
    pub fn set_mtime(&self, name: &str, since_epoch: Duration) {
        let file = File::options()
            .write(true)
            .open(self.dir.join(name))
            .expect("a file to date");
        file.set_modified(UNIX_EPOCH + since_epoch)
            .expect("a file's modification time");
    }

    /// Runs the tool in the folder and records status, standard output and standard error.
    pub fn run(&mut self, args: &[&str]) -> Finished {
        let mut command = Command::new(&self.binary);
        command.args(args);
        self.run_command(
            &format!("$ {} {}", self.name, args.join(" ")),
            &mut command,
            b"",
        )
    }

    /// As [`Sandbox::run`], with this standard input.
    pub fn run_with_input(&mut self, args: &[&str], input: &[u8]) -> Finished {
        let mut command = Command::new(&self.binary);
        command.args(args);
        self.run_command(
            &format!("$ {} {}", self.name, args.join(" ")),
            &mut command,
            input,
        )
    }

    /// Runs any command in the folder and records it under this label.
    pub fn run_command(&mut self, label: &str, command: &mut Command, input: &[u8]) -> Finished {
        let finished = cmd::run_for(command.current_dir(&self.dir), input, testkit::PATIENCE);
        let entry = Entry {
            label: label.to_owned(),
            words: self.plain(&finished.err()),
            seen: format!(
                "status {}\n{}",
                finished.code(),
                self.plain(&finished.out())
            ),
        };
        self.transcript.0.push(entry);
        finished
    }

    /// Records an observation of the scenario's own.
    pub fn saw(&mut self, what: &str, seen: impl fmt::Display) {
        let seen = self.plain(&seen.to_string());
        self.transcript.0.push(Entry {
            label: what.to_owned(),
            words: String::new(),
            seen,
        });
    }

    /// Records every file: kind, permission bits, length, crc32.
    pub fn saw_files(&mut self) {
        self.list_files(false);
    }

    /// As [`Sandbox::saw_files`], with the bytes that each file occupies on disk.
    pub fn saw_files_and_blocks(&mut self) {
        self.list_files(true);
    }

    fn list_files(&mut self, with_blocks: bool) {
        let mut lines: Vec<String> = fs::read_dir(&self.dir)
            .expect("the sandbox")
            .map(|entry| {
                let path = entry.expect("the sandbox").path();
                describe(&path, with_blocks)
            })
            .collect();
        lines.sort();
        self.saw("files", lines.join("\n"));
    }

    /// Text without what differs between two runs by nature: the binary's path.
    fn plain(&self, text: &str) -> String {
        text.replace(&*self.binary.to_string_lossy(), &self.name)
    }
}

fn describe(path: &Path, with_blocks: bool) -> String {
    let meta = fs::symlink_metadata(path).expect("a file of the sandbox");
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let mode = meta.permissions().mode() & 0o7777;
    let kind = meta.file_type();
    if kind.is_file() {
        let bytes = fs::read(path).expect("a file of the sandbox");
        let crc = crc32fast::hash(&bytes);
        let blocks = if with_blocks {
            format!(" on disk {}", meta.blocks() * 512)
        } else {
            String::new()
        };
        format!(
            "{name} file {mode:04o} length {} crc32 {crc:08x}{blocks}",
            meta.len()
        )
    } else if kind.is_symlink() {
        let target = fs::read_link(path).expect("a link of the sandbox");
        format!("{name} link to {}", target.display())
    } else if kind.is_socket() {
        format!("{name} socket {mode:04o}")
    } else {
        format!("{name} other {mode:04o}")
    }
}
