//! The command line.

use std::{
    ffi::OsString,
    mem,
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
    path::PathBuf,
    process::ExitCode,
};

use clap::{
    ArgAction, ArgMatches, CommandFactory as _, FromArgMatches as _, Parser,
    error::{ContextKind, ContextValue, ErrorKind},
};
use uml_core::{
    console,
    tuntap::{CLONE_DEVICE, Kind, Mode},
};

use crate::ids;

/// The options of a single device.
const OF_A_DEVICE: [&str; 10] = [
    "brief",
    "owner",
    "group",
    "device",
    "delete",
    "clone_device",
    "tun",
    "tap",
    "multi_queue",
    "vnet_hdr",
];

/// Makes, lists and deletes persistent tun and tap devices.
///
/// Without -d and the long options it makes a device, or attaches to an existing one, keeps it and
/// gives it to a user and a group: `tunctl -u USER -t tap0`. `TAP=$(tunctl -u USER -b)` takes the
/// next free name.
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent flags of a command line"
)]
#[derive(Debug, Parser)]
#[command(
    name = "tunctl",
    version,
    disable_help_flag = true,
    disable_version_flag = true,
    args_override_self = true
)]
pub struct Cli {
    /// Print only the device's name.
    #[arg(short)]
    brief: bool,

    /// The user who may attach to the device: a name, or a number (decimal, 0x…, 0…). Without -u
    /// and -g it is the caller.
    #[arg(short = 'u', value_name = "OWNER", allow_hyphen_values = true)]
    owner: Option<OsString>,

    /// The group whose members may attach to the device: a name, or a number.
    #[arg(short = 'g', value_name = "GROUP", allow_hyphen_values = true)]
    group: Option<OsString>,

    /// The device's name, at most 15 bytes. One "%d" in it stands for the first free number.
    #[arg(short = 't', value_name = "DEVICE", allow_hyphen_values = true)]
    device: Option<OsString>,

    /// Delete this device: it goes away once nobody is attached.
    #[arg(short = 'd', value_name = "DEVICE", allow_hyphen_values = true)]
    delete: Option<OsString>,

    /// The device through which tun and tap devices are made.
    #[arg(
        short = 'f',
        value_name = "TUN-CLONE-DEVICE",
        allow_hyphen_values = true,
        default_value = CLONE_DEVICE
    )]
    clone_device: PathBuf,

    /// Make a tun device: it carries IP packets.
    #[arg(short = 'n', overrides_with = "tap")]
    tun: bool,

    /// Make a tap device: it carries Ethernet frames. This is the default.
    #[arg(short = 'p', overrides_with = "tun")]
    tap: bool,

    /// Let several descriptors attach to the device at once, one for each queue.
    #[arg(long)]
    multi_queue: bool,

    /// Put a `virtio_net_hdr` before each frame.
    #[arg(long)]
    vnet_hdr: bool,

    /// List all tun and tap devices: kind, owner, group, users, addresses.
    #[arg(long, conflicts_with_all = OF_A_DEVICE)]
    list: bool,

    /// With --list: print JSON.
    #[arg(long, requires = "list")]
    json: bool,

    /// Set up the host's network as FILE describes it: taps, bridges, VXLAN links, guests' routes.
    /// What is in line already stays as it is; when something fails, all is undone.
    #[arg(
        long,
        value_name = "FILE",
        num_args = 0..=1,
        default_missing_value = NETWORK_FILE,
        group = "network",
        conflicts_with = "list",
        conflicts_with_all = OF_A_DEVICE
    )]
    apply: Option<PathBuf>,

    /// Say whether FILE is correct, and what is wrong in which line. Without FILE, here and with
    /// --apply and --remove: /etc/uml/network.toml.
    #[arg(
        long,
        value_name = "FILE",
        num_args = 0..=1,
        default_missing_value = NETWORK_FILE,
        conflicts_with_all = ["list", "network"],
        conflicts_with_all = OF_A_DEVICE
    )]
    check: Option<PathBuf>,

    /// Remove all that FILE describes.
    #[arg(
        long,
        value_name = "FILE",
        num_args = 0..=1,
        default_missing_value = NETWORK_FILE,
        group = "network",
        conflicts_with = "list",
        conflicts_with_all = OF_A_DEVICE
    )]
    remove: Option<PathBuf>,

    /// With --apply and --remove: print the changes and make none.
    #[arg(long, requires = "network")]
    dry_run: bool,

    /// Words that are no options: a wrong command line.
    #[arg(hide = true)]
    words: Vec<OsString>,

    /// Print help.
    #[arg(long, action = ArgAction::Help)]
    help: Option<bool>,

    /// Print version.
    #[arg(long, action = ArgAction::Version)]
    version: Option<bool>,
}

/// The network file that is meant when none is named.
pub const NETWORK_FILE: &str = "/etc/uml/network.toml";

/// What the command line asks for.
#[derive(Debug)]
pub(crate) enum Request {
    Create(Create),
    Delete(Delete),
    List(ListFormat),
    Check(PathBuf),
    Apply(PathBuf, Doing),
    Remove(PathBuf, Doing),
}

/// Whether changes are made or only shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Doing {
    ForReal,
    ForShow,
}

/// A device to make, or to attach to, and to keep.
#[derive(Debug)]
pub(crate) struct Create {
    /// Empty: the next free `tapN` or `tunN`.
    pub(crate) device: OsString,
    pub(crate) mode: Mode,
    pub(crate) owner: Option<u32>,
    pub(crate) group: Option<u32>,
    pub(crate) output: Output,
    pub(crate) clone_device: PathBuf,
}

/// What to print about a new device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Output {
    Sentence,
    Name,
}

/// A device to delete.
#[derive(Debug)]
pub(crate) struct Delete {
    pub(crate) device: OsString,
    /// The kind that the command line insists on.
    pub(crate) kind: Option<Kind>,
    pub(crate) clone_device: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ListFormat {
    Table,
    Json,
}

/// Parses a command line.
///
/// # Errors
/// The exit code to end with, after help, version or a usage error has been printed.
pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Request, ExitCode> {
    let args: Vec<OsString> = args.into_iter().collect();
    let program = args
        .first()
        .map_or_else(|| "tunctl".into(), |name| name.to_string_lossy())
        .into_owned();
    let parsed = Cli::command()
        .try_get_matches_from(keep_equals_signs(args))
        .and_then(|matches| Cli::from_arg_matches(&matches).map(|cli| (cli, matches)));
    let (cli, matches) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => return Err(refuse(&error, &program)),
    };
    request(cli, &matches).map_err(|what| usage(&what, &program))
}

/// To getopt `-t=x` names the device `=x`. clap takes one sign away, so it gets one more.
fn keep_equals_signs(args: Vec<OsString>) -> Vec<OsString> {
    const WITH_VALUE: &[u8] = b"ugtdf";
    // The program's name is no option either.
    let mut is_value = true;
    let mut are_words = false;
    let keep = |arg: OsString| {
        if mem::take(&mut is_value) || are_words {
            return arg;
        }
        are_words = arg == "--";
        let letters = match arg.as_bytes() {
            [b'-', letters @ ..] if !letters.starts_with(b"-") => letters,
            _ => return arg,
        };
        let option = letters
            .iter()
            .position(|letter| WITH_VALUE.contains(letter));
        let Some(value) = option.map(|option| option + 1) else {
            return arg;
        };
        is_value = value == letters.len();
        if letters.get(value) != Some(&b'=') {
            return arg;
        }
        let mut bytes = arg.into_vec();
        // Behind the dash.
        bytes.insert(value + 1, b'=');
        OsString::from_vec(bytes)
    };
    args.into_iter().map(keep).collect()
}

/// `Err` holds what is wrong: nothing where the usage text says it all.
fn request(cli: Cli, matches: &ArgMatches) -> Result<Request, String> {
    if !cli.words.is_empty() {
        return Err(String::new());
    }
    if cli.list {
        return Ok(Request::List(if cli.json {
            ListFormat::Json
        } else {
            ListFormat::Table
        }));
    }
    let doing = if cli.dry_run {
        Doing::ForShow
    } else {
        Doing::ForReal
    };
    match (cli.check, cli.apply, cli.remove) {
        (Some(file), _, _) => return Ok(Request::Check(file)),
        (_, Some(file), _) => return Ok(Request::Apply(file, doing)),
        (_, _, Some(file)) => return Ok(Request::Remove(file, doing)),
        (None, None, None) => {}
    }
    let owner = cli.owner.as_deref().map(ids::user).transpose()?;
    let group = cli.group.as_deref().map(ids::group).transpose()?;
    // -d and -t both name the device, and the later one counts.
    let name_is_later = matches.index_of("device") > matches.index_of("delete");
    let device = if name_is_later {
        cli.device.unwrap_or_default()
    } else {
        cli.delete.clone().or(cli.device).unwrap_or_default()
    };
    let kind = match (cli.tun, cli.tap) {
        (true, _) => Some(Kind::Tun),
        (false, true) => Some(Kind::Tap),
        (false, false) => None,
    };
    let clone_device = cli.clone_device;
    if cli.delete.is_some() {
        return Ok(Request::Delete(Delete {
            device,
            kind,
            clone_device,
        }));
    }
    Ok(Request::Create(Create {
        device,
        mode: Mode {
            kind: kind.unwrap_or_default(),
            packet_info: false,
            vnet_hdr: cli.vnet_hdr,
            multi_queue: cli.multi_queue,
        },
        owner,
        group,
        output: if cli.brief {
            Output::Name
        } else {
            Output::Sentence
        },
        clone_device,
    }))
}

/// Prints help and version to standard output, and what is wrong in getopt's words with the usage
/// text to standard error.
fn refuse(error: &clap::Error, program: &str) -> ExitCode {
    let argument = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(argument)) => argument.as_str(),
        _ => "",
    };
    let letter = argument.chars().nth(1).unwrap_or_default();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            match console::raw(error.render().to_string().as_bytes()) {
                Ok(()) => ExitCode::SUCCESS,
                Err(_) => ExitCode::FAILURE,
            }
        }
        ErrorKind::UnknownArgument if argument.starts_with("--") => usage(
            &format!("{program}: unrecognized option '{argument}' (see {program} --help)"),
            program,
        ),
        ErrorKind::UnknownArgument if argument.starts_with('-') => {
            usage(&format!("{program}: invalid option -- '{letter}'"), program)
        }
        ErrorKind::InvalidValue if !argument.starts_with("--") => usage(
            &format!("{program}: option requires an argument -- '{letter}'"),
            program,
        ),
        _ => {
            // clap's own sentence, without the hints and the usage after the first empty line.
            let text = error.render().to_string();
            let sentence: Vec<&str> = text
                .lines()
                .map(str::trim)
                .take_while(|line| !line.is_empty())
                .collect();
            let sentence = sentence.join(" ");
            let sentence = sentence.strip_prefix("error: ").unwrap_or(&sentence);
            usage(
                &format!("{program}: {sentence} (see {program} --help)"),
                program,
            )
        }
    }
}

/// The usage text of 2007.
fn usage(what: &str, program: &str) -> ExitCode {
    if !what.is_empty() {
        console::note(what);
    }
    console::note(format_args!(
        "Create: {program} [-b] [-u owner] [-g group] [-t device-name] [-f tun-clone-device]\n\
         Delete: {program} -d device-name [-f tun-clone-device]\n\
         \n\
         The default tun clone device is /dev/net/tun - some systems use\n\
         /dev/misc/net/tun instead\n\
         \n\
         -b will result in brief output (just the device name)"
    ));
    ExitCode::FAILURE
}
