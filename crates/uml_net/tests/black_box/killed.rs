//! SIGKILL at any moment: the next call puts right what was left.

use std::process::{Command, Stdio};

use testkit::{bins::installed, cmd::run};

use crate::kit::{As, Called, Kit, Out, Snapshot, Stub, close, on_a_host};

/// The system calls that change something, or come between two that do.
const MOMENTS: &str = "sendto,openat,write,renameat,unlinkat,ioctl,setresuid,flock,capset,mkdir";

/// A call under strace, which kills it at the `moment`th of [`MOMENTS`]. Run by root it gives
/// setuid programs their privilege.
fn killed_at(kit: &Kit, moment: usize, args: &[&str]) -> Called {
    let mut command = Command::new(installed("strace", "strace"));
    command
        .args(["-qq", "-u", "nobody", "-o", "/dev/null"])
        .args(["-e", &format!("trace={MOMENTS}")])
        .args(["-e", &format!("inject={MOMENTS}:signal=KILL:when={moment}")])
        .arg(kit.binary(As::Setuid))
        .args(args)
        .stdin(Stdio::null())
        .stderr(Stdio::piped());
    Stub::start(command, Out::Datagrams).finish()
}

/// Kills a call at each of its moments in turn; after each, `check` looks at the host.
fn at_each_moment(kit: &Kit, args: &[&str], mut check: impl FnMut(usize)) -> usize {
    for moment in 1.. {
        let called = killed_at(kit, moment, args);
        let code = called.code;
        close([called]);
        check(moment);
        if code != 128 + 9 {
            return moment - 1;
        }
    }
    unreachable!("a call ends")
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
            before.assert_holds(&format!("killed at moment {moment}"));
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
            before.assert_holds(&format!("killed at moment {moment}"));
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
            before.assert_holds(&format!("killed at moment {moment}"));
            call(kit, add);
        });
        assert!(moments > 15, "{moments}");
    });
}
