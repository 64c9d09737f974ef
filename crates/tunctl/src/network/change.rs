//! One change to the host, and its opposite.

mod words;

use std::net::IpAddr;

use uml_core::{
    hostnet::{
        BridgeSettings, DeviceName, Host, HostError, Interface, IpPrefix, Origin, Route,
        VxlanSettings, sysctl::Sysctl,
    },
    tuntap::{Device, Existing, Mode, TunTapError},
};

use super::model::VxlanEnd;
use crate::{
    Failure,
    device::{explain, give_and_keep},
    holders::Holders,
};

/// A change. As text it is the command that would do the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    /// A new device. Only one that comes back has an MTU here.
    Add(DeviceName, Shape, Option<u32>),
    /// With the MTU that it has.
    Delete(DeviceName, Shape, Option<u32>),
    /// A tap that would go away with its last user shall stay, or no longer.
    Keep(DeviceName, Mode, bool),
    SetOwner(DeviceName, Mode, Step<u32>),
    SetGroup(DeviceName, Mode, Step<u32>),
    SetBridge(DeviceName, Step<BridgeSettings>),
    SetUp(DeviceName, bool),
    SetMtu(DeviceName, Step<u32>),
    SetMaster(DeviceName, Step<Option<DeviceName>>),
    AddAddress(DeviceName, IpPrefix),
    DeleteAddress(DeviceName, IpPrefix),
    AddRoute(RoutePath),
    DeleteRoute(RoutePath),
    AddProxy(DeviceName, IpAddr),
    DeleteProxy(DeviceName, IpAddr),
    Switch(Sysctl, bool),
}

/// From what to what a setting goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Step<T> {
    pub(super) from: T,
    pub(super) to: T,
}

/// All that a device is made with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Shape {
    Tap(TapShape),
    Bridge(BridgeSettings),
    Vxlan(VxlanEnd),
}

/// All that a tap is made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TapShape {
    pub(super) mode: Mode,
    pub(super) owner: Option<u32>,
    pub(super) group: Option<u32>,
}

/// A route by its device's name, with who made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RoutePath {
    pub(super) route: Route<DeviceName>,
    pub(super) origin: Origin,
}

impl<T: PartialEq> Step<T> {
    /// The step between two settings that are both there and differ.
    pub(super) fn between(from: Option<T>, to: Option<T>) -> Option<Self> {
        let (from, to) = (from?, to?);
        (from != to).then_some(Self { from, to })
    }

    fn back(self) -> Self {
        Self {
            from: self.to,
            to: self.from,
        }
    }
}

impl Change {
    /// The change that undoes this one.
    pub(super) fn opposite(self) -> Self {
        match self {
            Self::Add(name, shape, mtu) => Self::Delete(name, shape, mtu),
            Self::Delete(name, shape, mtu) => Self::Add(name, shape, mtu),
            Self::Keep(name, mode, on) => Self::Keep(name, mode, !on),
            Self::SetOwner(name, mode, step) => Self::SetOwner(name, mode, step.back()),
            Self::SetGroup(name, mode, step) => Self::SetGroup(name, mode, step.back()),
            Self::SetBridge(name, step) => Self::SetBridge(name, step.back()),
            Self::SetUp(name, up) => Self::SetUp(name, !up),
            Self::SetMtu(name, step) => Self::SetMtu(name, step.back()),
            Self::SetMaster(name, step) => Self::SetMaster(name, step.back()),
            Self::AddAddress(name, prefix) => Self::DeleteAddress(name, prefix),
            Self::DeleteAddress(name, prefix) => Self::AddAddress(name, prefix),
            Self::AddRoute(route) => Self::DeleteRoute(route),
            Self::DeleteRoute(route) => Self::AddRoute(route),
            Self::AddProxy(name, address) => Self::DeleteProxy(name, address),
            Self::DeleteProxy(name, address) => Self::AddProxy(name, address),
            Self::Switch(setting, on) => Self::Switch(setting, !on),
        }
    }

    /// Makes the change.
    ///
    /// # Errors
    /// What was refused, with advice. The host is as before then, but that a device which comes back
    /// may have another MTU.
    pub(super) fn make(&self, host: &mut Host) -> Result<(), Failure> {
        match self {
            Self::Add(name, shape, mtu) => {
                add(host, name, shape)?;
                if let Some(mtu) = *mtu {
                    let device = find(host, name)?;
                    host.set_mtu(&device, mtu)?;
                }
                Ok(())
            }
            Self::Delete(name, Shape::Tap(tap), _) => delete_tap(host, name, tap.mode),
            Self::Keep(name, mode, on) => {
                with_tap(name, *mode, |device| device.set_persistent(*on))
            }
            Self::SetOwner(name, mode, step) => {
                with_tap(name, *mode, |device| device.set_owner(step.to))
            }
            Self::SetGroup(name, mode, step) => {
                with_tap(name, *mode, |device| device.set_group(step.to))
            }
            _ => Ok(self.make_by_netlink(host)?),
        }
    }

    fn make_by_netlink(&self, host: &mut Host) -> Result<(), HostError> {
        match self {
            Self::Delete(name, ..) => {
                let device = find(host, name)?;
                host.delete_link(&device)
            }
            Self::SetBridge(name, step) => {
                let device = find(host, name)?;
                host.set_bridge(&device, step.to)
            }
            Self::SetUp(name, up) => {
                let device = find(host, name)?;
                host.set_up(&device, *up)
            }
            Self::SetMtu(name, step) => {
                let device = find(host, name)?;
                host.set_mtu(&device, step.to)
            }
            Self::SetMaster(name, step) => {
                let device = find(host, name)?;
                let mut set = |bridge: Option<&DeviceName>| {
                    let bridge = bridge.map(|bridge| find(host, bridge)).transpose()?;
                    host.set_master(&device, bridge.as_ref())
                };
                let done = set(step.to.as_ref());
                if done.is_err() && step.from.is_some() {
                    // The kernel takes a port off its old bridge before it asks the new one.
                    let _ = set(step.from.as_ref());
                }
                done
            }
            Self::AddAddress(name, prefix) => {
                let device = find(host, name)?;
                host.add_address(&device, *prefix)
            }
            Self::DeleteAddress(name, prefix) => {
                let device = find(host, name)?;
                delete_address(host, &device, *prefix)
            }
            Self::AddRoute(path) => {
                let route = route(host, &path.route)?;
                host.add_route_of(&route, path.origin)
            }
            Self::DeleteRoute(path) => {
                let route = route(host, &path.route)?;
                host.delete_route(&route)
            }
            Self::AddProxy(name, address) => {
                let device = find(host, name)?;
                host.add_proxy(&device, *address)
            }
            Self::DeleteProxy(name, address) => {
                let device = find(host, name)?;
                host.delete_proxy(&device, *address)
            }
            Self::Switch(setting, on) => setting.set(*on),
            // Not by netlink.
            Self::Add(..) | Self::Keep(..) | Self::SetOwner(..) | Self::SetGroup(..) => Ok(()),
        }
    }
}

fn find(host: &mut Host, name: &DeviceName) -> Result<Interface, HostError> {
    Ok(host.link(name)?.interface)
}

fn route(host: &mut Host, by_name: &Route<DeviceName>) -> Result<Route, HostError> {
    Ok(Route {
        destination: by_name.destination,
        device: find(host, &by_name.device)?,
        gateway: by_name.gateway,
    })
}

fn add(host: &mut Host, name: &DeviceName, shape: &Shape) -> Result<(), Failure> {
    match shape {
        Shape::Tap(tap) => add_tap(name, tap).map_err(|error| explain(&error)),
        Shape::Bridge(settings) => Ok(host.add_bridge(name, *settings)?),
        Shape::Vxlan(end) => {
            let device = end.device.as_ref();
            let device = device.map(|device| find(host, device)).transpose()?;
            let settings = VxlanSettings {
                id: end.id,
                local: end.local,
                remote: end.remote,
                port: end.port,
                device: device.map(|device| device.index),
            };
            Ok(host.add_vxlan(name, settings)?)
        }
    }
}

/// Takes an address away. With the first address of a network the kernel would take the others of
/// that network, and with the last address of a device its routes: it is told to keep them.
fn delete_address(host: &mut Host, device: &Interface, prefix: IpPrefix) -> Result<(), HostError> {
    let has_others = host.addresses(Some(device))?.iter().any(|other| {
        other.prefix != prefix
            && other.prefix.length() == prefix.length()
            && prefix.contains(other.prefix.address())
    });
    let promote = Sysctl::promote_secondaries(&device.name);
    if !has_others || prefix.address().is_ipv6() || promote.is_on()? {
        return host.delete_address(device, prefix);
    }
    promote.set(true)?;
    let deleted = host.delete_address(device, prefix);
    promote.set(false)?;
    deleted
}

fn add_tap(name: &DeviceName, tap: &TapShape) -> Result<(), TunTapError> {
    let device = Device::open(&name.into(), tap.mode, Existing::Refuse)?;
    give_and_keep(&device, tap.owner, tap.group)
}

/// Lets a tap go away with its last user, which must be this one: a guest's link is never cut.
fn delete_tap(host: &mut Host, name: &DeviceName, mode: Mode) -> Result<(), Failure> {
    with_tap(name, mode, |device| device.set_persistent(false))?;
    if host.find_link(name)?.is_none() {
        return Ok(());
    }
    // Several may be attached to a multi-queue device: somebody else still is.
    with_tap(name, mode, |device| device.set_persistent(true))?;
    Err(in_use(name, &Holders::find()))
}

/// The error for a tap that somebody uses.
pub(super) fn in_use(name: &DeviceName, holders: &Holders) -> Failure {
    Failure::say(&format!(
        "{name} is in use by {}: stop it first",
        holders.describe(name.as_str())
    ))
}

fn with_tap(
    name: &DeviceName,
    mode: Mode,
    change: impl FnOnce(&Device) -> Result<(), TunTapError>,
) -> Result<(), Failure> {
    Device::open(&name.into(), mode, Existing::Attach)
        .and_then(|device| change(&device))
        .map_err(|error| explain(&error))
}
