//! A file system of its own in a file, loop-mounted.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use nix::sys::statvfs::statvfs;
use uml_core::{
    console,
    error::{IoError, chain},
};

use crate::{
    error::Error,
    moo::files,
    programs::{self, command},
};

/// Size of the file system in bytes.
const SIZE: u64 = 6 << 30;

/// A loop-mounted file system, unmounted and removed when dropped.
#[derive(Debug)]
pub(super) struct LoopFs {
    /// Where it is mounted.
    pub(super) dir: PathBuf,
    image: PathBuf,
}

impl LoopFs {
    /// Makes and mounts a file system of a kind (`xfs`, `btrfs`) below `work`.
    ///
    /// # Errors
    /// Not root, mkfs missing, or the kernel lacks loop devices or the file system.
    pub(super) fn mount(work: &Path, kind: &str) -> Result<Self, Error> {
        let (mkfs, package, force) = match kind {
            "xfs" => ("mkfs.xfs", "xfsprogs", "-f"),
            "btrfs" => ("mkfs.btrfs", "btrfs-progs", "-f"),
            _ => return Err(Error::Unsupported(format!("no recipe for a {kind}"))),
        };
        let mkfs = programs::find(mkfs, package)?;
        let image = work.join(format!("{kind}.img"));
        let dir = work.join(kind);
        fs::create_dir_all(&dir).map_err(IoError::at("creating", &dir))?;
        files::remove(&image)?;
        let file = File::create(&image).map_err(IoError::at("creating", &image))?;
        file.set_len(SIZE).map_err(IoError::at("growing", &image))?;
        programs::run(command(mkfs).args(["-q", force]).arg(&image))?;
        let mount = programs::find("mount", "mount")?;
        programs::run(command(mount).args(["-o", "loop"]).args([&image, &dir]))?;
        Ok(Self { dir, image })
    }

    /// Bytes in use once everything is written.
    ///
    /// # Errors
    /// The file system can't be asked.
    pub(super) fn used(&self) -> Result<u64, Error> {
        super::settle(&self.dir)?;
        let stat = statvfs(&self.dir).map_err(Error::system("asking for free space"))?;
        Ok((stat.blocks() - stat.blocks_free()) * stat.fragment_size())
    }
}

impl Drop for LoopFs {
    fn drop(&mut self) {
        let unmounted = programs::find("umount", "mount")
            .and_then(|umount| programs::run(command(umount).arg(&self.dir)))
            .and_then(|()| files::remove(&self.image));
        if let Err(error) = unmounted {
            console::note(format_args!("bench: {}", chain(&error)));
        }
    }
}
