//! The command line.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::{ArgAction, Parser};
use uml_core::cli::any_path;

use crate::fabric::DEFAULT_TABLE_SIZE;

/// Words that may have one dash, with how many words behind each belong to it, whatever they are.
const WORDS: [(&str, usize); 8] = [
    ("unix", 1),
    ("hub", 0),
    ("tap", 1),
    ("daemon", 0),
    ("compat-v0", 0),
    ("bess", 1),
    ("vde", 1),
    ("fd", 1),
];

/// The control socket where none is named.
pub const DEFAULT_CONTROL: &str = "/tmp/uml.ctl";

/// The data socket of `-compat-v0` where none is named.
pub const DEFAULT_DATA: &str = "/tmp/uml.data";

/// A virtual Ethernet switch: connects User-Mode Linux guests with each other and with tap devices.
///
/// A guest up to Linux 6.15 plugs in with `eth0=daemon,,unix,CONTROL` on its command line, CONTROL
/// being the path given to -unix. Linux 6.16 and later have no `daemon` any more: start the switch
/// with `-bess PATH` and the guest with `vec0:transport=bess,dst=PATH`; earlier kernels that have
/// the vector transports understand that too. Clients of VDE (`vde_plug vde://DIR`, QEMU's
/// `-netdev vde,sock=DIR`, `eth0=vde,DIR`) plug in at the folder given to -vde.
///
/// SIGINT, SIGTERM and SIGHUP end the switch and remove its sockets; SIGUSR1 logs what became of
/// the frames. On a terminal the end of input (ctrl-D) ends it too.
#[derive(Debug, Parser)]
// The last word counts: the system's own come before those of /etc/default/uml-utilities.
#[command(name = "uml_switch", version, args_override_self = true)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a switch of the command line"
)]
pub struct Cli {
    /// The control socket that guests plug in at (/tmp/uml.ctl); behind -compat-v0 the data socket
    /// follows it
    #[arg(long, value_name = "control-socket", value_parser = any_path())]
    pub unix: Option<PathBuf>,

    /// The data socket of guests of version 0 (/tmp/uml.data)
    #[arg(long, value_name = "data-socket", value_parser = any_path())]
    pub data: Option<PathBuf>,

    /// Send every frame to all ports
    #[arg(long)]
    pub hub: bool,

    /// Connect this tap device, which is made if there is none; may be given several times
    #[arg(long, value_name = "tap-device", action = ArgAction::Append)]
    pub tap: Vec<String>,

    /// Go to the background once everything is set up
    #[arg(long)]
    pub daemon: bool,

    /// Take requests of version 0 too: such guests name the data socket themselves
    #[arg(long)]
    pub compat_v0: bool,

    /// Listen here for guests with `vec0:transport=bess,dst=PATH`; may be given several times
    #[arg(long, value_name = "PATH", action = ArgAction::Append)]
    pub bess: Vec<PathBuf>,

    /// Serve the clients of VDE in this folder, which is made if there is none; may be given
    /// several times
    #[arg(long, value_name = "DIR", action = ArgAction::Append)]
    pub vde: Vec<PathBuf>,

    /// Connect the inherited descriptor N, one end of a pair of datagram or packet sockets; may be
    /// given several times
    #[arg(long, value_name = "N", action = ArgAction::Append, value_parser = clap::value_parser!(i32).range(3..))]
    pub fd: Vec<i32>,

    /// The access rights of the sockets, in octal
    #[arg(long, value_name = "MODE", value_parser = octal)]
    pub mode: Option<u32>,

    /// The group of the sockets, by name or number
    #[arg(long, value_name = "GROUP")]
    pub group: Option<OsString>,

    /// Run as this user, by name or number, once everything is set up
    #[arg(long, value_name = "USER")]
    pub user: Option<OsString>,

    /// Let only these users plug in (and the groups of --allow-gid); may be given several times
    #[arg(long, value_name = "UID", action = ArgAction::Append)]
    pub allow_uid: Vec<u32>,

    /// Let only members of these groups plug in (and the users of --allow-uid); may be given
    /// several times
    #[arg(long, value_name = "GID", action = ArgAction::Append)]
    pub allow_gid: Vec<u32>,

    /// Write the process id to this file once everything is set up, and remove it at the end
    #[arg(long, value_name = "FILE")]
    pub pidfile: Option<PathBuf>,

    /// Log to syslog instead of standard output
    #[arg(long)]
    pub syslog: bool,

    /// Log problems only
    #[arg(short, long, conflicts_with = "verbose")]
    pub quiet: bool,

    /// Log who plugs in too, and what becomes of the frames; twice: frames without a known
    /// destination as well
    #[arg(short, long, action = ArgAction::Count)]
    pub verbose: u8,

    /// Have at most N guests plugged in
    #[arg(long, value_name = "N")]
    pub ports: Option<usize>,

    /// Remember at most N Ethernet addresses
    #[arg(long, value_name = "N", default_value_t = DEFAULT_TABLE_SIZE, value_parser = clap::value_parser!(u32).range(1..=1 << 24))]
    pub mac_table_size: u32,

    /// Slow a sender down for at most MS milliseconds when its receiver has no room; 0: lose the
    /// frames instead
    #[arg(long, value_name = "MS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(..=10_000))]
    pub flow_wait: u64,

    /// Stay awake for US microseconds after each frame: a shorter way for a processor's time
    #[arg(long, value_name = "US", num_args = 0..=1, require_equals = true, default_missing_value = "50", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub spin: Option<u64>,
}

impl Cli {
    /// The longest time that a sender is slowed down for.
    #[must_use]
    pub const fn flow_wait(&self) -> Duration {
        Duration::from_millis(self.flow_wait)
    }

    /// The control socket.
    #[must_use]
    pub fn control_socket(&self) -> PathBuf {
        self.unix.clone().unwrap_or_else(|| DEFAULT_CONTROL.into())
    }

    /// The data socket, with `-compat-v0` only.
    #[must_use]
    pub fn data_socket(&self) -> Option<PathBuf> {
        let named = self.data.clone();
        self.compat_v0
            .then(|| named.unwrap_or_else(|| DEFAULT_DATA.into()))
    }
}

/// Spells a command line as ever into one that clap understands: `-unix CTL` into `--unix=CTL`, and
/// behind `-compat-v0` `-unix CTL DATA` into `--unix=CTL --data=DATA`.
///
/// As ever the word behind `-unix` is a path even where it looks like an option.
#[must_use]
pub fn spell(args: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut args = args.into_iter();
    let mut spelled: Vec<_> = args.next().into_iter().collect();
    let mut compat = false;
    while let Some(arg) = args.next() {
        let word = arg.to_str().and_then(|arg| arg.strip_prefix('-'));
        let word = word.map(|word| word.strip_prefix('-').unwrap_or(word));
        let Some(&(word, values)) = WORDS.iter().find(|(known, _)| Some(*known) == word) else {
            spelled.push(arg);
            continue;
        };
        compat |= word == "compat-v0";
        let mut option = |name: &str, value: Option<OsString>| {
            let mut option = OsString::from(format!("--{name}"));
            if let Some(value) = value {
                option.push("=");
                option.push(value);
            }
            spelled.push(option);
        };
        option(word, if values > 0 { args.next() } else { None });
        if word == "unix" && compat {
            option("data", args.next());
        }
    }
    spelled
}

/// The usage text, with the name that the program was called by.
#[must_use]
pub fn usage_text(name: &str) -> String {
    format!(
        "Usage : {name} [ -unix control-socket ] [ -hub ] [ -tap tap-device ]\n\
         or : {name} -compat-v0 [ -unix control-socket data-socket ] [ -hub ] [ -tap tap-device ]"
    )
}

fn octal(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o777 => Ok(mode),
        _ => Err("not an octal number up to 777".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spelled(args: &str) -> String {
        let words = std::iter::once("x")
            .chain(args.split(' '))
            .map(OsString::from);
        let spelled = spell(words).into_iter().skip(1);
        let words: Vec<_> = spelled.map(|word| word.into_string().unwrap()).collect();
        words.join(" ")
    }

    #[test]
    fn old_words_keep_what_stands_behind_them() {
        assert_eq!(spelled("-unix a -hub"), "--unix=a --hub");
        assert_eq!(spelled("-unix -hub"), "--unix=-hub");
        assert_eq!(spelled("-unix a b"), "--unix=a b");
        assert_eq!(
            spelled("-compat-v0 -unix a b -tap t"),
            "--compat-v0 --unix=a --data=b --tap=t"
        );
        assert_eq!(spelled("-unix a -compat-v0"), "--unix=a --compat-v0");
        assert_eq!(spelled("-compat-v0 -unix a"), "--compat-v0 --unix=a --data");
        assert_eq!(
            spelled("--mode 0777 -q -x -unix"),
            "--mode 0777 -q -x --unix"
        );
    }

    #[test]
    fn the_last_word_counts_and_lists_go_on() {
        let cli = "x --mode 0777 --syslog -q --mode 0660 --syslog -q --tap a --tap b --hub --hub \
                   --unix a --unix b --pidfile a --pidfile b --ports 1 --ports 2 --group a --group b";
        let cli = Cli::try_parse_from(cli.split_whitespace()).unwrap();
        assert_eq!((cli.mode, cli.ports), (Some(0o660), Some(2)));
        assert!(cli.syslog && cli.quiet && cli.hub);
        assert_eq!(cli.tap, ["a", "b"]);
        assert_eq!(cli.control_socket(), PathBuf::from("b"));
        assert_eq!(cli.pidfile, Some("b".into()));
        assert_eq!(cli.group, Some("b".into()));
    }
}
