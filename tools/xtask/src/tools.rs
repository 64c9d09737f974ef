//! The tools, as the man pages and completions need them.

use std::path::PathBuf;

use clap::{Command, CommandFactory};
use uml_core::cli::command;

/// One tool.
pub(crate) struct Tool {
    /// The binary's name.
    pub(crate) name: &'static str,
    /// The section of the manual that its page is in.
    pub(crate) section: &'static str,
    /// One clause, for the page's NAME line.
    pub(crate) summary: &'static str,
    /// Its command line.
    pub(crate) command: fn() -> Command,
}

impl Tool {
    /// The folder of the page's hand-written sections.
    pub(crate) fn man_dir(&self) -> PathBuf {
        workspace().join("crates").join(self.name).join("man")
    }
}

/// All tools, by name.
pub(crate) const ALL: [Tool; 8] = [
    Tool {
        name: "port-helper",
        section: "8",
        summary: "hand a terminal to a User-Mode Linux kernel",
        command: command::<port_helper::cli::Cli>,
    },
    Tool {
        name: "tunctl",
        section: "8",
        summary: "make, list and delete tun and tap devices",
        command: <tunctl::cli::Cli as CommandFactory>::command,
    },
    Tool {
        name: "uml_mconsole",
        section: "1",
        summary: "talk to the management console of a User-Mode Linux guest",
        command: command::<uml_mconsole::cli::Cli>,
    },
    Tool {
        name: "uml_mkcow",
        section: "1",
        summary: "make a copy-on-write disk for a User-Mode Linux guest",
        command: command::<uml_mkcow::cli::Cli>,
    },
    Tool {
        name: "uml_moo",
        section: "1",
        summary: "merge a copy-on-write disk with its backing file",
        command: command::<uml_moo::cli::Cli>,
    },
    Tool {
        name: "uml_net",
        section: "8",
        summary: "set up the host side of a User-Mode Linux guest's network",
        command: command::<uml_net::cli::Cli>,
    },
    Tool {
        name: "uml_switch",
        section: "1",
        summary: "a virtual Ethernet switch for User-Mode Linux guests",
        command: command::<uml_switch::cli::Cli>,
    },
    Tool {
        name: "uml_watchdog",
        section: "8",
        summary: "watch over a User-Mode Linux guest",
        command: command::<uml_watchdog::cli::Cli>,
    },
];

/// The top of the source tree.
pub(crate) fn workspace() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}
