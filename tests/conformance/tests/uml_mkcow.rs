//! `uml_mkcow`: the reference and ours.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::{fs, os::unix::fs::symlink};

use conformance::{Sandbox, differs, same, same_but_words};

const TOOL: &str = "uml_mkcow";

/// Bytes that no two sectors share.
fn content(length: usize) -> Vec<u8> {
    (0..length)
        .map(|i| u8::try_from((i * 7 + i / 512) % 251).unwrap())
        .collect()
}

/// Zeroes what the reference leaves behind the name, so that the rest can be compared.
fn mask_behind_name(sandbox: &Sandbox, cow: &str) {
    let path = sandbox.dir().join(cow);
    let mut bytes = fs::read(&path).unwrap();
    let end = bytes[32..4128].iter().position(|byte| *byte == 0).unwrap() + 32;
    bytes[end..4128].fill(0);
    fs::write(&path, bytes).unwrap();
}

fn makes(name: &str, length: usize, args: &'static [&'static str], cow: &'static str) {
    same(TOOL, name, |sandbox| {
        sandbox.write("backing", &content(length));
        sandbox.run(args);
        mask_behind_name(sandbox, cow);
        sandbox.saw_files();
    });
}

#[test]
fn wrong_command_lines() {
    for args in [&[][..], &["-h"], &["only"], &["-f"], &["-f", "only"]] {
        same_but_words(TOOL, &format!("usage {args:?}"), |sandbox| {
            sandbox.run(args);
            sandbox.saw_files();
        });
    }
}

#[test]
fn new_files_have_the_same_bytes() {
    makes("a new file", 1 << 20, &["cow", "backing"], "cow");
    makes("one sector", 512, &["cow", "backing"], "cow");
    makes("an odd length", 1_000_001, &["cow", "backing"], "cow");
    makes(
        "a bitmap of several pages",
        40 << 20,
        &["cow", "backing"],
        "cow",
    );
    makes(
        "a relative name with dots",
        4096,
        &["cow", "./backing"],
        "cow",
    );
    makes(
        "a third operand is ignored",
        4096,
        &["cow", "backing", "x"],
        "cow",
    );
    makes(
        "-f without an old file",
        4096,
        &["-f", "cow", "backing"],
        "cow",
    );
}

#[test]
fn new_files_are_sparse_and_private_to_the_umask() {
    same(TOOL, "blocks on disk", |sandbox| {
        sandbox.write_hole("backing", 64 << 20);
        sandbox.run(&["cow", "backing"]);
        mask_behind_name(sandbox, "cow");
        sandbox.saw_files();
    });
}

#[test]
fn names_are_recorded_alike() {
    same(TOOL, "a name through a linked folder", |sandbox| {
        fs::create_dir(sandbox.dir().join("real")).unwrap();
        sandbox.write("real/backing", &content(4096));
        symlink("real", sandbox.dir().join("link")).unwrap();
        sandbox.run(&["cow", "link/backing"]);
        let bytes = fs::read(sandbox.dir().join("cow")).unwrap();
        let name = bytes[32..].split(|byte| *byte == 0).next().unwrap();
        sandbox.saw("name", String::from_utf8_lossy(name));
    });
    same(TOOL, "a linked backing file", |sandbox| {
        sandbox.write("backing", &content(4096));
        symlink("backing", sandbox.dir().join("link")).unwrap();
        sandbox.run(&["cow", "link"]);
        let bytes = fs::read(sandbox.dir().join("cow")).unwrap();
        let name = bytes[32..].split(|byte| *byte == 0).next().unwrap();
        sandbox.saw("name", String::from_utf8_lossy(name));
    });
}

#[test]
fn refusals() {
    same_but_words(TOOL, "an existing file without -f", |sandbox| {
        sandbox.write("backing", &content(4096));
        sandbox.write("cow", b"precious");
        let refused = sandbox.run(&["cow", "backing"]);
        assert!(refused.err().contains("open COW file"), "{}", refused.err());
        assert!(refused.err().contains("File exists"), "{}", refused.err());
        sandbox.saw_files();
    });
    same_but_words(TOOL, "no folder for the COW file", |sandbox| {
        sandbox.write("backing", &content(4096));
        sandbox.run(&["missing/cow", "backing"]);
        sandbox.saw_files();
    });
    same_but_words(TOOL, "an empty name", |sandbox| {
        sandbox.write("backing", &content(4096));
        sandbox.run(&["", "backing"]);
        sandbox.saw_files();
    });
}

#[test]
fn a_missing_backing_file_leaves_nothing() {
    differs(
        TOOL,
        "a missing backing file",
        "mkcow-litter",
        |sandbox| {
            sandbox.run(&["cow", "missing"]);
            sandbox.saw_files();
        },
        |reference, ours| {
            assert!(reference.contains("cow file"), "{reference}");
            assert!(!ours.contains("cow file"), "{ours}");
            assert!(ours.contains("status 1"), "{ours}");
        },
    );
}

#[test]
fn an_old_files_sectors_do_not_shine_through() {
    differs(
        TOOL,
        "-f over a file with data",
        "mkcow-force",
        |sandbox| {
            sandbox.write("backing", &content(4096));
            sandbox.write("cow", &vec![0xff; 32768]);
            sandbox.run(&["-f", "cow", "backing"]);
            let bytes = fs::read(sandbox.dir().join("cow")).unwrap();
            sandbox.saw("first byte of the bitmap", bytes[8192]);
        },
        |reference, ours| {
            assert!(reference.contains("255"), "{reference}");
            assert!(ours.contains("first byte of the bitmap\n  0\n"), "{ours}");
        },
    );
}

#[test]
fn the_backing_file_is_never_overwritten() {
    differs(
        TOOL,
        "-f with the backing file as the COW file",
        "mkcow-same-file",
        |sandbox| {
            sandbox.write("backing", &content(4096));
            sandbox.run(&["-f", "backing", "backing"]);
            sandbox.saw_files();
        },
        |reference, ours| {
            assert!(reference.contains("status 0"), "{reference}");
            assert!(!reference.contains("length 4096 "), "{reference}");
            assert!(ours.contains("status 1"), "{ours}");
            assert!(ours.contains("length 4096 "), "{ours}");
        },
    );
}

#[test]
fn help_is_new() {
    differs(
        TOOL,
        "--help",
        "help",
        |sandbox| {
            sandbox.run(&["--help"]);
        },
        |reference, ours| {
            assert!(reference.contains("status 2"), "{reference}");
            assert!(ours.contains("status 0"), "{ours}");
        },
    );
}

#[test]
fn names_that_look_like_options() {
    differs(
        TOOL,
        "an unknown option",
        "mkcow-options",
        |sandbox| {
            sandbox.write("backing", &content(4096));
            sandbox.run(&["-x", "backing"]);
            sandbox.saw_files();
        },
        |reference, ours| {
            assert!(reference.contains("-x file"), "{reference}");
            assert!(
                ours.contains("status 2") && !ours.contains("-x file"),
                "{ours}"
            );
        },
    );
}
