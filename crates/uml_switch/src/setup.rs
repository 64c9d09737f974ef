//! From the command line to a switch that runs: sockets, devices, rights, readiness.

use std::{
    env,
    ffi::{CString, OsStr},
    fs::{self, File},
    io::{self, Write as _},
    os::{
        fd::AsFd,
        linux::net::SocketAddrExt as _,
        unix::{
            ffi::OsStrExt as _,
            net::{SocketAddr, UnixDatagram},
        },
    },
    path::{Path, PathBuf},
    process,
    time::Duration,
};

use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    sys::{
        resource::{Resource, getrlimit, setrlimit},
        socket::SockType,
        stat::{SFlag, fstat},
    },
    unistd::{self, Group, Uid, User, chdir, dup2_stderr, dup2_stdin, dup2_stdout},
};
use uml_core::{
    IoError,
    hostnet::{BadName, NamePattern},
    tuntap::{Device, Existing, Kind as DeviceKind, Mode, Step, TunTapError},
    wire::vde,
};

use crate::{
    callers::Dialect,
    cli::Cli,
    exchange::Exchange,
    fabric::{Fabric, Forwarding},
    inherit::Inherited,
    link::Kind,
    listen::{self, Bound, ListenError, OwnPath, Rights},
    log::Log,
    memory,
    peer::Allowed,
    server::{Door, Limits, Server},
};

/// Why the switch can't start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SetupError {
    /// A socket can't be had.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// A tap device can't be had.
    #[error("tap device '{name}'{}", way_out(source))]
    Tap {
        /// Its name.
        name: String,
        /// Why.
        source: TunTapError,
    },
    /// No device can have that name.
    #[error("tap device '{name}'")]
    TapName {
        /// The name.
        name: String,
        /// Why.
        source: BadName,
    },
    /// There is no such user or group.
    #[error("there is no {what} '{name}'")]
    Nobody {
        /// `user` or `group`.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// A descriptor that was to be inherited.
    #[error("descriptor {number}")]
    Descriptor {
        /// Its number.
        number: i32,
        /// What is wrong.
        source: io::Error,
    },
    /// Something else failed.
    #[error(transparent)]
    Io(#[from] IoError),
}

/// Makes a switch as the command line says, with everything bound and open, and with what it
/// inherited.
///
/// # Errors
/// What couldn't be had; the sockets that were made before are removed again.
pub(crate) fn make(
    cli: &Cli,
    name: &str,
    log: Log,
    inherited: Inherited,
) -> Result<Server, SetupError> {
    raise_descriptor_limit();
    let rights = Rights {
        mode: cli.mode,
        gid: cli.group.as_deref().map(group).transpose()?,
    };
    let forwarding = if cli.hub {
        Forwarding::Hub
    } else {
        Forwarding::Switch
    };
    let mut exchange = Exchange::new(Fabric::new(forwarding, cli.mac_table_size), cli.flow_wait());
    // Under a limit the rest is for ports and their queues, and for the allocator's gaps.
    exchange.limit_memory(memory::limit() / 4);
    let limits = Limits {
        allowed: Allowed {
            uids: cli.allow_uid.clone(),
            gids: cli.allow_gid.clone(),
        },
        ports: cli.ports,
    };
    let Inherited {
        links: mut fixed,
        doors,
    } = inherited;
    let given = doors
        .iter()
        .any(|door| door.dialect == Some(Dialect::Guest));
    let started = IoError::at("starting", "the event loop");
    let mut server =
        Server::new(log, exchange, limits, cli.spin.map(Duration::from_micros)).map_err(started)?;
    let mut told = Vec::new();
    for door in doors {
        told.push(door.name.clone());
        open_door(&mut server, door)?;
    }
    if !given {
        let bound = listen::bind_at("control", &cli.control_socket(), SockType::Stream, rights)?;
        let name = cli.control_socket().display().to_string();
        told.push(name.clone());
        open_door(&mut server, door(bound, Some(Dialect::Guest), name))?;
    }
    if let Some(data) = cli.data_socket() {
        let bound = listen::bind_at("data", &data, SockType::Datagram, rights)?;
        server
            .share_data_socket(bound.socket, bound.path)
            .map_err(IoError::at("watching", &data))?;
    }
    for path in &cli.bess {
        let bound = listen::bind_at("bess", path, SockType::SeqPacket, rights)?;
        open_door(&mut server, door(bound, None, path.display().to_string()))?;
    }
    for folder in &cli.vde {
        listen::make_folder(folder, rights)?;
        let path = folder.join(vde::CONTROL_NAME);
        let bound = listen::bind_at("control", &path, SockType::Stream, rights)?;
        open_door(
            &mut server,
            door(bound, Some(Dialect::Vde), path.display().to_string()),
        )?;
    }
    let sockets = match cli.data_socket() {
        Some(data) => format!("sockets '{}' and '{}'", told.join("', '"), data.display()),
        None => format!("socket '{}'", told.join("', '")),
    };
    let mut line = format!("{name} attached to unix {sockets}");
    for tap in &cli.tap {
        let device = open_tap(tap)?;
        let name = device.name().to_string();
        line.push_str(" tap device '");
        line.push_str(&name);
        line.push('\'');
        fixed.push((Kind::Tap, name, device.into_fd()));
    }
    server.log().say(line);
    for (kind, name, socket) in fixed {
        let watching = IoError::at("watching", &name);
        server
            .plug_fixed(kind, name.clone(), socket)
            .map_err(watching)?;
        if kind == Kind::Tap {
            server.log().say("New connection");
        }
    }
    Ok(server)
}

fn door(bound: Bound, dialect: Option<Dialect>, name: String) -> Door {
    Door {
        socket: bound.socket.into(),
        dialect,
        name,
        _path: Some(bound.path),
    }
}

fn open_door(server: &mut Server, door: Door) -> Result<(), IoError> {
    let name = door.name.clone();
    server
        .open_door(door)
        .map_err(IoError::at("watching", name))
}

/// What to do where this user may neither make the device nor attach to it.
fn way_out(error: &TunTapError) -> &'static str {
    if matches!(error.step, Step::Attach(_))
        && error.source.kind() == io::ErrorKind::PermissionDenied
    {
        " (root makes it for an unprivileged user: tunctl -u USER -t DEVICE)"
    } else {
        ""
    }
}

fn open_tap(name: &str) -> Result<Device, SetupError> {
    let pattern: NamePattern = name.parse().map_err(|source| SetupError::TapName {
        name: name.to_owned(),
        source,
    })?;
    let failed = |source| SetupError::Tap {
        name: name.to_owned(),
        source,
    };
    let device = Device::open(&pattern, Mode::plain(DeviceKind::Tap), Existing::Attach);
    let device = device.map_err(failed)?;
    set_nonblocking(&device).map_err(IoError::at("setting O_NONBLOCK on", name))?;
    Ok(device)
}

/// Has reads and writes of this descriptor never wait.
///
/// # Errors
/// What the system said.
pub(crate) fn set_nonblocking(fd: &impl AsFd) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
    fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}

fn raise_descriptor_limit() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        // Without it there is room for fewer guests, and the log says so when it is full.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

fn group(name: &OsStr) -> Result<u32, SetupError> {
    let text = name.to_string_lossy();
    if let Ok(gid) = text.parse() {
        return Ok(gid);
    }
    match Group::from_name(&text) {
        Ok(Some(group)) => Ok(group.gid.as_raw()),
        _ => Err(SetupError::Nobody {
            what: "group",
            name: text.into_owned(),
        }),
    }
}

/// Becomes another user for good, with that user's groups.
///
/// # Errors
/// Where there is no such user, or the system refuses.
pub(crate) fn become_user(name: &OsStr) -> Result<(), SetupError> {
    let text = name.to_string_lossy();
    let found = match text.parse() {
        Ok(uid) => User::from_uid(Uid::from_raw(uid)),
        Err(_) => User::from_name(&text),
    };
    let Ok(Some(user)) = found else {
        return Err(SetupError::Nobody {
            what: "user",
            name: text.into_owned(),
        });
    };
    let becoming = IoError::at("becoming user", Path::new(name));
    let switch = || -> Result<(), nix::Error> {
        let login = CString::new(user.name.clone()).map_err(|_| nix::Error::EINVAL)?;
        unistd::initgroups(&login, user.gid)?;
        unistd::setgid(user.gid)?;
        unistd::setuid(user.uid)
    };
    Ok(switch().map_err(|error| becoming(error.into()))?)
}

/// Writes the process id to a file that is removed at the end.
///
/// # Errors
/// What the system said.
pub(crate) fn write_pidfile(path: &Path) -> Result<OwnPath, IoError> {
    let writing = || IoError::at("writing pidfile", path);
    let text = format!("{}\n", process::id());
    // Under its name there is always a whole number.
    let mut part = path.as_os_str().to_owned();
    part.push(".new");
    let part = PathBuf::from(part);
    // What a killed switch left goes, and no link that somebody put there is followed.
    let _ = fs::remove_file(&part);
    File::create_new(&part)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .and_then(|()| fs::rename(&part, path))
        .map_err(|error| {
            let _ = fs::remove_file(&part);
            writing()(error)
        })?;
    OwnPath::at(path)
}

/// Tells the service manager that asks for it in `NOTIFY_SOCKET` that guests may plug in.
///
/// # Errors
/// Where it can't be reached, which is no reason for the switch to end.
pub(crate) fn tell_ready() -> Result<(), IoError> {
    let Some(name) = env::var_os("NOTIFY_SOCKET") else {
        return Ok(());
    };
    let tell = || -> io::Result<()> {
        let address = match name.as_bytes() {
            [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest)?,
            _ => SocketAddr::from_pathname(&name)?,
        };
        let text = format!("READY=1\nMAINPID={}\n", process::id());
        UnixDatagram::unbound()?.send_to_addr(text.as_bytes(), &address)?;
        Ok(())
    };
    tell().map_err(IoError::at("telling the service manager at", &name))
}

/// Lets go of the terminal and the caller's folder, as the last step on the way to the background.
///
/// Standard output and error stay where they are files, so that a log in a file goes on.
///
/// # Errors
/// What the system said.
pub(crate) fn let_go() -> Result<(), IoError> {
    let failed = || IoError::at("going to", "the background");
    let null = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")
        .map_err(IoError::at("opening", "/dev/null"))?;
    dup2_stdin(&null).map_err(|error| failed()(error.into()))?;
    if !is_file(io::stdout()) {
        dup2_stdout(&null).map_err(|error| failed()(error.into()))?;
    }
    if !is_file(io::stderr()) {
        dup2_stderr(&null).map_err(|error| failed()(error.into()))?;
    }
    chdir("/").map_err(|error| failed()(error.into()))
}

fn is_file(stream: impl AsFd) -> bool {
    fstat(stream).is_ok_and(|found| {
        SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT == SFlag::S_IFREG
    })
}
