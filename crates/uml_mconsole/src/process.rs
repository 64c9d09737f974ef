//! What the host knows of a guest's process.

use std::{fs, time::Duration};

use nix::unistd::{SysconfVar, sysconf};

/// The fields of `/proc/PID/stat` behind the program's name, which stands in brackets and may
/// hold any characters. The first is the state.
fn stat(pid: i32) -> Option<Vec<String>> {
    let text = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let text = String::from_utf8_lossy(&text);
    let (_, fields) = text.rsplit_once(") ")?;
    Some(fields.split_whitespace().map(str::to_owned).collect())
}

/// Why a process may be silent, as far as its state tells.
#[must_use]
pub fn excuse(pid: i32) -> Option<&'static str> {
    match stat(pid)?.first()?.as_str() {
        "T" => Some("has been stopped by a signal"),
        "t" => Some("is held by a debugger"),
        "Z" | "X" => Some("has ended"),
        "D" => Some("is waiting for a disk"),
        _ => None,
    }
}

/// The process's parent.
#[must_use]
pub fn parent(pid: i32) -> Option<i32> {
    stat(pid)?.get(1)?.parse().ok()
}

/// How long ago the process started.
#[must_use]
pub fn uptime(pid: i32) -> Option<Duration> {
    // Field 22 of all, in clock ticks after the host's boot.
    let started: u64 = stat(pid)?.get(19)?.parse().ok()?;
    let ticks_per_second = u64::try_from(sysconf(SysconfVar::CLK_TCK).ok()??).ok()?;
    let host = fs::read_to_string("/proc/uptime").ok()?;
    let host: f64 = host.split_whitespace().next()?.parse().ok()?;
    let host = Duration::try_from_secs_f64(host).ok()?;
    let started = Duration::from_secs(started.checked_div(ticks_per_second)?);
    Some(host.saturating_sub(started))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_known() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let parent_id = i32::try_from(std::os::unix::process::parent_id()).unwrap();
        // The kernel may be busy with its memory for a moment, as with a disk.
        testkit::until("no excuse", || excuse(pid).is_none().then_some(()));
        assert_eq!(parent(pid), Some(parent_id));
        assert!(uptime(pid).unwrap() < Duration::from_secs(24 * 60 * 60));
        assert_eq!(uptime(i32::MAX), None);
    }
}
