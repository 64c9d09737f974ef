//! TCP between two real guests.

use std::{fs, path::Path, thread, time::Duration};

use testkit::guest::Guest;
use uml_core::error::IoError;

use crate::{
    error::Error,
    switch::{port::Endpoint, process::Switch},
};

/// Mebibytes that are sent.
const MEBIBYTES: u32 = 256;

/// How long a transfer may take: a guest's kernel is slow where others want the processors.
const PATIENCE: Duration = Duration::from_secs(600);

/// Sends 256 MiB of zeros from one guest to another; returns mebibytes per second.
///
/// # Errors
/// A guest doesn't boot, or the bytes don't arrive.
pub fn transfer(switch: &Switch) -> Result<f64, Error> {
    let share = tempfile::tempdir().map_err(IoError::at("making a directory in", "/tmp"))?;
    let (device, link) = match &switch.endpoint {
        Endpoint::Daemon(path) => ("eth0", format!("eth0=daemon,,unix,{}", path.display())),
        Endpoint::Bess(path) => (
            "vec0",
            format!("vec0:transport=bess,dst={}", path.display()),
        ),
        Endpoint::Vde(path) => ("eth0", format!("eth0=vde,{}", path.display())),
    };
    // The test kit panics where a guest fails; its words go to standard error.
    let run = || run_guests(share.path(), device, &link);
    thread::scope(|scope| scope.spawn(run).join())
        .map_err(|_| Error::Unsupported("a guest failed".into()))?;
    let file = |name: &str| share.path().join(name);
    let received = file("received");
    let text = fs::read_to_string(&received).map_err(IoError::at("reading", &received))?;
    let wanted = (u64::from(MEBIBYTES) << 20).to_string();
    if text.trim() != wanted {
        let got = text.trim();
        return Err(Error::Unsupported(format!(
            "{got} of {wanted} bytes arrived"
        )));
    }
    let time = |name: &str| {
        let path = file(name);
        let metadata = fs::metadata(&path).map_err(IoError::at("reading", &path))?;
        let created = metadata.created().map_err(IoError::at("reading", &path))?;
        Ok::<_, Error>(created)
    };
    // The host's clock, by the files that the guests made. (What they write comes later.)
    let took = time("received")?
        .duration_since(time("started")?)
        .unwrap_or_default();
    Ok(f64::from(MEBIBYTES) / took.as_secs_f64())
}

fn run_guests(share: &Path, device: &str, link: &str) {
    let receiver = format!(
        "ip link set {device} up
         ip address add 10.0.0.2/24 dev {device}
         # An input that never ends: at its end nc would close the connection.
         mkfifo /tmp/open
         exec 3<> /tmp/open
         nc -l -p 5000 <&3 | wc -c > /tmp/count &
         echo > /mnt/listening
         wait
         cat /tmp/count > /mnt/received"
    );
    let sender = format!(
        "ip link set {device} up
         ip address add 10.0.0.1/24 dev {device}
         ping -c 1 -W 10 10.0.0.2
         echo > /mnt/started
         dd if=/dev/zero bs=64k count={} | nc 10.0.0.2 5000",
        MEBIBYTES * 16
    );
    let mut to = Guest::new("bench-to", share, &receiver).arg(link).start();
    to.wait_for_file("listening");
    let from = Guest::new("bench-from", share, &sender).arg(link).start();
    from.halted_within(PATIENCE);
    to.halted_within(PATIENCE);
}
