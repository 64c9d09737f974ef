//! The files that packages install: units, users, directories, the init script's and hooks' syntax.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use testkit::{bins::installed, cmd::run};

/// The most that `systemd-analyze security` may say of each unit, in tenths: 0 is safest.
const EXPOSURE: [(&str, u32); 2] = [("uml_switch.service", 15), ("uml-network.service", 22)];

fn packaging(path: &str) -> PathBuf {
    fs::canonicalize(Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging"))
        .unwrap()
        .join(path)
}

/// The files of a folder, sorted.
fn files(dir: &str) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(packaging(dir))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(!files.is_empty());
    files
}

#[test]
fn systemd_takes_the_units() {
    let mut analyze = Command::new(installed("systemd-analyze", "systemd"));
    let said = run(analyze.args(["verify", "--man=no"]).args(files("systemd")));
    assert_eq!((said.code(), said.err()), (0, String::new()));
}

#[test]
fn the_units_stay_hardened() {
    for (unit, exposure) in EXPOSURE {
        let mut analyze = Command::new(installed("systemd-analyze", "systemd"));
        let said = run(analyze
            .args(["security", "--offline=true", "--no-pager"])
            .arg(format!("--threshold={exposure}"))
            .arg(packaging("systemd").join(unit)));
        assert!(said.status.success(), "{}{}", said.out(), said.err());
    }
}

#[test]
fn a_root_gets_its_user_and_directories() {
    let root = tempfile::tempdir().unwrap();
    let option = format!("--root={}", root.path().display());
    fs::create_dir_all(root.path().join("etc")).unwrap();
    for (program, dir, more) in [
        ("systemd-sysusers", "sysusers.d", None),
        ("systemd-tmpfiles", "tmpfiles.d", Some("--create")),
    ] {
        let target = root.path().join("usr/lib").join(dir);
        fs::create_dir_all(&target).unwrap();
        for file in files(dir) {
            fs::copy(&file, target.join(file.file_name().unwrap())).unwrap();
        }
        let said = run(Command::new(installed(program, "systemd"))
            .arg(&option)
            .args(more));
        assert!(said.status.success(), "{program}: {}", said.err());
    }
    let users = fs::read_to_string(root.path().join("etc/passwd")).unwrap();
    let user = users
        .lines()
        .find(|line| line.starts_with("uml-net:"))
        .unwrap();
    assert!(user.ends_with(":/nonexistent:/usr/sbin/nologin"), "{user}");
    assert!(root.path().join("run/uml-utilities").is_dir());
    assert!(root.path().join("run/uml_net").is_dir());
}

#[test]
fn the_shell_takes_the_scripts() {
    let mut scripts = files("ifupdown");
    scripts.extend(files("etc/init.d"));
    scripts.push(packaging("etc/default/uml-utilities"));
    scripts.push(packaging("install"));
    for script in scripts {
        let said = run(Command::new("sh").arg("-n").arg(&script));
        assert_eq!((said.code(), said.err()), (0, String::new()));
    }
}
