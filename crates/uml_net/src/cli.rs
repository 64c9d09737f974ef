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
Calls of version 4, the newest:
  tuntap up GATE              make a tap device of the caller's with the host's address GATE
  add DEV IP NETMASK          make a guest's address reachable through its device
  del DEV IP NETMASK          undo that
  slip up GATE, slip down     the same for the serial line on descriptor 0
Each is answered on descriptor 1, failures too: the guest waits for it and prints it.

It needs privilege: setuid root (4750, group uml-net), or the file capability cap_net_admin=ep.
Refusals are logged to the system's log, facility auth.

Files:
  /etc/uml/uml_net.toml       the policy: who may call, which addresses (see uml_net(8))
  /run/uml_net                what was before, until the last guest is gone";

/// Whether these words, without the program's name, are for the people's command line.
#[must_use]
pub fn is_for_people(words: &[OsString]) -> bool {
    matches!(
        words.first().map(OsString::as_os_str).map(OsStr::as_bytes),
        Some([b'-', b'-', ..] | b"-h" | b"-V")
    )
}
