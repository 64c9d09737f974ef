//! Options, usage, exit codes, words.

use std::{fs, os::unix::fs::symlink};

use crate::support::{Disk, MTIME, Place, noise};

const USAGE: &str = "uml_moo usage:\n\tuml_moo [ -b <actual backing file> ] <COW file> <new \
    backing file>\n\tuml_moo [ -b <actual backing file> ] -d <COW file>\nCreates a new filesystem \
    image from the COW file and its backing file.\nSpecifying -d will cause a destructive, \
    in-place merge of the COW file into\nits current backing file\nSpecifying -b overrides the \
    backing_file specified in the COW file.  This is\nneeded when dealing with a COW file that \
    was created inside a chroot jail.\numl_moo supports version 1,2 and 3 COW files.\n";

fn small() -> Disk {
    Disk::v3(noise(10_000), [(1, 7), (19, 8)])
}

#[test]
fn a_wrong_command_line_gets_the_old_usage_and_1() {
    let place = Place::new(&small());
    for args in [
        &[][..],
        &["cow"],
        &["-d"],
        &["-b", "back"],
        &["-b", "back", "-d"],
    ] {
        let finished = place.moo(args);
        assert_eq!(
            (finished.code(), finished.err().as_str()),
            (1, USAGE),
            "{args:?}"
        );
        assert_eq!(finished.out(), "");
    }
    let wrong: [&[&str]; 4] = [
        &["cow", "new", "third"],
        &["-d", "cow", "extra"],
        &["-x", "cow", "new"],
        &["cow", "new", "-b"],
    ];
    for args in wrong {
        let finished = place.moo(args);
        assert_eq!(finished.code(), 1, "{args:?}");
        assert!(
            finished.err().ends_with(USAGE),
            "{args:?}: {}",
            finished.err()
        );
    }
    assert_eq!(place.names(), ["back", "cow"]);
    assert_eq!(place.ok(&["--help"]).err(), "");
    assert!(place.ok(&["--version"]).out().starts_with("uml_moo "));
}

#[test]
fn options_stand_in_any_order() {
    let disk = small();
    let place = Place::new(&disk);
    fs::rename(place.at("back"), place.at("moved")).unwrap();
    let orders: [&[&str]; 5] = [
        &["-b", "moved", "cow", "new"],
        &["cow", "new", "-b", "moved"],
        &["cow", "-bmoved", "new"],
        &["-q", "cow", "--backing=moved", "--", "new"],
        &["cow", "new", "--no-sync", "-b", "moved"],
    ];
    for args in orders {
        let finished = place.ok(args);
        assert_eq!(
            (finished.out(), finished.err()),
            (String::new(), String::new()),
            "{args:?}"
        );
        assert!(place.read("new") == disk.merged());
        fs::remove_file(place.at("new")).unwrap();
    }
    for args in [["-b", "moved", "-d", "cow"], ["cow", "-d", "-b", "moved"]] {
        place.write(&disk);
        fs::rename(place.at("back"), place.at("moved")).unwrap();
        let finished = place.ok(&args);
        assert!(
            finished
                .err()
                .contains("'cow' is merged into 'moved'; it is invalid now")
        );
        assert!(place.read("moved") == disk.merged());
    }
}

#[test]
fn a_name_that_begins_with_a_dash_follows_two_dashes() {
    let disk = small();
    let place = Place::new(&disk);
    let finished = place.ok(&["--", "cow", "-new"]);
    assert_eq!(finished.err(), "");
    assert!(place.read("-new") == disk.merged());
}

#[test]
fn another_size_is_refused() {
    let place = Place::new(&small());
    fs::write(place.at("longer"), noise(10_001)).unwrap();
    for args in [
        &["-b", "longer", "cow", "new"][..],
        &["-b", "longer", "-d", "cow"],
    ] {
        for more in [&[][..], &["--ignore-mtime"]] {
            let finished = place.moo(&[args, more].concat());
            assert_eq!(finished.code(), 1);
            assert_eq!(
                finished.err(),
                "Size mismatch (10000 vs 10001) of COW header vs backing file \"longer\"\n"
            );
        }
    }
    assert!(place.read("longer") == noise(10_001));
    assert_eq!(place.names(), ["back", "cow", "longer"]);
}

#[test]
fn another_mtime_is_refused_with_ways_out() {
    let disk = small();
    let place = Place::new(&disk);
    fs::copy(place.at("back"), place.at("copy")).unwrap();
    let finished = place.moo(&["-b", "copy", "cow", "new"]);
    assert_eq!(finished.code(), 1);
    let words = finished.err();
    assert!(
        words.starts_with(&format!("mtime mismatch ({MTIME} vs ")),
        "{words}"
    );
    assert!(
        words.contains("of COW header vs backing file \"copy\"\n"),
        "{words}"
    );
    assert!(words.contains("2023-11-1"), "a readable time: {words}");
    assert!(
        words.contains(&format!("touch -d @{MTIME} 'copy'")),
        "{words}"
    );
    assert!(words.contains("--ignore-mtime"), "{words}");
    assert_eq!(place.names(), ["back", "copy", "cow"]);
    let finished = place.ok(&["-b", "copy", "cow", "new", "--ignore-mtime"]);
    assert_eq!(finished.err(), "");
    assert!(place.read("new") == disk.merged());
}

#[test]
fn missing_files_are_named() {
    let place = Place::new(&small());
    let finished = place.moo(&["nowhere", "new"]);
    assert_eq!(finished.code(), 1);
    assert_eq!(
        finished.err(),
        "uml_moo: opening COW file 'nowhere': No such file or directory\n"
    );
    let finished = place.moo(&["-b", "nowhere", "cow", "new"]);
    assert_eq!(
        finished.err(),
        "uml_moo: opening backing file 'nowhere': No such file or directory\n"
    );
    let finished = place.moo(&["cow", "nowhere/new"]);
    assert_eq!(finished.code(), 1);
    assert!(
        finished
            .err()
            .ends_with("'nowhere/new': No such file or directory\n")
    );
    for (args, words) in [
        (&["", "new"][..], "opening COW file ''"),
        (&["-b", "", "cow", "new"], "opening backing file ''"),
        (&["cow", ""], "making a temporary file beside ''"),
    ] {
        let finished = place.moo(args);
        assert_eq!(finished.code(), 1);
        let words = format!("uml_moo: {words}: No such file or directory\n");
        assert_eq!(finished.err(), words);
    }
    fs::create_dir(place.at("dir")).unwrap();
    let finished = place.moo(&["cow", "dir"]);
    assert_eq!(
        finished.err(),
        "uml_moo: opening output file 'dir': Is a directory\n"
    );
    let finished = place.moo(&["dir", "new"]);
    assert_eq!(
        finished.err(),
        "uml_moo: opening COW file 'dir': Is a directory\n"
    );
    assert_eq!(place.names(), ["back", "cow", "dir"]);
}

#[test]
fn the_sources_are_never_the_target() {
    let disk = small();
    let place = Place::new(&disk);
    let cow = place.read("cow");
    for (name, source) in [("cow", "COW file"), ("back", "backing file")] {
        let (symbolic, hard) = (format!("{name}.sym"), format!("{name}.hard"));
        symlink(name, place.at(&symbolic)).unwrap();
        fs::hard_link(place.at(name), place.at(&hard)).unwrap();
        for target in [name, &format!("./{name}"), &symbolic, &hard] {
            let finished = place.moo(&["cow", target]);
            assert_eq!(finished.code(), 1);
            let words = format!("uml_moo: '{target}' is the {source} itself: it would be lost\n");
            assert_eq!(finished.err(), words);
        }
    }
    for args in [["-b", "cow", "-d", "cow"], ["-b", "cow.hard", "cow", "new"]] {
        let finished = place.moo(&args);
        assert_eq!(finished.code(), 1);
        assert!(
            finished
                .err()
                .contains("is the COW file and the backing file at once")
        );
    }
    assert!(place.read("cow") == cow);
    assert!(place.read("back") == disk.backing);
}

#[test]
fn verify_prints_the_crc32_of_the_image() {
    let disk = small();
    let place = Place::new(&disk);
    let sum = crc32fast::hash(&disk.merged());
    let finished = place.ok(&["--verify", "cow", "new"]);
    assert_eq!(finished.out(), format!("crc32 of 'new': {sum:08x}\n"));
    let finished = place.ok(&["--verify", "-q", "-d", "cow"]);
    let back = place.at("back");
    assert_eq!(
        finished.out(),
        format!("crc32 of '{}': {sum:08x}\n", back.display())
    );
    assert_eq!(finished.err(), "");
}

#[test]
fn names_neither_steer_a_terminal_nor_forge_lines() {
    let disk = small();
    let place = Place::new(&disk);
    let (odd, shown) = ("a\numl_moo: done\u{1b}[2J", "a\\numl_moo: done\\u{1b}[2J");
    let said = |args: &[&str], lines: usize| {
        let finished = place.moo(args);
        let words = finished.err() + &finished.out();
        assert!(words.contains(shown), "{args:?}: {words}");
        assert!(!words.contains('\u{1b}'), "{args:?}: {words}");
        assert_eq!(words.lines().count(), lines, "{args:?}: {words}");
    };
    said(&[odd, "new"], 1);
    fs::write(place.at(odd), "no header").unwrap();
    said(&[odd, "new"], 1);
    fs::write(place.at(odd), &disk.backing).unwrap();
    said(&["-b", odd, "cow", "new"], 4);
    said(&["--verify", "--ignore-mtime", "-b", odd, "cow", odd], 1);
    said(&["--ignore-mtime", "-b", odd, "-d", "cow"], 1);
    fs::copy(place.at("cow"), place.at(odd)).unwrap();
    said(&["--verify", "cow", odd], 1);
}
