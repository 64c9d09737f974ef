//! The host as it is, and as it will be after the changes planned so far.

use std::net::IpAddr;

use uml_core::{
    hostnet::{
        DeviceName, Host, HostError, IpPrefix, Link, LinkKind, Origin, Route, TunState,
        VxlanSettings,
    },
    tuntap::Mode,
};

use super::{
    change::{Change, RoutePath, Shape, Step, TapShape},
    model::VxlanEnd,
};

/// `RTPROT_RA`: routes that a router announces, and that come and go by themselves.
const ANNOUNCED: Origin = Origin(9);

/// A device with all that hangs on it.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) link: Link,
    /// Without those that the kernel made itself.
    pub(super) addresses: Vec<IpPrefix>,
    /// Without those that the kernel and the routers make themselves.
    pub(super) routes: Vec<RoutePath>,
    pub(super) proxies: Vec<IpAddr>,
}

/// All devices of the network namespace.
#[derive(Debug)]
pub(super) struct State {
    pub(super) devices: Vec<Known>,
}

impl State {
    pub(super) fn of(host: &mut Host) -> Result<Self, HostError> {
        let links = host.links()?;
        let addresses = host.addresses(None)?;
        let routes = host.routes()?;
        let proxies = host.proxies()?;
        let devices = links.into_iter().map(|link| {
            let index = link.interface.index;
            let own_addresses = addresses
                .iter()
                .filter(|address| address.device == index && !address.automatic)
                .map(|address| address.prefix);
            let own_routes = routes
                .iter()
                // A route by several devices is nobody's work here.
                .filter(|route| route.devices == [index])
                .filter(|route| !route.automatic && route.origin != ANNOUNCED)
                .map(|route| RoutePath {
                    route: Route {
                        destination: route.destination,
                        device: link.interface.name.clone(),
                        gateway: route.gateway,
                    },
                    origin: route.origin,
                });
            let own_proxies = proxies
                .iter()
                .filter(|proxy| proxy.device == index)
                .map(|proxy| proxy.address);
            Known {
                addresses: own_addresses.collect(),
                routes: own_routes.collect(),
                proxies: own_proxies.collect(),
                link,
            }
        });
        Ok(Self {
            devices: devices.collect(),
        })
    }

    pub(super) fn find(&self, name: &DeviceName) -> Option<&Known> {
        self.devices
            .iter()
            .find(|known| known.link.interface.name == *name)
    }

    fn find_mut(&mut self, name: &DeviceName) -> Option<&mut Known> {
        self.devices
            .iter_mut()
            .find(|known| known.link.interface.name == *name)
    }

    pub(super) fn name_of(&self, index: u32) -> Option<&DeviceName> {
        self.devices
            .iter()
            .map(|known| &known.link.interface)
            .find(|interface| interface.index == index)
            .map(|interface| &interface.name)
    }

    /// The bridge that a device is a port of.
    pub(super) fn master_of(&self, name: &DeviceName) -> Option<&DeviceName> {
        self.name_of(self.find(name)?.link.master?)
    }

    /// The ports of a bridge.
    pub(super) fn ports_of(&self, bridge: &DeviceName) -> Vec<DeviceName> {
        self.devices
            .iter()
            .map(|known| &known.link.interface.name)
            .filter(|name| self.master_of(name) == Some(bridge))
            .cloned()
            .collect()
    }

    /// A VXLAN link's settings with its device's name.
    pub(super) fn vxlan_end(&self, settings: &VxlanSettings) -> VxlanEnd {
        VxlanEnd {
            id: settings.id,
            local: settings.local,
            remote: settings.remote,
            port: settings.port,
            device: settings
                .device
                .and_then(|index| self.name_of(index))
                .cloned(),
        }
    }

    /// The changes that take everything off a device, and then the device away. Each has an
    /// opposite, so that together they can be undone.
    pub(super) fn take_away(&mut self, name: &DeviceName) -> Vec<Change> {
        let mut changes: Vec<Change> = self
            .ports_of(name)
            .into_iter()
            .map(|port| self.set_master(&port, None))
            .collect();
        if self.master_of(name).is_some() {
            changes.push(self.set_master(name, None));
        }
        let routes = self.take_routes(name, |_| true);
        let Some(known) = self.find(name) else {
            return changes;
        };
        let name = || name.clone();
        changes.extend(
            known
                .proxies
                .iter()
                .map(|&address| Change::DeleteProxy(name(), address)),
        );
        changes.extend(routes.into_iter().map(Change::DeleteRoute));
        // While it is up: going down, it would lose its IPv6 addresses.
        changes.extend(
            known
                .addresses
                .iter()
                .map(|&prefix| Change::DeleteAddress(name(), prefix)),
        );
        if known.link.up {
            changes.push(Change::SetUp(name(), false));
        }
        let shape = match &known.link.kind {
            LinkKind::Tun(state) => Some(Shape::Tap(tap_shape(*state))),
            LinkKind::Bridge(settings) => Some(Shape::Bridge(*settings)),
            LinkKind::Vxlan(settings) => Some(Shape::Vxlan(self.vxlan_end(settings))),
            LinkKind::Other(_) => None,
        };
        let mtu = Some(known.link.mtu);
        changes.extend(shape.map(|shape| Change::Delete(name(), shape, mtu)));
        let gone = name();
        self.devices
            .retain(|known| known.link.interface.name != gone);
        changes
    }

    /// Forgets routes of a device, and returns them in the order in which they can be deleted.
    pub(super) fn take_routes(
        &mut self,
        name: &DeviceName,
        goes: impl Fn(&IpPrefix) -> bool,
    ) -> Vec<RoutePath> {
        let Some(known) = self.find_mut(name) else {
            return Vec::new();
        };
        let (gone, kept) = known
            .routes
            .drain(..)
            .partition(|path| goes(&path.route.destination));
        known.routes = kept;
        let mut gone: Vec<RoutePath> = gone;
        // The ways to hosts come first in the table: what goes by a gateway needs them.
        gone.reverse();
        gone
    }

    /// The change of a device's bridge. The bridge may be one that is still to be made.
    pub(super) fn set_master(&mut self, name: &DeviceName, to: Option<&DeviceName>) -> Change {
        let step = Step {
            from: self.master_of(name).cloned(),
            to: to.cloned(),
        };
        let index = to
            .and_then(|bridge| self.find(bridge))
            .map(|bridge| bridge.link.interface.index);
        if let Some(known) = self.find_mut(name) {
            known.link.master = index;
        }
        Change::SetMaster(name.clone(), step)
    }
}

/// How a tap device that is there was made.
const fn tap_shape(state: TunState) -> TapShape {
    TapShape {
        mode: mode_of(state),
        owner: state.owner,
        group: state.group,
    }
}

/// How a tap device that is there must be attached to.
pub(super) const fn mode_of(state: TunState) -> Mode {
    Mode {
        kind: state.kind,
        packet_info: state.packet_info,
        vnet_hdr: state.vnet_hdr,
        multi_queue: state.multi_queue,
    }
}
