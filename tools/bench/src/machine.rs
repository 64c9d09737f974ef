//! What machine the figures are from.

use std::{collections::BTreeMap, fs, process::Command};

/// Debian's packages whose programs are measured.
const PACKAGES: [&str; 6] = [
    "uml-utilities",
    "vde2",
    "qemu-utils",
    "coreutils",
    "iperf3",
    "user-mode-linux",
];

/// Names and values: processor, memory, kernel, versions. What can't be found out is left out.
#[must_use]
pub fn describe() -> BTreeMap<String, String> {
    let mut facts = BTreeMap::new();
    let mut add = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            facts.insert(name.to_owned(), value);
        }
    };
    let field = |path: &str, key: &str| {
        let text = fs::read_to_string(path).ok()?;
        let line = text.lines().find(|line| line.starts_with(key))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let cores = std::thread::available_parallelism().ok();
    let model = field("/proc/cpuinfo", "model name");
    add(
        "processor",
        model.map(|model| match cores {
            Some(cores) => format!("{model}, {cores} cores"),
            None => model,
        }),
    );
    add("memory", field("/proc/meminfo", "MemTotal"));
    let read = |path: &str| {
        fs::read_to_string(path)
            .ok()
            .map(|text| text.trim().to_owned())
    };
    add("kernel", read("/proc/sys/kernel/osrelease"));
    add(
        "net.unix.max_dgram_qlen",
        read("/proc/sys/net/unix/max_dgram_qlen"),
    );
    for package in PACKAGES {
        let output = Command::new("dpkg-query")
            .args(["-W", "-f", "${Version}", package])
            .output();
        let version = output.ok().filter(|output| output.status.success());
        let version = version.and_then(|output| String::from_utf8(output.stdout).ok());
        add(package, version.filter(|version| !version.is_empty()));
    }
    facts
}
