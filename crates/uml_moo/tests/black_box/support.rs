//! Disks made by hand, byte by byte, without the code under test; and the merge in a few lines.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime},
};

use tempfile::TempDir;
use testkit::{
    cmd::{Finished, run},
    names, until,
};
use uml_core::cow::Layout;

/// When every backing file here last changed.
pub(crate) const MTIME: u32 = 1_700_000_000;

/// What lies beside `cow` while it is merged in place.
pub(crate) const JOURNAL: &str = ".cow.merge-journal";

/// A disk: a backing file's bytes and the sectors that changed.
#[derive(Debug, Clone)]
pub(crate) struct Disk {
    pub(crate) layout: Layout,
    pub(crate) sector: usize,
    pub(crate) alignment: usize,
    pub(crate) backing: Vec<u8>,
    pub(crate) changed: BTreeMap<usize, u8>,
}

impl Disk {
    /// A version-3 disk as `uml_mkcow` lays it out.
    pub(crate) fn v3(backing: Vec<u8>, changed: impl IntoIterator<Item = (usize, u8)>) -> Self {
        let changed = changed.into_iter().collect();
        Self {
            layout: Layout::V3,
            sector: 512,
            alignment: 4096,
            backing,
            changed,
        }
    }

    /// `megabytes` of noise with a hole in them; every third sector changed, every fifteenth of
    /// them to zeros.
    pub(crate) fn busy(megabytes: usize) -> Self {
        let mut backing = noise(megabytes << 20);
        backing[300_000..900_000].fill(0);
        let sectors = backing.len() / 512;
        let changed = (0..sectors).step_by(3).map(|sector| {
            let fill = if sector % 15 == 0 {
                0
            } else {
                u8::try_from(sector % 251 + 1).unwrap()
            };
            (sector, fill)
        });
        Self::v3(backing, changed)
    }

    /// What a merge must make of it.
    pub(crate) fn merged(&self) -> Vec<u8> {
        let mut image = self.backing.clone();
        for (&sector, &fill) in &self.changed {
            for index in sector * self.sector..image.len().min((sector + 1) * self.sector) {
                image[index] = pattern(fill, index);
            }
        }
        image
    }

    /// Where bitmap and data begin.
    pub(crate) fn offsets(&self) -> (usize, usize) {
        let (size, sector) = (self.backing.len(), self.sector);
        match self.layout {
            Layout::V1 | Layout::V2 => {
                let bitmap = if self.layout == Layout::V1 { 280 } else { 4120 };
                let end = bitmap + (size + sector - 1) / (8 * sector);
                (bitmap, end.div_ceil(sector) * sector)
            }
            Layout::V3 | Layout::V3Wide => {
                let header: usize = if self.layout == Layout::V3 {
                    4128
                } else {
                    4136
                };
                let bitmap = header.div_ceil(self.alignment) * self.alignment;
                let end = bitmap + size.div_ceil(sector).div_ceil(8);
                (bitmap, end.div_ceil(self.alignment) * self.alignment)
            }
        }
    }

    /// Whether the last bits of an old version would lie in the data area.
    pub(crate) fn bits_in_data(&self) -> bool {
        let (bitmap, data) = self.offsets();
        bitmap + self.backing.len().div_ceil(self.sector).div_ceil(8) > data
    }

    pub(crate) fn header(&self, name: &Path) -> Vec<u8> {
        let (size, sector) = (
            self.backing.len() as u64,
            u32::try_from(self.sector).unwrap(),
        );
        let alignment = u32::try_from(self.alignment).unwrap();
        let name = name.as_os_str().as_encoded_bytes();
        let mut padded = name.to_vec();
        padded.resize(if self.layout == Layout::V1 { 256 } else { 4096 }, 0);
        match self.layout {
            Layout::V1 => [
                &b"MOOO\x01\0\0\0"[..],
                &padded,
                &MTIME.to_le_bytes(),
                &size.to_le_bytes(),
                &sector.to_le_bytes(),
            ]
            .concat(),
            Layout::V2 => [
                &b"OOOM\0\0\0\x02"[..],
                &padded,
                &MTIME.to_be_bytes(),
                &size.to_be_bytes(),
                &sector.to_be_bytes(),
            ]
            .concat(),
            Layout::V3 => [
                &b"OOOM\0\0\0\x03"[..],
                &MTIME.to_be_bytes(),
                &size.to_be_bytes(),
                &sector.to_be_bytes(),
                &alignment.to_be_bytes(),
                &[0; 4],
                &padded,
            ]
            .concat(),
            Layout::V3Wide => [
                &b"OOOM\0\0\0\x03"[..],
                &MTIME.to_be_bytes(),
                &[0; 4],
                &size.to_be_bytes(),
                &sector.to_be_bytes(),
                &alignment.to_be_bytes(),
                &[0; 4],
                &padded,
                &[0; 4],
            ]
            .concat(),
        }
    }

    /// Writes the COW file, as short as its changed sectors allow.
    pub(crate) fn write_cow(&self, path: &Path, name: &Path) {
        let (bitmap, data) = self.offsets();
        let size = self.backing.len();
        let mut bits = vec![0; size.div_ceil(self.sector).div_ceil(8)];
        for sector in self.changed.keys() {
            bits[sector / 8] |= 1 << (sector % 8);
        }
        let file = File::create(path).unwrap();
        file.write_all_at(&self.header(name), 0).unwrap();
        file.write_all_at(&bits, bitmap as u64).unwrap();
        for (&sector, &fill) in &self.changed {
            let range = sector * self.sector..size.min((sector + 1) * self.sector);
            let bytes: Vec<u8> = range.clone().map(|index| pattern(fill, index)).collect();
            file.write_all_at(&bytes, (data + range.start) as u64)
                .unwrap();
        }
    }
}

/// The byte at `index` of a sector that was filled with `fill`; 0 fills with zeros.
fn pattern(fill: u8, index: usize) -> u8 {
    if fill == 0 {
        0
    } else {
        fill ^ u8::try_from(index % 256).unwrap()
    }
}

/// Bytes without any order, always the same ones.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Writes a backing file with holes where it is zero, and with the usual time of last change.
pub(crate) fn write_backing(path: &Path, bytes: &[u8]) {
    let file = File::create(path).unwrap();
    file.set_len(bytes.len() as u64).unwrap();
    for (index, block) in bytes.chunks(4096).enumerate() {
        if *block != [0; 4096][..block.len()] {
            file.write_all_at(block, index as u64 * 4096).unwrap();
        }
    }
    set_mtime(path);
}

pub(crate) fn set_mtime(path: &Path) {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(MTIME.into());
    File::options()
        .write(true)
        .open(path)
        .unwrap()
        .set_modified(time)
        .unwrap();
}

/// A folder with a disk in it: `cow` and `back`.
pub(crate) struct Place {
    _folder: Option<TempDir>,
    root: PathBuf,
}

impl Place {
    pub(crate) fn new(disk: &Disk) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let place = Self {
            _folder: Some(folder),
            root,
        };
        place.write(disk);
        place
    }

    /// In memory, where syncing costs nothing: for tests that run the tool very often.
    pub(crate) fn in_memory(disk: &Disk) -> Self {
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        let root = folder.path().canonicalize().unwrap();
        let place = Self {
            _folder: Some(folder),
            root,
        };
        place.write(disk);
        place
    }

    /// In a folder that somebody else clears.
    pub(crate) fn within(root: &Path, disk: &Disk) -> Self {
        let place = Self {
            _folder: None,
            root: root.to_path_buf(),
        };
        place.write(disk);
        place
    }

    /// Writes the disk again.
    pub(crate) fn write(&self, disk: &Disk) {
        write_backing(&self.at("back"), &disk.backing);
        disk.write_cow(&self.at("cow"), &self.at("back"));
    }

    /// What [`restore`](Self::restore) writes.
    pub(crate) fn snapshot(&self) -> [Vec<u8>; 2] {
        [self.read("back"), self.read("cow")]
    }

    /// Puts both files back as they were, quicker than [`write`](Self::write).
    pub(crate) fn restore(&self, snapshot: &[Vec<u8>; 2]) {
        fs::write(self.at("back"), &snapshot[0]).unwrap();
        set_mtime(&self.at("back"));
        fs::write(self.at("cow"), &snapshot[1]).unwrap();
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.at(name)).unwrap()
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        self.within_command(env!("CARGO_BIN_EXE_uml_moo"), args)
    }

    pub(crate) fn moo(&self, args: &[&str]) -> Finished {
        run(&mut self.command(args))
    }

    /// Runs the tool, which must succeed.
    #[track_caller]
    pub(crate) fn ok(&self, args: &[&str]) -> Finished {
        self.moo(args).success()
    }

    /// Runs the tool under strace, which does something to it at some system call. strace counts
    /// the calls of each thread by themselves, those of the loader too.
    ///
    /// No signal is ignored, as SIGINT is where the tests run in the background of a shell.
    pub(crate) fn injected(&self, injection: &str, args: &[&str]) -> Finished {
        self.injected_with(
            "--default-signal",
            &["-e", &format!("inject={injection}")],
            args,
        )
    }

    /// As [`injected`](Self::injected), with this option of `env` for the signals, and these of
    /// strace.
    pub(crate) fn injected_with(&self, signals: &str, options: &[&str], args: &[&str]) -> Finished {
        let strace = testkit::bins::installed("strace", "strace");
        let mut all = vec![signals, strace.to_str().unwrap()];
        all.extend(["-f", "-qqq", "-o", "/dev/null"]);
        all.extend(options);
        all.push(env!("CARGO_BIN_EXE_uml_moo"));
        all.extend(args);
        run(&mut self.within_command("env", &all))
    }

    /// Waits until a file that changes now gets a later time of last change than `name` has: file
    /// systems take it from a clock that ticks every few milliseconds.
    pub(crate) fn let_the_clock_tick(&self, name: &str) {
        let time = |name: &str| self.at(name).metadata().unwrap().modified().unwrap();
        until("the clock's next tick", || {
            fs::write(self.at("clock"), "").unwrap();
            (time("clock") > time(name)).then_some(())
        });
        fs::remove_file(self.at("clock")).unwrap();
    }

    fn within_command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(args).current_dir(&self.root);
        command
    }

    /// All names in the folder, in order.
    pub(crate) fn names(&self) -> Vec<String> {
        names(&self.root)
    }
}
