//! A second disk is plugged into a running guest, and taken out again.

use std::fs;

use testkit::guest::Guest;

use super::{Outcome, Story};

/// Waits for the disk, reads what it holds, waits until it is gone.
const SCRIPT: &str = "touch /mnt/up
while ! head -c 20 /dev/ubdb >/mnt/disk-read 2>/dev/null || [ ! -s /mnt/disk-read ]; do sleep 0.1; done
touch /mnt/seen
while [ -e /sys/block/ubdb ]; do sleep 0.1; done";

pub(super) fn tell(story: &mut Story) -> Outcome {
    let mut disk = b"a disk plugged in".to_vec();
    disk.resize(1 << 20, 0);
    fs::write(story.dir.join("second.img"), disk)?;
    let mut guest = Guest::new("plugged", &story.dir, SCRIPT)
        .root_disk(&story.root_disk("plugged"))
        .start();
    guest.wait_for_file("up");
    let socket = guest.mconsole().display().to_string();
    let answer = story.tool("uml_mconsole", &[&socket, "config", "ubd1=second.img"])?;
    guest.wait_for_file("seen");
    let read = fs::read(story.dir.join("disk-read"))?;
    if !read.starts_with(b"a disk plugged in") {
        return Err(format!(
            "the guest read {:?} from the disk",
            String::from_utf8_lossy(&read)
        )
        .into());
    }
    story.tell(format_args!(
        "uml_mconsole GUEST config ubd1=second.img: a running guest gets a second disk and reads it ({}).",
        answer.trim()
    ))?;
    let answer = story.tool("uml_mconsole", &[&socket, "remove", "ubd1"])?;
    guest.halted();
    story.tell(format_args!(
        "uml_mconsole GUEST remove ubd1: the disk is taken out, the guest sees it go ({}).",
        answer.trim()
    ))
}
