//! The command line as people see it. Guests' calls are read by [`crate::args`].

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt as _,
    path::PathBuf,
};

use clap::Parser;
use uml_core::cli::Usage;

use crate::policy;

/// What a wrong command line gets.
pub const USAGE: Usage = Usage {
    text: "uml_net : bad argument list - if you're running uml_net by\nhand, don't bother.  uml_net \
           is run automatically by UML when\nnecessary.",
    status: 1,
};

/// Sets up the host side of a User-Mode Linux guest's network.
///
/// A guest's kernel that was started with eth0=tuntap,,,ADDRESS finds uml_net on the search path
/// and runs it: it makes a tap device for the guest, gives it ADDRESS, and makes the guest's own
/// addresses reachable. Nobody needs to run it by hand.
#[derive(Debug, Parser)]
#[command(name = "uml_net", version, after_long_help = MORE)]
pub struct Cli {
    /// Check a policy file and say what is wrong with it
    #[arg(
        long,
        value_name = "FILE",
        num_args = 0..=1,
        default_missing_value = policy::PATH,
        conflicts_with = "clean"
    )]
    pub check_policy: Option<PathBuf>,

    /// Undo what guests have left that were killed, as each call does before its own work
    #[arg(long)]
    pub clean: bool,

    /// What the guest's kernel asks for: VERSION TRANSPORT ARGUMENTS
    #[arg(value_name = "CALL", hide_short_help = true)]
    pub call: Vec<OsString>,
}

const MORE: &str = "\
Calls of version 4, the newest (versions 0 to 3 have the descriptors in other places):
  tuntap up GATE              make a tap device of the caller's with the host's address GATE;
                              the guest gets its descriptor through descriptor 1
  add DEV IP NETMASK          a host route to the guest's address IP, proxy ARP on DEV, and a
                              published ARP entry on each other device whose network covers IP
  del DEV IP NETMASK          undo that
  slip up GATE, slip down     the same for the serial line on descriptor 0

Each call is answered on descriptor 1, failures too: a guest waits for the answer. The answer is
what was done, a line each, as ip would be told to do it; the guest prints it on its console.

Privilege:
  Installed setuid root (mode 4750, group uml-net) or with the file capability cap_net_admin=ep.
  With the capability alone, no state can be kept in /run/uml_net: forwarding, once switched on,
  stays on. A statically linked program answers whatever limit of descriptors its caller sets.

Addresses:
  Without a policy, a guest's address is a private one, or one of a network that the host is in. It
  is never an address of the host, of a router or name server that the host uses, or of a machine
  that the host knows; nor one that the host has a route to. The same holds for GATE, which may be
  an address of the host. What uml_net adds is marked with protocol 117 (ip route show proto 117),
  and nothing else is ever deleted.

Policy: /etc/uml/uml_net.toml, which only root may be able to write
  users = [\"alice\", 1001]       who may call; with neither users nor groups, everybody who may
  groups = [\"uml-net\"]          run the program (names of /etc/passwd and /etc/group)
  guests = [\"10.0.0.0/8\"]       what guests' addresses must be in
  gateways = [\"10.0.0.254\"]     what GATE must be in
  forwarding = true             whether net.ipv4.ip_forward may be switched on
  proxy_arp = true              whether the host may answer ARP for guests
  taps = 64                     how many taps a user may have at once
  addresses = 64                how many guests' addresses there may be behind a tap
  All keys may be left out. A file that others than root can write is ignored; one that can't be
  read by the caller or is wrong allows nothing.

Files:
  /etc/uml/uml_net.toml       the policy
  /run/uml_net                what was before, until the last guest is gone
Refusals are logged to the system's log, facility auth.";

/// Whether these words, without the program's name, are for the people's command line.
#[must_use]
pub fn is_for_people(words: &[OsString]) -> bool {
    matches!(
        words.first().map(OsString::as_os_str).map(OsStr::as_bytes),
        Some([b'-', b'-', ..] | b"-h" | b"-V")
    )
}
