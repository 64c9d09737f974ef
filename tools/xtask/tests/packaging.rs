//! The files that packages install: units, users, directories, the init script's and hooks' syntax.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use testkit::{
    bins::{installed, ours},
    cmd::{Finished, run},
    netns::{ip, isolated},
};

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

#[test]
fn all_name_one_version() {
    let version = env!("CARGO_PKG_VERSION");
    for (file, line) in [
        (
            "debian/changelog",
            format!("uml-utilities-rs ({version}-1) "),
        ),
        ("CHANGELOG.md", format!("## {version} (")),
        (
            "rpm/uml-utilities-rs.spec",
            format!("%{{!?version_: %global version_ {version}}}"),
        ),
    ] {
        let text = fs::read_to_string(packaging(file)).unwrap();
        assert!(
            text.lines().any(|l| l.starts_with(&line)),
            "{file}: no {line}"
        );
    }
    let spec = fs::read_to_string(packaging("rpm/uml-utilities-rs.spec")).unwrap();
    let newest = spec.lines().skip_while(|line| *line != "%changelog").nth(1);
    assert!(
        newest.unwrap().ends_with(&format!(" - {version}-1")),
        "{newest:?}"
    );
}

/// Puts a folder or file in the place of another, for this thread's mount namespace.
fn bind(from: &Path, to: &str) {
    let mut mount = Command::new(installed("mount", "mount"));
    let said = run(mount.arg("--bind").arg(from).arg(to));
    assert!(said.status.success(), "{}", said.err());
}

/// `ifup` or `ifdown` with this configuration.
fn ifupdown(program: &str, interfaces: &Path, interface: &str) -> Finished {
    let mut command = Command::new(installed(program, "ifupdown"));
    let said = run(command
        .arg("--verbose")
        .arg("-i")
        .arg(interfaces)
        .arg(interface));
    assert!(said.status.success(), "{}{}", said.out(), said.err());
    said
}

#[test]
fn ifup_and_ifdown_run_the_hooks() {
    const INTERFACES: &str = "\
        iface tap7 inet static\n\
        address 192.0.2.10/32\n\
        tunctl_user nobody\n\
        uml_proxy_arp 192.0.2.52 192.0.2.53\n\
        uml_proxy_ether lan0\n";
    isolated(|| {
        let dir = tempfile::tempdir().unwrap();
        let interfaces = dir.path().join("interfaces");
        fs::write(&interfaces, INTERFACES).unwrap();
        // The hooks as packages install them, alone; ifupdown's memory; our tunctl.
        let state = dir.path().join("state");
        fs::create_dir(&state).unwrap();
        fs::create_dir_all("/run/network").unwrap();
        bind(&state, "/run/network");
        for event in ["if-pre-up", "if-up", "if-down", "if-post-down"] {
            let hooks = dir.path().join(event);
            fs::create_dir(&hooks).unwrap();
            if event != "if-post-down" {
                fs::copy(
                    packaging("ifupdown").join(event),
                    hooks.join("uml-utilities"),
                )
                .unwrap();
            }
            bind(&hooks, &format!("/etc/network/{event}.d"));
        }
        bind(&ours("tunctl"), "/usr/bin/tunctl");
        ip("link add lan0 type veth peer name lan1");
        ip("addr add 192.0.2.10/24 dev lan0");
        ip("link set lan0 up");

        for _ in 0..2 {
            ifupdown("ifup", &interfaces, "tap7");
            let owner = fs::read_to_string("/sys/class/net/tap7/owner").unwrap();
            assert_eq!(owner.trim(), "65534");
            let routes = ip("-4 route show dev tap7");
            assert!(routes.contains("192.0.2.52 "), "{routes}");
            assert!(routes.contains("192.0.2.53 "), "{routes}");
            let proxies = ip("neigh show proxy");
            assert_eq!(proxies.matches("dev lan0").count(), 2, "{proxies}");
            let proxy_arp = fs::read_to_string("/proc/sys/net/ipv4/conf/tap7/proxy_arp").unwrap();
            assert_eq!(proxy_arp.trim(), "1");

            ifupdown("ifdown", &interfaces, "tap7");
            assert_eq!(ip("neigh show proxy"), "");
            assert_eq!(ip("-4 route show dev tap7"), "");
            // The device stays, for whoever is attached to it.
            assert!(ip("link show tap7").contains("DOWN"));
        }
    });
}
