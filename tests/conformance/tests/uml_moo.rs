//! `uml_moo`: the reference and ours.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::{fs, process::Command, time::Duration};

use conformance::{Sandbox, Transcript, differs, same, same_but_words};

const TOOL: &str = "uml_moo";

/// When the backing files of these scenarios were written, as [`Sandbox::write`] has it.
const MTIME: u32 = 1_600_000_000;

/// Bytes that no two sectors share.
fn content(length: usize, salt: usize) -> Vec<u8> {
    (0..length)
        .map(|i| u8::try_from((i * 7 + i / 512 + salt) % 251).unwrap())
        .collect()
}

fn round_up(offset: usize, unit: usize) -> usize {
    offset.div_ceil(unit) * unit
}

/// What a COW file says of itself.
#[derive(Clone, Copy)]
struct Cow {
    version: u32,
    size: usize,
    sectorsize: usize,
    /// Version 3 only.
    alignment: usize,
    /// Version 3 only: the layout of old 64-bit tools.
    wide: bool,
}

const V3: Cow = Cow {
    version: 3,
    size: 1 << 20,
    sectorsize: 512,
    alignment: 4096,
    wide: false,
};

impl Cow {
    /// The bytes of a COW file over `backing`, in which these sectors hold `content(…, 99)`.
    fn bytes(self, backing: &str, sectors: &[usize]) -> Vec<u8> {
        let mtime = MTIME.to_be_bytes();
        let size = u64::try_from(self.size).unwrap();
        let sector = u32::try_from(self.sectorsize).unwrap();
        let mut file = Vec::new();
        let name = |capacity: usize| {
            let mut name = backing.as_bytes().to_vec();
            name.resize(capacity, 0);
            name
        };
        let bitmap_at = match self.version {
            1 => {
                file.extend(0x4f4f_4f4d_u32.to_ne_bytes());
                file.extend(1_u32.to_ne_bytes());
                file.extend(name(256));
                file.extend(MTIME.to_ne_bytes());
                file.extend(size.to_ne_bytes());
                file.extend(sector.to_ne_bytes());
                file.len()
            }
            2 => {
                file.extend(0x4f4f_4f4d_u32.to_be_bytes());
                file.extend(2_u32.to_be_bytes());
                file.extend(name(4096));
                file.extend(mtime);
                file.extend(size.to_be_bytes());
                file.extend(sector.to_be_bytes());
                file.len()
            }
            _ => {
                file.extend(0x4f4f_4f4d_u32.to_be_bytes());
                file.extend(3_u32.to_be_bytes());
                file.extend(mtime);
                if self.wide {
                    file.extend([0; 4]);
                }
                file.extend(size.to_be_bytes());
                file.extend(sector.to_be_bytes());
                file.extend(u32::try_from(self.alignment).unwrap().to_be_bytes());
                file.extend([0; 4]);
                file.extend(name(4096));
                if self.wide {
                    file.extend([0; 4]);
                }
                round_up(file.len(), self.alignment)
            }
        };
        let count = self.size.div_ceil(self.sectorsize);
        let bitmap_bytes = match self.version {
            3 => count.div_ceil(8),
            _ => (self.size + self.sectorsize - 1) / (8 * self.sectorsize),
        };
        let data_at = match self.version {
            3 => round_up(bitmap_at + bitmap_bytes, self.alignment),
            _ => round_up(bitmap_at + bitmap_bytes, self.sectorsize),
        };
        file.resize(data_at + self.size, 0);
        for &index in sectors {
            file[bitmap_at + index / 8] |= 1 << (index % 8);
            let at = data_at + index * self.sectorsize;
            let end = (at + self.sectorsize).min(file.len());
            file[at..end].copy_from_slice(&content(end - at, 99 + index));
        }
        file
    }

    fn lay(self, sandbox: &Sandbox, sectors: &[usize]) {
        sandbox.write("backing", &content(self.size, 0));
        let backing = sandbox.dir().join("backing").display().to_string();
        sandbox.write("cow", &self.bytes(&backing, sectors));
    }
}

const SECTORS: &[usize] = &[0, 1, 2, 9, 64, 65, 127, 128, 1000];

#[test]
fn wrong_command_lines() {
    for args in [
        &[][..],
        &["only"],
        &["-b"],
        &["-b", "x"],
        &["a", "b", "c"],
        &["-d", "a", "b"],
    ] {
        same_but_words(TOOL, &format!("usage {args:?}"), |sandbox| {
            let refused = sandbox.run(args);
            assert!(refused.err().contains("uml_moo usage:"));
            sandbox.saw_files();
        });
    }
}

#[test]
fn every_version_merges_into_a_new_image_alike() {
    let cases = [
        ("version 1", Cow { version: 1, ..V3 }),
        ("version 2", Cow { version: 2, ..V3 }),
        ("version 3", V3),
        (
            "version 3, sectors of 4096",
            Cow {
                sectorsize: 4096,
                size: 5 << 20,
                ..V3
            },
        ),
        (
            "version 2, sectors of 1024",
            Cow {
                version: 2,
                sectorsize: 1024,
                size: 2 << 20,
                ..V3
            },
        ),
    ];
    for (name, cow) in cases {
        same(TOOL, &format!("{name}, new image"), |sandbox| {
            cow.lay(sandbox, SECTORS);
            sandbox.run(&["cow", "new"]);
            sandbox.saw_files();
        });
        known(
            &format!("{name}, in place, not quiet"),
            "moo-says-invalid",
            |sandbox| {
                cow.lay(sandbox, SECTORS);
                let merged = sandbox.run(&["-d", "cow"]);
                assert_eq!((merged.code(), merged.out().as_str()), (0, ""));
                let crc = crc32fast::hash(&fs::read(sandbox.dir().join("backing")).unwrap());
                sandbox.saw("backing", crc);
            },
            |reference, ours| {
                // The same bytes; one line more.
                assert_eq!(reference.0[1], ours.0[1]);
                assert_eq!(ours.0[0].words.lines().count(), 1, "{ours}");
                assert!(ours.contains("invalid"), "{ours}");
            },
        );
        same(TOOL, &format!("{name}, in place"), |sandbox| {
            cow.lay(sandbox, SECTORS);
            let args: &[&str] = if sandbox.is_ours() {
                &["-q", "-d", "cow"]
            } else {
                &["-d", "cow"]
            };
            let binary = sandbox.binary().to_path_buf();
            sandbox.run_command("in place", Command::new(binary).args(args), b"");
            let crc = crc32fast::hash(&fs::read(sandbox.dir().join("backing")).unwrap());
            sandbox.saw("backing", crc);
        });
    }
}

#[test]
fn the_layout_of_old_64_bit_tools_merges_alike() {
    known(
        "version 3 of old 64-bit tools, new image",
        "moo-debug-words",
        |sandbox| {
            Cow { wide: true, ..V3 }.lay(sandbox, SECTORS);
            sandbox.run(&["cow", "new"]);
            sandbox.saw(
                "new",
                crc32fast::hash(&fs::read(sandbox.dir().join("new")).unwrap()),
            );
        },
        |reference, ours| {
            assert!(
                reference.0[0].seen.contains("recovering content"),
                "{reference}"
            );
            assert_eq!(ours.0[0].seen, "status 0\n");
            assert_eq!(reference.0[1], ours.0[1]);
        },
    );
}

#[test]
fn another_backing_file() {
    let move_away = |sandbox: &Sandbox| {
        V3.lay(sandbox, SECTORS);
        fs::rename(sandbox.dir().join("backing"), sandbox.dir().join("moved")).unwrap();
    };
    same(TOOL, "-b ACTUAL", |sandbox| {
        move_away(sandbox);
        sandbox.run(&["-b", "moved", "cow", "new"]);
        sandbox.saw_files();
    });
    known(
        "-bACTUAL",
        "moo-order",
        |sandbox| {
            move_away(sandbox);
            sandbox.run(&["-bmoved", "cow", "new"]);
        },
        |reference, ours| {
            assert!(reference.contains("status 1"), "{reference}");
            assert!(ours.contains("status 0"), "{ours}");
        },
    );
    same_but_words(TOOL, "-d -b ACTUAL, then once more", |sandbox| {
        move_away(sandbox);
        let args: &[&str] = if sandbox.is_ours() {
            &["-q", "-d", "-b", "moved", "cow"]
        } else {
            &["-d", "-b", "moved", "cow"]
        };
        for label in ["-d -b moved cow", "again"] {
            let binary = sandbox.binary().to_path_buf();
            sandbox.run_command(label, Command::new(binary).args(args), b"");
        }
        let crc = crc32fast::hash(&fs::read(sandbox.dir().join("moved")).unwrap());
        sandbox.saw("moved", crc);
    });
}

#[test]
fn refusals() {
    let refuse = |name: &str, words: &str, prepare: &dyn Fn(&Sandbox), args: &[&str]| {
        same_but_words(TOOL, name, |sandbox| {
            V3.lay(sandbox, SECTORS);
            prepare(sandbox);
            let refused = sandbox.run(args);
            assert!(refused.err().contains(words), "{name}: {}", refused.err());
            sandbox.saw_files();
        });
    };
    refuse(
        "no COW file",
        "No such file or directory",
        &|_| (),
        &["missing", "new"],
    );
    refuse(
        "no backing file",
        "No such file or directory",
        &|_| (),
        &["-b", "missing", "cow", "new"],
    );
    refuse(
        "no folder",
        "No such file or directory",
        &|_| (),
        &["cow", "missing/new"],
    );
    refuse(
        "another size",
        "Size mismatch (1048576 vs 4096) of COW header vs backing file",
        &|sandbox| sandbox.write("other", &[0; 4096]),
        &["-b", "other", "cow", "new"],
    );
    refuse(
        "another time",
        "mtime mismatch (1600000000 vs 5) of COW header vs backing file",
        &|sandbox| sandbox.set_mtime("backing", Duration::from_secs(5)),
        &["cow", "new"],
    );
    refuse(
        "another time, in place",
        "mtime mismatch (1600000000 vs 5) of COW header vs backing file",
        &|sandbox| sandbox.set_mtime("backing", Duration::from_secs(5)),
        &["-d", "cow"],
    );
    refuse(
        "no COW file but a text",
        "",
        &|s| s.write("text", b"no COW file"),
        &["text", "new"],
    );
    known(
        "an empty COW file",
        "moo-debug-words",
        |sandbox| {
            sandbox.write("empty", b"");
            sandbox.run(&["empty", "new"]);
            sandbox.saw_files();
        },
        |reference, ours| {
            assert!(reference.0[0].seen.contains("short header"), "{reference}");
            assert_eq!(ours.0[0].seen, "status 1\n");
            assert_eq!(reference.0[1].seen.len(), ours.0[1].seen.len());
        },
    );
}

fn known(
    name: &str,
    difference: &str,
    scenario: impl Fn(&mut Sandbox),
    check: impl FnOnce(&Transcript, &Transcript),
) {
    differs(TOOL, name, difference, scenario, check);
}

#[test]
fn the_tail_is_kept() {
    known(
        "a length that is no multiple of the sector size",
        "moo-tail",
        |sandbox| {
            Cow {
                size: 1_000_001,
                ..V3
            }
            .lay(sandbox, &[0, 5]);
            sandbox.run(&["cow", "new"]);
            sandbox.saw_files();
        },
        |reference, ours| {
            assert!(reference.contains("status 0"), "{reference}");
            assert!(
                !reference.contains("new file 0644 length 1000001"),
                "{reference}"
            );
            assert!(ours.contains("new file 0644 length 1000001"), "{ours}");
        },
    );
}

#[test]
fn the_cow_file_is_never_the_target() {
    known(
        "the COW file as the new image",
        "moo-target-is-source",
        |sandbox| {
            V3.lay(sandbox, SECTORS);
            sandbox.run(&["cow", "cow"]);
            sandbox.saw_files();
        },
        |reference, ours| {
            assert!(reference.contains("cow file 0644 length 0 "), "{reference}");
            assert!(ours.contains("status 1"), "{ours}");
            assert!(ours.contains("cow file 0644 length 1060864"), "{ours}");
        },
    );
    known(
        "the backing file as the new image",
        "moo-target-is-source",
        |sandbox| {
            V3.lay(sandbox, SECTORS);
            sandbox.run(&["cow", "backing"]);
            sandbox.saw_files();
        },
        |reference, ours| {
            let whole = "backing file 0644 length 1048576 ";
            assert!(!reference.contains(whole), "{reference}");
            assert!(ours.contains("status 1"), "{ours}");
            assert!(ours.contains(whole), "{ours}");
        },
    );
}

#[test]
fn headers_that_divide_by_zero() {
    for (name, at) in [("sector size 0", 20), ("alignment 0", 24)] {
        known(
            name,
            "moo-divide",
            |sandbox| {
                V3.lay(sandbox, SECTORS);
                let mut bytes = fs::read(sandbox.dir().join("cow")).unwrap();
                bytes[at..at + 4].fill(0);
                sandbox.write("cow", &bytes);
                sandbox.run(&["cow", "new"]);
            },
            |reference, ours| {
                assert!(reference.contains("status 136"), "{reference}");
                assert!(ours.contains("status 1\n"), "{ours}");
            },
        );
    }
}

#[test]
fn options_in_any_order() {
    known(
        "-b with -d behind it",
        "moo-order",
        |sandbox| {
            V3.lay(sandbox, SECTORS);
            sandbox.run(&["cow", "-b", "backing", "new"]);
        },
        |reference, ours| {
            assert!(reference.contains("status 1"), "{reference}");
            assert!(ours.contains("status 0"), "{ours}");
        },
    );
    known(
        "-d alone",
        "moo-usage-crash",
        |sandbox| {
            sandbox.run(&["-d"]);
        },
        |reference, ours| {
            assert!(reference.contains("status 139"), "{reference}");
            assert!(
                ours.contains("status 1\n") && ours.contains("uml_moo usage:"),
                "{ours}"
            );
        },
    );
}

#[test]
fn the_image_has_the_backing_files_mode() {
    known(
        "a private backing file",
        "moo-mode",
        |sandbox| {
            use std::os::unix::fs::PermissionsExt as _;
            V3.lay(sandbox, SECTORS);
            let private = fs::Permissions::from_mode(0o600);
            fs::set_permissions(sandbox.dir().join("backing"), private).unwrap();
            sandbox.run(&["cow", "new"]);
            sandbox.saw_files();
        },
        |reference, ours| {
            assert!(reference.contains("new file 0644"), "{reference}");
            assert!(ours.contains("new file 0600"), "{ours}");
        },
    );
}

#[test]
fn sectors_that_were_lost_are_named() {
    known(
        "a COW file cut short",
        "moo-cut-short",
        |sandbox| {
            V3.lay(sandbox, SECTORS);
            let mut bytes = fs::read(sandbox.dir().join("cow")).unwrap();
            bytes.truncate(12288 + 512 * 1000);
            sandbox.write("cow", &bytes);
            sandbox.run(&["cow", "new"]);
            sandbox.saw_files();
        },
        |reference, ours| {
            assert!(
                reference.contains("Reading data: Success") && reference.contains("new file"),
                "{reference}"
            );
            assert!(!ours.contains("new file"), "{ours}");
            assert!(
                ours.contains("status 1\n") && ours.contains("1000"),
                "{ours}"
            );
        },
    );
}

#[test]
fn help_is_new() {
    known(
        "--help",
        "help",
        |sandbox| {
            sandbox.run(&["--help"]);
        },
        |reference, ours| {
            assert!(reference.contains("status 1"), "{reference}");
            assert!(ours.contains("status 0"), "{ours}");
        },
    );
}
