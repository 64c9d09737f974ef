//! COW disks with real guests: ours and the kernel's own, merged into a new image and in place.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::{fs, path::PathBuf, process::Command};

use guests::assert_clean;
use testkit::{
    bins::ours,
    cmd::{Finished, run},
    guest::Guest,
    image, until,
};

/// What a guest writes: a small file and 2 MiB that compress to nothing, then their sums.
const WRITE: &str = "set -e
echo 'written by a guest' >/letter
i=0; while [ $i -lt 400 ]; do cat /bin/busybox | head -c 5000 | tail -c 3000; echo $i; i=$((i+1)); done >/data
md5sum /letter /data >/mnt/sums
";
/// What a guest checks that boots on the merged image.
const CHECK: &str = "md5sum -c /mnt/sums";

struct Lab {
    dir: tempfile::TempDir,
}

impl Lab {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn tool(&self, name: &str, args: &[&str]) -> Finished {
        run(Command::new(ours(name))
            .args(args)
            .current_dir(self.dir.path()))
    }

    /// A backing file of this test's own, which may be written.
    fn own_root(&self, name: &str) {
        let made = run(Command::new("cp")
            .args(["--sparse=always", "-p"])
            .arg(image::root())
            .arg(self.path(name)));
        let _ = made.success();
    }

    fn guest(&self, umid: &str, disk: &str, script: &str) -> Guest {
        Guest::new(umid, self.dir.path(), script).root_disk(disk)
    }
}

/// Boots a guest on the COW disk, merges into a new image, boots a guest from that.
fn write_merge_read(lab: &Lab, cow_and_backing: &str, cow: &str) {
    lab.guest("writer", cow_and_backing, WRITE).start().halted();
    let merged = lab.tool("uml_moo", &[cow, "merged.img"]).success();
    assert_eq!((merged.out(), merged.err()), (String::new(), String::new()));
    assert_clean(&lab.path("merged.img"));
    let merged = lab.path("merged.img").display().to_string();
    lab.guest("reader", &merged, CHECK).start().halted();
}

#[test]
fn a_disk_made_by_uml_mkcow_is_written_merged_and_read() {
    let lab = Lab::new();
    let backing = image::root().display().to_string();
    let made = lab.tool("uml_mkcow", &["disk.cow", &backing]).success();
    assert_eq!((made.out(), made.err()), (String::new(), String::new()));
    let disk = format!("{},{backing}", lab.path("disk.cow").display());
    write_merge_read(&lab, &disk, "disk.cow");
}

#[test]
fn a_disk_named_alone_finds_its_backing_file() {
    let lab = Lab::new();
    lab.own_root("root.img");
    let _ = lab.tool("uml_mkcow", &["disk.cow", "root.img"]).success();
    let disk = lab.path("disk.cow").display().to_string();
    write_merge_read(&lab, &disk, "disk.cow");
}

#[test]
fn a_disk_made_by_the_kernel_is_merged_and_read() {
    let lab = Lab::new();
    let disk = format!(
        "{},{}",
        lab.path("disk.cow").display(),
        image::root().display()
    );
    write_merge_read(&lab, &disk, "disk.cow");
}

#[test]
fn the_kernel_and_uml_mkcow_make_the_same_file() {
    let lab = Lab::new();
    lab.own_root("root.img");
    let backing = lab.path("root.img").display().to_string();
    let _ = lab.tool("uml_mkcow", &["ours.cow", &backing]).success();
    let kernels = format!("ubd1={},{backing}", lab.path("kernels.cow").display());
    Guest::new("maker", lab.dir.path(), "true")
        .arg(kernels)
        .start()
        .halted();

    let ours = fs::read(lab.path("ours.cow")).unwrap();
    let kernels = fs::read(lab.path("kernels.cow")).unwrap();
    assert_eq!(ours.len(), kernels.len());
    // The name starts at byte 32; what the kernel leaves behind its NUL is to be ignored.
    let name_end = 32 + backing.len() + 1;
    assert_eq!(ours[..name_end], kernels[..name_end]);
    assert_eq!(ours[4128..], kernels[4128..]);
    assert!(ours[name_end..4128].iter().all(|byte| *byte == 0));
}

#[test]
fn a_merge_in_place_is_read_back() {
    let lab = Lab::new();
    lab.own_root("root.img");
    let _ = lab.tool("uml_mkcow", &["disk.cow", "root.img"]).success();
    let disk = lab.path("disk.cow").display().to_string();
    lab.guest("writer", &disk, WRITE).start().halted();
    let _ = lab.tool("uml_moo", &["-d", "disk.cow"]).success();
    assert_clean(&lab.path("root.img"));
    let root = lab.path("root.img").display().to_string();
    lab.guest("reader", &root, CHECK).start().halted();
}

#[test]
fn the_disk_of_a_running_guest_is_not_touched() {
    let lab = Lab::new();
    lab.own_root("root.img");
    let _ = lab.tool("uml_mkcow", &["disk.cow", "root.img"]).success();
    let disk = lab.path("disk.cow").display().to_string();
    let mut guest = lab
        .guest("busy", &disk, "touch /mnt/up; while :; do sleep 1; done")
        .start();
    guest.wait_for_file("up");
    let backing = fs::read(lab.path("root.img")).unwrap();
    let pid = guest.pid().to_string();

    for args in [&["disk.cow", "new.img"][..], &["-d", "disk.cow"]] {
        let refused = lab.tool("uml_moo", args);
        assert_eq!(refused.code(), 1, "{args:?}");
        assert!(refused.err().contains(&pid), "{}", refused.err());
        assert!(!lab.path("new.img").exists());
    }
    let refused = lab.tool("uml_mkcow", &["-f", "disk.cow", "root.img"]);
    assert_eq!(refused.code(), 1);
    assert!(refused.err().contains(&pid), "{}", refused.err());
    assert!(guest.try_wait().is_none(), "{}", guest.console());
    assert_eq!(fs::read(lab.path("root.img")).unwrap(), backing);

    guest.kill();
    // Its helper processes share its locks, and end a moment after it.
    until("a merge of the dead guest's disk", || {
        let merged = lab.tool("uml_moo", &["disk.cow", "new.img"]);
        (merged.code() == 0).then_some(())
    });
}
