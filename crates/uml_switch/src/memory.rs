//! How much memory the switch may take.

use std::{fs, path::Path};

use nix::sys::resource::{Resource, getrlimit};

/// The least limit that this process runs under, in bytes: `RLIMIT_AS`, or one of its control
/// groups'. Without any it is more than there is.
#[must_use]
pub(crate) fn limit() -> usize {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let least = groups
        .lines()
        .filter_map(|line| group_limit(Path::new("/sys/fs/cgroup"), line))
        .chain(getrlimit(Resource::RLIMIT_AS).map(|(soft, _)| soft))
        .min();
    least.map_or(usize::MAX, |bytes| {
        usize::try_from(bytes).unwrap_or(usize::MAX)
    })
}

/// The least limit of a control group and of those around it. The line is one of
/// `/proc/self/cgroup`: `0::/PATH`, or with cgroups of version 1 `NUMBER:memory:/PATH`.
fn group_limit(mount: &Path, line: &str) -> Option<u64> {
    let mut fields = line.splitn(3, ':').skip(1);
    let (controllers, path) = (fields.next()?, fields.next()?);
    let (root, file) = if controllers.is_empty() {
        (mount.to_path_buf(), "memory.max")
    } else if controllers.split(',').any(|name| name == "memory") {
        (mount.join("memory"), "memory.limit_in_bytes")
    } else {
        return None;
    };
    let group = root.join(path.trim_start_matches('/'));
    let around = group.ancestors().take_while(|dir| dir.starts_with(&root));
    around
        .filter_map(|dir| {
            let text = fs::read_to_string(dir.join(file)).ok()?;
            // `max`: no limit.
            text.trim_end().parse().ok()
        })
        .min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_limit_of_the_groups_around_counts() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::create_dir_all(root.join("memory/c")).unwrap();
        let limit = |line: &str| group_limit(root, line);
        assert_eq!(limit("0::/a/b"), None);
        fs::write(root.join("a/b/memory.max"), "max\n").unwrap();
        assert_eq!(limit("0::/a/b"), None);
        fs::write(root.join("a/memory.max"), "70\n").unwrap();
        assert_eq!(limit("0::/a/b"), Some(70));
        fs::write(root.join("a/b/memory.max"), "8\n").unwrap();
        assert_eq!(limit("0::/a/b"), Some(8));
        assert_eq!(limit("0::/a"), Some(70));
        fs::write(root.join("memory/c/memory.limit_in_bytes"), "9\n").unwrap();
        assert_eq!(limit("4:cpu,memory:/c"), Some(9));
        assert_eq!(limit("4:cpu:/c"), None);
        assert_eq!(limit(""), None);
    }
}
