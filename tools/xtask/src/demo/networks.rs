//! Guests talk through the switch; a guest and its host talk through tap devices.

use std::{
    fs,
    os::unix::process::CommandExt as _,
    process::{Child, Command, Stdio},
};

use testkit::{cmd, guest::Guest, netns::ip, until};

use super::{Outcome, Story};

/// A program in the background that ends with the story.
struct Background(Child);

impl Drop for Background {
    fn drop(&mut self) {
        cmd::kill_group(&self.0);
        let _ = self.0.wait();
    }
}

/// One guest by the old transport, one by the one that kernels from 6.16 on have.
pub(super) fn through_the_switch(story: &mut Story) -> Outcome {
    let (control, bess) = (story.path("switch.ctl"), story.path("switch.bess"));
    let mut command = Command::new(story.bin_dir.join("uml_switch"));
    command
        .args(["-unix", &control, "-bess", &bess])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .process_group(0);
    let switch = command
        .spawn()
        .map_err(|error| format!("starting uml_switch: {error}"))?;
    let _switch = Background(switch);
    until("the switch's sockets", || {
        (fs::exists(&control).ok()? && fs::exists(&bess).ok()?).then_some(())
    });
    story
        .tell("uml_switch -unix switch.ctl -bess switch.bess: a switch for two kinds of guests.")?;

    let server = "ip addr add 10.0.0.1/24 dev eth0; ip link set eth0 up
touch /mnt/server-up
mkfifo /tmp/open; exec 3<>/tmp/open
nc -l -p 7000 <&3 >/mnt/received";
    let mut server = Guest::new("server", &story.dir, server)
        .root_disk(&story.root_disk("server"))
        .arg(format!("eth0=daemon,,unix,{control}"))
        .start();
    server.wait_for_file("server-up");
    let client = "ip addr add 10.0.0.2/24 dev vec0; ip link set vec0 up
head -c 1000000 /bin/busybox >/tmp/sent
ping -c 1 -W 10 10.0.0.1 && nc 10.0.0.1 7000 </tmp/sent && cp /tmp/sent /mnt/sent";
    Guest::new("client", &story.dir, client)
        .root_disk(&story.root_disk("client"))
        .arg(format!("vec0:transport=bess,dst={bess}"))
        .start()
        .halted();
    server.halted();
    let (sent, received) = (
        fs::read(story.path("sent"))?,
        fs::read(story.path("received"))?,
    );
    if sent.is_empty() || sent != received {
        return Err(format!(
            "{} bytes were sent, {} received",
            sent.len(),
            received.len()
        )
        .into());
    }
    story.tell(
        "Two guests, eth0=daemon and vec0:transport=bess, talk through it: a megabyte by TCP, unharmed.",
    )
}

/// One guest on a tap made by tunctl, one that has uml_net make its own.
pub(super) fn through_a_tap(story: &mut Story) -> Outcome {
    let made = story.tool("tunctl", &["-t", "tap0"])?;
    ip("addr add 192.168.77.254/24 dev tap0");
    ip("link set tap0 up");
    story.tell(format_args!("tunctl -t tap0: {}.", made.trim()))?;
    let script = "ip addr add 192.168.77.1/24 dev eth0; ip link set eth0 up
ping -c 1 -W 10 192.168.77.254";
    Guest::new("tapped", &story.dir, script)
        .root_disk(&story.root_disk("tapped"))
        .arg("eth0=tuntap,tap0")
        .start()
        .halted();
    story.tell("A guest on tap0 (eth0=tuntap,tap0) pings its host.")?;
    story.tool("tunctl", &["-d", "tap0"])?;

    let script = "ip addr add 192.168.78.1/24 dev eth0; ip link set eth0 up
touch /mnt/netted-up
ping -c 1 -W 10 192.168.78.254
while [ ! -e /mnt/host-done ]; do sleep 0.1; done";
    let mut guest = Guest::new("netted", &story.dir, script)
        .root_disk(&story.root_disk("netted"))
        .arg("eth0=tuntap,,,192.168.78.254")
        // The guest's kernel finds uml_net there, and no ifconfig, route or arp.
        .env("PATH", story.bin_dir.clone())
        .start();
    guest.wait_for_file("netted-up");
    let ping =
        cmd::run(Command::new("busybox").args(["ping", "-c", "1", "-W", "10", "192.168.78.1"]));
    fs::write(story.path("host-done"), "")?;
    let console = guest.halted();
    if !ping.status.success() {
        return Err(format!("the host got no answer from the guest: {}", ping.out()).into());
    }
    story.tell(
        "A guest with eth0=tuntap,,,192.168.78.254 has uml_net make its tap; both ping. It did:",
    )?;
    for line in console.lines().filter(|line| line.starts_with("* ")) {
        uml_core::console::line(format_args!("        {line}"))?;
    }
    Ok(())
}
