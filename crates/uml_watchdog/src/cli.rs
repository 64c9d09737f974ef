//! The command line.

use std::{path::PathBuf, time::Duration};

use clap::Parser;
use uml_core::cli::Usage;

/// What a wrong command line gets.
pub const USAGE: Usage = Usage {
    text: "Usage : uml_watchdog -pid pid | -mconsole socket-name",
    status: 1,
};

/// The old words with one dash.
pub const WORDS: [&str; 2] = ["pid", "mconsole"];

/// Watch over a User-Mode Linux guest.
///
/// The guest's kernel runs it when a program in the guest opens /dev/watchdog. It writes one byte
/// to standard output when it is ready, and takes each byte on standard input for a sign of life;
/// their end is the end of the watch. After a silence it ends the guest's process, or sends a
/// notification.
#[derive(Debug, Parser)]
#[command(name = "uml_watchdog", version, max_term_width = 100)]
pub struct Cli {
    /// The guest's process: SIGINT twice, a second apart, then SIGKILL after another second.
    #[arg(
        long,
        value_name = "PID",
        value_parser = clap::value_parser!(i32).range(1..),
        required_unless_present = "mconsole",
        conflicts_with = "mconsole"
    )]
    pub pid: Option<i32>,

    /// The socket that hears the guest's notifications: tell it that the guest hangs.
    #[arg(long, value_name = "SOCKET")]
    pub mconsole: Option<PathBuf>,

    /// How long the guest may be silent: a day at most.
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    pub timeout: Duration,
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(number @ 1..=86_400) => Ok(Duration::from_secs(number)),
        _ => Err("not a number of seconds from 1 to 86400".to_owned()),
    }
}
