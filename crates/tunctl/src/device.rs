//! Making and deleting one device.

use std::ffi::OsStr;

use nix::unistd::geteuid;
use uml_core::{
    console,
    error::{shown, system_text},
    hostnet::{DeviceName, Host, LinkKind, NamePattern, TunState},
    tuntap::{Device, Existing, Kind, Mode, Step, TunTapError},
};

use crate::{
    Failure,
    cli::{Create, Delete, Output},
    holders::Holders,
};

/// Makes a device, or attaches to it; keeps it and gives it away; prints its name.
pub(crate) fn create(create: &Create) -> Result<(), Failure> {
    // A device with neither owner nor group would be anybody's.
    let owner = match (create.owner, create.group) {
        (None, None) => Some(geteuid().as_raw()),
        (owner, _) => owner,
    };
    let pattern = pattern(&create.device, create.mode.kind)?;
    let make = || {
        let device = Device::open_through(
            &create.clone_device,
            &pattern,
            create.mode,
            Existing::Attach,
        )?;
        give_and_keep(&device, owner, create.group)?;
        Ok(device)
    };
    let device = make().map_err(|error| explain(&error))?;
    if create.output == Output::Name {
        return Ok(console::line(device.name())?);
    }
    let uid = owner.map(|id| format!(" uid {id}")).unwrap_or_default();
    let gid = create.group.map(|id| format!(" gid {id}"));
    Ok(console::line(format_args!(
        "Set '{}' persistent and owned by{uid}{}",
        device.name(),
        gid.unwrap_or_default()
    ))?)
}

/// Gives a device to a user and a group, and has it stay when nobody is attached.
pub(crate) fn give_and_keep(
    device: &Device,
    owner: Option<u32>,
    group: Option<u32>,
) -> Result<(), TunTapError> {
    if let Some(uid) = owner {
        device.set_owner(uid)?;
    }
    if let Some(gid) = group {
        device.set_group(gid)?;
    }
    // Last: until here a failure leaves no new device behind.
    device.set_persistent(true)
}

/// Deletes a device of either kind. One that doesn't exist is made and dropped, and the same line
/// printed: scripts rely on it.
pub(crate) fn delete(delete: &Delete) -> Result<(), Failure> {
    let state = delete.device.to_str().and_then(existing);
    let state = state.unwrap_or_default();
    let mode = Mode {
        multi_queue: state.multi_queue,
        ..Mode::plain(delete.kind.unwrap_or(state.kind))
    };
    let pattern = pattern(&delete.device, mode.kind)?;
    let drop = || {
        let device = Device::open_through(&delete.clone_device, &pattern, mode, Existing::Attach)?;
        device.set_persistent(false)?;
        Ok(device)
    };
    let device = drop().map_err(|error| explain(&error))?;
    Ok(console::line(format_args!(
        "Set '{}' nonpersistent",
        device.name()
    ))?)
}

/// The state of a tun or tap device of this name, if there is one.
fn existing(name: &str) -> Option<TunState> {
    let name: DeviceName = name.parse().ok()?;
    let link = Host::open().ok()?.find_link(&name).ok()??;
    match link.kind {
        LinkKind::Tun(state) => Some(state),
        _ => None,
    }
}

fn pattern(name: &OsStr, kind: Kind) -> Result<NamePattern, Failure> {
    let name = match name.to_str() {
        Some("") => format!("{}%d", kind.as_str()),
        Some(name) => name.to_owned(),
        None => {
            let name = shown(name);
            return Err(Failure::say(&format!("device name '{name}' is not UTF-8")));
        }
    };
    name.parse().map_err(|error| Failure::new(&error))
}

/// The line of 2007, as `perror` prints it, and one that says what to do.
pub(crate) fn explain(error: &TunTapError) -> Failure {
    let answer = system_text(&error.source);
    let line = match (&error.step, error.step.ioctl()) {
        (Step::Open(path), _) => format!("Failed to open '{}' : {answer}", shown(path)),
        (_, Some(ioctl)) => format!("{ioctl}: {answer}"),
        (_, None) => answer,
    };
    let mut lines = vec![line];
    lines.extend(advice(error).map(|advice| format!("tunctl: {advice}")));
    Failure(lines)
}

fn advice(error: &TunTapError) -> Option<String> {
    let errno = error.errno()?;
    match (&error.step, errno) {
        (Step::Open(path), libc::ENOENT | libc::ENODEV | libc::ENXIO) => Some(format!(
            "the tun driver is not there: load it with 'modprobe tun'; a container must be given {} \
             (docker: --device {CLONE}; systemd-nspawn: --bind {CLONE})",
            shown(path),
            CLONE = uml_core::tuntap::CLONE_DEVICE,
        )),
        (Step::Open(path), libc::EACCES | libc::EPERM) => Some(format!(
            "you may not open {}: run as root, or let root make the device for you \
             (tunctl -u USER -t NAME)",
            shown(path)
        )),
        (Step::Attach(_) | Step::Persist(_) | Step::Owner(..) | Step::Group(..), libc::EPERM) => {
            Some(
                "making a device, or changing one that isn't yours, needs CAP_NET_ADMIN: run as \
                 root, or let root make the device for you (tunctl -u USER -t NAME)"
                    .to_owned(),
            )
        }
        (Step::Attach(name), libc::EBUSY) => Some(format!(
            "{name} is in use by {}: stop it first",
            Holders::find().describe(name)
        )),
        (Step::Attach(name), libc::EINVAL) => refused_name(name),
        (Step::Attach(_), libc::ENOTTY) => Some(
            "the clone device, /dev/net/tun or what -f names, is not the tun driver's".to_owned(),
        ),
        (Step::Owner(_, id) | Step::Group(_, id), libc::EINVAL) => Some(format!(
            "{id} has no meaning in this user namespace (/proc/self/uid_map, gid_map)"
        )),
        _ => None,
    }
}

/// The driver says `EINVAL` when the name belongs to something that it can't attach to so.
fn refused_name(name: &str) -> Option<String> {
    let parsed: DeviceName = name.parse().ok()?;
    let link = Host::open().ok()?.find_link(&parsed).ok()??;
    Some(match link.kind {
        LinkKind::Tun(state) => format!(
            "{name} exists as a {}{} device: give {}, or delete it first (tunctl -d {name})",
            if state.multi_queue {
                "multi-queue "
            } else {
                ""
            },
            link.kind,
            match (state.kind, state.multi_queue) {
                (Kind::Tap, true) => "-p --multi-queue",
                (Kind::Tap, false) => "-p without --multi-queue",
                (Kind::Tun, true) => "-n --multi-queue",
                (Kind::Tun, false) => "-n without --multi-queue",
            }
        ),
        LinkKind::Other(None) => format!("{name} exists and is no tun or tap device"),
        kind => format!("{name} exists and is a device of kind {kind}"),
    })
}
