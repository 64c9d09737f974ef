//! The tool as its users run it.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::{
    fs::{self, File, OpenOptions, Permissions},
    os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;
use testkit::{
    cmd::{Finished, run},
    names,
};
use uml_core::cow::{
    CowFile, CowHeader, Layout, LockKind,
    backing::Access,
    file::write_new,
    header::{DEFAULT_ALIGNMENT, DEFAULT_SECTOR_SIZE},
    lock::lock,
};

struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        fs::write(place.at("back"), [7; 10_000]).unwrap();
        place
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn mkcow(&self, args: &[&str]) -> Finished {
        run(Command::new(env!("CARGO_BIN_EXE_uml_mkcow"))
            .args(args)
            .current_dir(self.0.path()))
    }

    fn names(&self) -> Vec<String> {
        names(self.0.path())
    }

    fn backing_of(&self, cow: &str) -> PathBuf {
        CowFile::open(&self.at(cow), Access::Read)
            .unwrap()
            .header()
            .backing()
            .to_path_buf()
    }
}

fn quiet_success(finished: &Finished) {
    assert_eq!(
        (finished.code(), finished.out(), finished.err()),
        (0, String::new(), String::new())
    );
}

fn old_cow(path: &Path, backing: &Path) {
    let header = CowHeader::new(
        Layout::V3,
        backing.as_os_str().to_owned(),
        1,
        10_000,
        DEFAULT_SECTOR_SIZE,
        DEFAULT_ALIGNMENT,
    );
    let file = File::create(path).unwrap();
    write_new(&file, &header.unwrap()).unwrap();
    file.write_all_at(&[0xff; 3], 8192).unwrap();
    file.write_all_at(&[9; 10_000], 12_288).unwrap();
}

#[test]
fn the_bytes_are_those_of_the_old_tool_with_zeros_behind_the_name() {
    let place = Place::new();
    quiet_success(&place.mkcow(&["cow", "back"]));
    let bytes = fs::read(place.at("cow")).unwrap();
    let name = place.at("back").canonicalize().unwrap();
    let mtime = u32::try_from(place.at("back").metadata().unwrap().mtime()).unwrap();
    let mut expected = b"OOOM\0\0\0\x03".to_vec();
    expected.extend(mtime.to_be_bytes());
    expected.extend(10_000u64.to_be_bytes());
    expected.extend([0, 0, 2, 0, 0, 0, 16, 0, 0, 0, 0, 0]);
    expected.extend(name.as_os_str().as_encoded_bytes());
    expected.resize(12_288 + 10_000, 0);
    assert!(bytes == expected);
    let metadata = place.at("cow").metadata().unwrap();
    assert_eq!(metadata.mode() & 0o777, 0o644);
    assert!(metadata.blocks() <= 24, "{} blocks", metadata.blocks());
    assert_eq!(place.names(), ["back", "cow"]);
}

#[test]
fn an_existing_cow_file_is_refused_without_f() {
    let place = Place::new();
    fs::write(place.at("cow"), "mine").unwrap();
    let finished = place.mkcow(&["cow", "back"]);
    assert_eq!(
        (finished.code(), finished.err().as_str()),
        (1, "open COW file: File exists\n")
    );
    assert_eq!(fs::read(place.at("cow")).unwrap(), b"mine");
    symlink("nowhere", place.at("link")).unwrap();
    let finished = place.mkcow(&["link", "back"]);
    assert_eq!(
        (finished.code(), finished.err().as_str()),
        (1, "open COW file: File exists\n")
    );
    assert_eq!(place.names(), ["back", "cow", "link"]);
}

#[test]
fn with_f_nothing_of_the_old_file_shines_through() {
    let place = Place::new();
    old_cow(&place.at("cow"), &place.at("back"));
    fs::set_permissions(place.at("cow"), Permissions::from_mode(0o640)).unwrap();
    for args in [["-f", "cow", "back"], ["cow", "back", "-f"]] {
        quiet_success(&place.mkcow(&args));
        let cow = CowFile::open(&place.at("cow"), Access::Read).unwrap();
        assert_eq!(cow.survey().unwrap().sectors, 0);
        let bytes = fs::read(place.at("cow")).unwrap();
        assert!(bytes[8192..].iter().all(|&byte| byte == 0));
        assert_eq!(place.at("cow").metadata().unwrap().mode() & 0o777, 0o640);
    }
}

#[test]
fn with_f_a_link_stays_a_link() {
    let place = Place::new();
    old_cow(&place.at("real"), &place.at("back"));
    symlink("real", place.at("cow")).unwrap();
    quiet_success(&place.mkcow(&["-f", "cow", "back"]));
    assert!(fs::symlink_metadata(place.at("cow")).unwrap().is_symlink());
    let real = CowFile::open(&place.at("real"), Access::Read).unwrap();
    assert_eq!(real.survey().unwrap().sectors, 0);
}

#[test]
fn the_backing_file_is_never_replaced() {
    let place = Place::new();
    symlink("back", place.at("symbolic")).unwrap();
    fs::hard_link(place.at("back"), place.at("hard")).unwrap();
    for name in ["back", "./back", "symbolic", "hard"] {
        let finished = place.mkcow(&["-f", name, "back"]);
        assert_eq!(finished.code(), 1, "{name}");
        assert!(
            finished.err().contains("is the backing file itself"),
            "{}",
            finished.err()
        );
    }
    assert_eq!(fs::read(place.at("back")).unwrap(), [7; 10_000]);
}

#[test]
fn failures_leave_nothing_behind() {
    let place = Place::new();
    fs::create_dir(place.at("dir")).unwrap();
    let cases: [(&[&str], &str); 8] = [
        (
            &["cow", "missing"],
            "opening backing file 'missing': No such file or directory\n",
        ),
        (
            &["cow", "dir"],
            "opening backing file 'dir': Is a directory\n",
        ),
        (
            &["cow", "back/"],
            "opening backing file 'back/': Not a directory\n",
        ),
        (
            &["cow", "/dev/null"],
            "neither a regular file nor a block device\n",
        ),
        (
            &["nowhere/cow", "back"],
            "open COW file: No such file or directory\n",
        ),
        (&["", "back"], "open COW file: No such file or directory\n"),
        (&["-f", "dir", "back"], "open COW file: Is a directory\n"),
        (&["-f", "dir/", "back"], "open COW file: Is a directory\n"),
    ];
    for (args, words) in cases {
        let finished = place.mkcow(args);
        assert_eq!(finished.code(), 1, "{args:?}");
        assert!(
            finished.err().ends_with(words),
            "{args:?}: {}",
            finished.err()
        );
        assert_eq!(place.names(), ["back", "dir"], "{args:?}");
    }
}

#[test]
fn a_wrong_command_line_gets_the_old_usage_and_2() {
    let place = Place::new();
    let usage = "uml_mkcow usage: \n\tuml_mkcow [-f] <COW file> <backing file>\n\t-f forces \
                 overwrite of an existing COW file\n";
    for args in [&[][..], &["-f"], &["cow"]] {
        let finished = place.mkcow(args);
        assert_eq!(
            (finished.code(), finished.err().as_str()),
            (2, usage),
            "{args:?}"
        );
    }
    let finished = place.mkcow(&["-x", "cow", "back"]);
    assert_eq!(finished.code(), 2);
    assert!(finished.err().ends_with(usage), "{}", finished.err());
    assert_eq!(place.names(), ["back"]);
    assert_eq!(place.mkcow(&["--help"]).success().err(), "");
    assert!(
        place
            .mkcow(&["--version"])
            .success()
            .out()
            .starts_with("uml_mkcow ")
    );
}

#[test]
fn more_operands_are_ignored_as_ever() {
    let place = Place::new();
    quiet_success(&place.mkcow(&["cow", "back", "third"]));
    assert_eq!(place.names(), ["back", "cow"]);
}

#[test]
fn the_name_is_absolute_and_keeps_its_last_component() {
    let place = Place::new();
    fs::create_dir(place.at("dir")).unwrap();
    fs::rename(place.at("back"), place.at("dir/back")).unwrap();
    symlink("dir", place.at("link")).unwrap();
    symlink("back", place.at("dir/other")).unwrap();
    let real = place.0.path().canonicalize().unwrap();
    for (given, kept) in [
        ("dir/back", "dir/back"),
        ("./link/../dir//back", "dir/back"),
        ("link/other", "dir/other"),
    ] {
        quiet_success(&place.mkcow(&["-f", "cow", given]));
        assert_eq!(place.backing_of("cow"), real.join(kept), "{given}");
    }
}

#[test]
fn empty_odd_and_huge_backing_files() {
    let place = Place::new();
    File::create(place.at("empty")).unwrap();
    quiet_success(&place.mkcow(&["cow", "empty"]));
    assert_eq!(place.at("cow").metadata().unwrap().len(), 8192);
    fs::write(place.at("one"), "1").unwrap();
    quiet_success(&place.mkcow(&["cow1", "one"]));
    assert_eq!(place.at("cow1").metadata().unwrap().len(), 12_289);
    // Larger than any offset in an int, and as large as the file system allows.
    let tmpfs = tempfile::tempdir_in("/dev/shm").unwrap();
    let huge = tmpfs.path().join("huge");
    File::create(&huge).unwrap().set_len(16 << 40).unwrap();
    let cow = tmpfs.path().join("cow");
    quiet_success(&place.mkcow(&[cow.to_str().unwrap(), huge.to_str().unwrap()]));
    assert_eq!(cow.metadata().unwrap().len(), 8192 + (4 << 30) + (16 << 40));
    assert!(cow.metadata().unwrap().blocks() <= 24);
}

#[test]
fn a_name_that_the_header_has_no_room_for_is_refused() {
    let place = Place::new();
    let mut directory = place.0.path().to_path_buf();
    let most = 4095 - "/back".len();
    while directory.as_os_str().len() + 201 < most {
        directory.push("d".repeat(200));
    }
    // Such a path can't be opened at once either: the system says so.
    directory.push("d".repeat(250));
    let finished = place.mkcow(&["cow", directory.join("back").to_str().unwrap()]);
    assert_eq!(finished.code(), 1);
    assert_eq!(place.names(), ["back"]);
}

#[test]
fn files_in_use_are_left_alone() {
    let place = Place::new();
    old_cow(&place.at("cow"), &place.at("back"));
    let open = |name: &str| {
        OpenOptions::new()
            .read(true)
            .write(true)
            .open(place.at(name))
            .unwrap()
    };
    let before = fs::read(place.at("cow")).unwrap();
    let pid = format!("process {}", std::process::id());
    let guest = open("cow");
    lock(&guest, &place.at("cow"), LockKind::Write).unwrap();
    let finished = place.mkcow(&["-f", "cow", "back"]);
    assert_eq!(finished.code(), 1);
    assert!(
        finished.err().contains("'cow' is in use by"),
        "{}",
        finished.err()
    );
    assert!(finished.err().contains(&pid), "{}", finished.err());
    drop(guest);
    assert!(fs::read(place.at("cow")).unwrap() == before);

    let guest = open("back");
    lock(&guest, &place.at("back"), LockKind::Write).unwrap();
    let finished = place.mkcow(&["new", "back"]);
    assert_eq!(finished.code(), 1);
    assert!(finished.err().contains(&pid), "{}", finished.err());
    lock(&guest, &place.at("back"), LockKind::Read).unwrap();
    quiet_success(&place.mkcow(&["new", "back"]));
    assert_eq!(place.names(), ["back", "cow", "new"]);
}

#[test]
fn what_an_interrupted_merge_needs_is_not_replaced() {
    let place = Place::new();
    old_cow(&place.at("cow"), &place.at("back"));
    let before = fs::read(place.at("cow")).unwrap();
    fs::write(place.at(".cow.merge-journal"), "").unwrap();
    let finished = place.mkcow(&["-f", "cow", "back"]);
    assert_eq!(finished.code(), 1);
    assert!(
        finished.err().contains("finish that first with uml_moo -d"),
        "{}",
        finished.err()
    );
    assert!(fs::read(place.at("cow")).unwrap() == before);
}

#[test]
fn a_limit_on_the_files_length_leaves_the_old_file() {
    let place = Place::new();
    old_cow(&place.at("cow"), &place.at("back"));
    let before = fs::read(place.at("cow")).unwrap();
    let mut command = Command::new("bash");
    // In KiB: less than the new file's length.
    command.args(["-c", "ulimit -f 8; trap '' XFSZ; exec \"$0\" -f cow back"]);
    command
        .arg(env!("CARGO_BIN_EXE_uml_mkcow"))
        .current_dir(place.0.path());
    let finished = run(&mut command);
    assert_eq!(finished.code(), 1);
    assert!(
        finished.err().ends_with(": File too large\n"),
        "{}",
        finished.err()
    );
    assert!(fs::read(place.at("cow")).unwrap() == before);
    assert_eq!(place.names(), ["back", "cow"]);
}
