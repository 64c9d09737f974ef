//! Who is attached to which device.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
};

use nix::unistd::geteuid;

/// A process with a descriptor on a tun or tap device.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Holder {
    pub(crate) pid: u32,
    /// The name of its program, as the kernel keeps it (15 bytes).
    pub(crate) command: String,
}

/// The holders of each device of this network namespace, as far as the caller may see them.
#[derive(Debug, Default)]
pub(crate) struct Holders {
    by_device: HashMap<String, Vec<Holder>>,
}

impl Holders {
    /// Looks at every descriptor of every process.
    pub(crate) fn find() -> Self {
        let own_namespace = fs::read_link("/proc/thread-self/ns/net").ok();
        let mut found = Self::default();
        for (pid, process) in numbered(Path::new("/proc")) {
            // Devices of the same name in another namespace are others.
            if fs::read_link(process.join("ns/net")).ok() != own_namespace {
                continue;
            }
            let mut devices: Vec<String> = numbered(&process.join("fd"))
                .filter(|(_, descriptor)| is_clone_device(descriptor))
                .filter_map(|(number, _)| attached_to(&process.join(format!("fdinfo/{number}"))))
                .collect();
            devices.sort();
            devices.dedup();
            let command = fs::read(process.join("comm")).unwrap_or_default();
            let command = String::from_utf8_lossy(&command);
            for device in devices {
                let holder = Holder {
                    pid,
                    command: command.trim_end().escape_debug().to_string(),
                };
                found.by_device.entry(device).or_default().push(holder);
            }
        }
        for holders in found.by_device.values_mut() {
            holders.sort();
        }
        found
    }

    /// The holders of a device, by their process ids.
    pub(crate) fn of(&self, device: &str) -> &[Holder] {
        self.by_device.get(device).map_or(&[], Vec::as_slice)
    }

    /// `linux (pid 4711) and vde_plug (pid 4712)`, or what to do to learn it.
    pub(crate) fn describe(&self, device: &str) -> String {
        let holders: Vec<String> = self
            .of(device)
            .iter()
            .map(|holder| format!("{} (pid {})", holder.command, holder.pid))
            .collect();
        if !holders.is_empty() {
            holders.join(" and ")
        } else if all_are_visible() {
            "a process that can't be seen from here".to_owned()
        } else {
            "a process that only root can see".to_owned()
        }
    }
}

/// Whether the caller sees everybody's descriptors.
pub(crate) fn all_are_visible() -> bool {
    geteuid().is_root()
}

/// The entries of a folder whose names are numbers.
fn numbered(folder: &Path) -> impl Iterator<Item = (u32, PathBuf)> {
    // A process that ends meanwhile, or isn't the caller's, has no entries.
    let entries = fs::read_dir(folder).ok().into_iter().flatten().flatten();
    entries.filter_map(|entry| {
        let number = entry.file_name().to_str()?.parse().ok()?;
        Some((number, entry.path()))
    })
}

/// Most descriptors are something else, which their names tell without opening anything.
fn is_clone_device(descriptor: &Path) -> bool {
    fs::read_link(descriptor).is_ok_and(|target| target.file_name().is_some_and(|n| n == "tun"))
}

/// The tun driver tells the device's name in a line of its own: `iff:`, a tab, the name.
fn attached_to(info: &Path) -> Option<String> {
    let text = fs::read_to_string(info).ok()?;
    let name = text.lines().find_map(|line| line.strip_prefix("iff:"))?;
    Some(name.trim().to_owned())
}
