//! A COW disk is made, booted from, written to, merged; a guest boots from the merged image.

use std::{fs, os::unix::fs::MetadataExt as _};

use testkit::{guest::Guest, image};

use super::{Outcome, Story};

pub(super) fn tell(story: &mut Story) -> Outcome {
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
