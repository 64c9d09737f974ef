//! SIGKILL at any moment: the next call puts right what was left.

use std::process::{Command, Stdio};

use testkit::{
    bins::installed,
    cmd::run,
    faults::{self, Moment},
};

use crate::kit::{As, Called, Kit, Out, Snapshot, Stub, close, on_a_host};

/// The system calls that change something, or come between two that do.
const MOMENTS: &str = "sendto write renameat unlinkat ioctl setresuid flock capset mkdir";

/// A call under strace, which kills it at this moment. Run by root it gives setuid programs their
/// privilege.
fn killed_at(kit: &Kit, moment: Moment<'_>, args: &[&str]) -> Called {
    let Moment { call, time } = moment;
    let mut command = Command::new(installed("strace", "strace"));
    command
        .args(["-qq", "-u", "nobody", "-o", "/dev/null"])
        .args(["-e", &format!("trace={call}")])
        .args(["-e", &format!("inject={call}:signal=KILL:when={time}")])
        .arg(kit.binary(As::Setuid))
        .args(args)
        .stdin(Stdio::null())
        .stderr(Stdio::piped());
    Stub::start(command, Out::Datagrams).finish()
}

/// Kills a call at each of its moments in turn; after each, `check` looks at the host.
fn at_each_moment(kit: &Kit, args: &[&str], mut check: impl FnMut(Moment<'_>)) -> usize {
    faults::at_each_moment(MOMENTS, |moment| {
        let called = killed_at(kit, moment, args);
        let code = called.code;
        close([called]);
        check(moment);
        code == 128 + 9
    })
}

fn call(kit: &Kit, args: &[&[u8]]) {
    let _ = run(&mut kit.command(As::Setuid, "", args));
}

#[test]
fn killed_while_a_tap_is_made() {
    on_a_host(|kit| {
        let before = Snapshot::take();
        let moments = at_each_moment(kit, &["4", "tuntap", "up", "192.168.78.254"], |moment| {
            call(kit, &[b"--clean"]);
            before.assert_holds(&format!("killed at {moment:?}"));
        });
        assert!(moments > 15, "{moments}");
    });
}

#[test]
fn killed_while_an_address_is_added() {
    on_a_host(|kit| {
        let before = Snapshot::take();
        let args = ["4", "add", "mine", "192.0.2.99", "255.255.255.0"];
        let delete: &[&[u8]] = &[b"4", b"del", b"mine", b"192.0.2.99", b"255.255.255.0"];
        let moments = at_each_moment(kit, &args, |moment| {
            call(kit, delete);
            before.assert_holds(&format!("killed at {moment:?}"));
        });
        assert!(moments > 15, "{moments}");
    });
}

#[test]
fn killed_while_an_address_is_deleted() {
    on_a_host(|kit| {
        let before = Snapshot::take();
        let args = ["4", "del", "mine", "192.0.2.99", "255.255.255.0"];
        let add: &[&[u8]] = &[b"4", b"add", b"mine", b"192.0.2.99", b"255.255.255.0"];
        let delete: &[&[u8]] = &[b"4", b"del", b"mine", b"192.0.2.99", b"255.255.255.0"];
        call(kit, add);
        let moments = at_each_moment(kit, &args, |moment| {
            call(kit, delete);
            before.assert_holds(&format!("killed at {moment:?}"));
            call(kit, add);
        });
        assert!(moments > 15, "{moments}");
    });
}
