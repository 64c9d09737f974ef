//! The command line.

use std::path::PathBuf;

use clap::Parser;
use uml_core::cli::Usage;

/// What a wrong command line gets.
pub const USAGE: Usage = Usage {
    text: "Usage : port-helper [ -uml-socket socket-name ]",
    status: 1,
};

/// The old words with one dash.
pub const WORDS: [&str; 1] = ["uml-socket"];

/// Hand the terminal on standard input to a User-Mode Linux kernel.
///
/// The kernel runs it: in a terminal emulator for con=xterm, under telnetd for con=port:N. It
/// sends its process id and the terminal, gives the terminal up, and waits until it is killed.
#[derive(Debug, Parser)]
#[command(name = "port-helper", version, max_term_width = 100)]
pub struct Cli {
    /// The socket on which the kernel waits for the terminal; without it, descriptor 3 is a
    /// socket that is connected to the kernel.
    #[arg(long, value_name = "SOCKET")]
    pub uml_socket: Option<PathBuf>,
}
