//! Makes the disk images that are merged: backing file, COW file, the result, and the same overlay
//! as qcow2.

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    path::{Path, PathBuf},
};

use rand::{Rng as _, RngCore as _, SeedableRng as _, rngs::SmallRng};
use uml_core::error::IoError;

use super::files::{WINDOW, create, put, remove};
use crate::{
    error::Error,
    programs::{self, Cost, command},
};

const SECTOR: usize = 512;
/// Bytes of the bitmap that belong to one window.
const WINDOW_BITS: usize = WINDOW / SECTOR / 8;
/// Where the bitmap of a version 3 COW file starts, in bytes.
const BITMAP_AT: u64 = 8192;
/// The alignment that its data area has, in bytes.
const ALIGNMENT: u64 = 4096;

/// A disk to be made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Disk {
    /// Windows of 1 MiB.
    pub(super) windows: usize,
    /// One window in so many holds data, the others are holes.
    pub(super) data_every: usize,
    /// What the COW file changes.
    pub(super) changes: Changes,
}

impl Disk {
    /// Whether it has no holes.
    pub(super) const fn is_dense(self) -> bool {
        self.data_every == 1
    }
}

/// Writes a file of the disk's length, the same bytes over and over, and measures that.
///
/// # Errors
/// It can't be written.
pub(super) fn write_alone(path: &Path, disk: Disk) -> Result<Cost, Error> {
    // The length of a write that was found to be the fastest.
    let window = vec![0x5a; WINDOW / 4];
    programs::time_here(|| {
        let mut file = File::create(path).map_err(IoError::at("creating", path))?;
        for _ in 0..disk.windows * 4 {
            file.write_all(&window)
                .map_err(IoError::at("writing", path))?;
        }
        Ok(())
    })
}

/// What a COW file changes. Changed sectors hold random data.
#[derive(Debug, Clone, Copy)]
pub(super) enum Changes {
    /// Each sector with this probability, out of 1000.
    Sectors(u32),
    /// One run from the middle of the first half on: so many windows.
    Run(usize),
    /// So many aligned 4 KiB blocks anywhere, as a guest's file system writes them.
    Blocks(usize),
}

/// The images of one disk, all in one directory.
#[derive(Debug, Clone)]
pub(super) struct Images {
    /// The directory.
    pub(super) dir: PathBuf,
    /// The raw backing file.
    pub(super) backing: PathBuf,
    /// The COW file over it.
    pub(super) cow: PathBuf,
    /// What a merge must give.
    pub(super) merged: PathBuf,
}

impl Images {
    /// Makes the images in `dir`, or finds those of an earlier run.
    ///
    /// # Errors
    /// A file can't be written.
    pub(super) fn make(dir: &Path, disk: Disk) -> Result<Self, Error> {
        fs::create_dir_all(dir).map_err(IoError::at("creating", dir))?;
        let dir = fs::canonicalize(dir).map_err(IoError::at("resolving", dir))?;
        let images = Self {
            backing: dir.join("backing"),
            cow: dir.join("cow"),
            merged: dir.join("merged"),
            dir,
        };
        let ready = images.dir.join("ready");
        if let Ok(made) = fs::read_to_string(&ready) {
            if made == images.stamp(disk)? {
                return Ok(images);
            }
        }
        remove(&ready)?;
        images.write(disk)?;
        let stamp = images.stamp(disk)?;
        fs::write(&ready, stamp).map_err(IoError::at("writing", &ready))?;
        Ok(images)
    }

    /// The same overlay as a qcow2 file, with `backing` (a file of the backing file's contents).
    ///
    /// # Errors
    /// qemu-img is missing, or fails.
    pub(super) fn qcow2(&self, backing: &Path) -> Result<PathBuf, Error> {
        let name = backing.file_name().unwrap_or_default().to_string_lossy();
        let overlay = self.dir.join(format!("{name}.qcow2"));
        if overlay.exists() {
            return Ok(overlay);
        }
        let qemu_img = programs::find("qemu-img", "qemu-utils")?;
        let unfinished = self.dir.join("unfinished.qcow2");
        // An empty overlay over the merged image, moved to the backing file: what differs is kept.
        programs::run(
            command(&qemu_img)
                .args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"])
                .args([&self.merged, &unfinished]),
        )?;
        programs::run(
            command(&qemu_img)
                .args(["rebase", "-q", "-f", "qcow2", "-F", "raw", "-b"])
                .args([backing, &unfinished]),
        )?;
        fs::rename(&unfinished, &overlay).map_err(IoError::at("renaming", &unfinished))?;
        Ok(overlay)
    }

    fn stamp(&self, disk: Disk) -> Result<String, Error> {
        Ok(format!("{disk:?} {}\n", mtime(&self.backing)?))
    }

    fn write(&self, disk: Disk) -> Result<(), Error> {
        for entry in fs::read_dir(&self.dir).map_err(IoError::at("reading", &self.dir))? {
            let entry = entry.map_err(IoError::at("reading", &self.dir))?;
            remove(&entry.path())?;
        }
        let size = u64::try_from(disk.windows * WINDOW).unwrap_or(u64::MAX);
        let bitmap = bitmap(disk);
        let data_at = (BITMAP_AT + u64::try_from(bitmap.len()).unwrap_or(u64::MAX))
            .next_multiple_of(ALIGNMENT);
        let backing = create(&self.backing, size)?;
        let cow = create(&self.cow, data_at + size)?;
        let merged = create(&self.merged, size)?;

        let mut noise = SmallRng::seed_from_u64(1);
        let mut window = vec![0; WINDOW];
        for index in 0..disk.windows {
            let at = u64::try_from(index * WINDOW).unwrap_or(u64::MAX);
            let bits = bitmap
                .get(index * WINDOW_BITS..(index + 1) * WINDOW_BITS)
                .unwrap_or_default();
            let is_data = index % disk.data_every == 0;
            if is_data {
                noise.fill_bytes(&mut window);
                put(&backing, &self.backing, &window, at)?;
            } else {
                window.fill(0);
            }
            let runs = runs(bits);
            for (from, to) in &runs {
                let Some(changed) = window.get_mut(from * SECTOR..to * SECTOR) else {
                    continue;
                };
                noise.fill_bytes(changed);
                let at = at + u64::try_from(from * SECTOR).unwrap_or(u64::MAX);
                put(&cow, &self.cow, changed, data_at + at)?;
                if !is_data {
                    put(&merged, &self.merged, changed, at)?;
                }
            }
            if is_data {
                put(&merged, &self.merged, &window, at)?;
            }
        }
        for file in [&backing, &cow, &merged] {
            file.sync_all()
                .map_err(IoError::at("syncing the images in", &self.dir))?;
        }
        put(&cow, &self.cow, &header(&self.backing, size)?, 0)?;
        for (at, block) in (BITMAP_AT..).step_by(4096).zip(bitmap.chunks(4096)) {
            if block.iter().any(|byte| *byte != 0) {
                put(&cow, &self.cow, block, at)?;
            }
        }
        cow.sync_all().map_err(IoError::at("syncing", &self.cow))?;
        Ok(())
    }
}

/// The bitmap of a disk's changes: one bit a sector, least significant first.
fn bitmap(disk: Disk) -> Vec<u8> {
    let mut bits = vec![0_u8; disk.windows * WINDOW_BITS];
    let mut rng = SmallRng::seed_from_u64(2);
    match disk.changes {
        Changes::Sectors(per_mille) => {
            for byte in &mut bits {
                for bit in 0..8 {
                    *byte |= u8::from(rng.random_ratio(per_mille, 1000)) << bit;
                }
            }
        }
        Changes::Run(windows) => {
            let start = disk.windows / 4 * WINDOW_BITS;
            let run = bits.iter_mut().skip(start).take(windows * WINDOW_BITS);
            run.for_each(|byte| *byte = 0xff);
        }
        Changes::Blocks(count) => {
            for _ in 0..count {
                let block = rng.random_range(0..bits.len());
                if let Some(byte) = bits.get_mut(block) {
                    *byte = 0xff;
                }
            }
        }
    }
    bits
}

/// The runs of set bits of one window: first sector, and the one after the last.
fn runs(bits: &[u8]) -> Vec<(usize, usize)> {
    let mut runs = Vec::new();
    let mut start = None;
    let sectors = bits.len() * 8;
    for sector in 0..=sectors {
        let set = bits
            .get(sector / 8)
            .is_some_and(|byte| byte >> (sector % 8) & 1 == 1);
        match (set, start) {
            (true, None) => start = Some(sector),
            (false, Some(from)) => {
                runs.push((from, sector));
                start = None;
            }
            _ => {}
        }
    }
    runs
}

/// The header of a version 3 COW file.
fn header(backing: &Path, size: u64) -> Result<Vec<u8>, Error> {
    let mtime = u32::try_from(mtime(backing)?).unwrap_or(0);
    let mut header = b"OOOM".to_vec();
    header.extend(3_u32.to_be_bytes());
    header.extend(mtime.to_be_bytes());
    header.extend(size.to_be_bytes());
    header.extend(512_u32.to_be_bytes());
    header.extend(4096_u32.to_be_bytes());
    header.extend(0_u32.to_be_bytes());
    header.extend(backing.as_os_str().as_bytes());
    header.resize(32 + 4096, 0);
    Ok(header)
}

fn mtime(path: &Path) -> Result<i64, Error> {
    let metadata = fs::metadata(path).map_err(IoError::at("reading", path))?;
    Ok(metadata.mtime())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_found_across_bytes() {
        assert_eq!(runs(&[0b1100_0001, 0b0000_0001]), [(0, 1), (6, 9)]);
        assert_eq!(runs(&[0xff, 0xff]), [(0, 16)]);
        assert_eq!(runs(&[0, 0]), []);
    }
}
