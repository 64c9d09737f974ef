//! What a network file describes.

use std::net::IpAddr;

use uml_core::{
    hostnet::{BridgeSettings, DeviceName, IpPrefix},
    tuntap::Mode,
};

/// What a network file describes.
#[derive(Debug, Default)]
pub(super) struct Network {
    /// Whether packets for guests are forwarded; `None`: not said.
    pub(super) forwarding: Option<bool>,
    pub(super) taps: Vec<Tap>,
    pub(super) bridges: Vec<Bridge>,
    pub(super) vxlans: Vec<Vxlan>,
}

/// What all devices have.
#[derive(Debug, Clone)]
pub(super) struct Device {
    pub(super) name: DeviceName,
    pub(super) addresses: Vec<IpPrefix>,
    /// `None`: the kernel's choice.
    pub(super) mtu: Option<u32>,
    pub(super) up: bool,
}

#[derive(Debug, Clone)]
pub(super) struct Tap {
    pub(super) device: Device,
    pub(super) mode: Mode,
    pub(super) owner: Option<u32>,
    pub(super) group: Option<u32>,
    pub(super) guests: Vec<IpAddr>,
    /// The devices on which the host answers for the guests.
    pub(super) proxy_on: Vec<DeviceName>,
}

#[derive(Debug, Clone)]
pub(super) struct Bridge {
    pub(super) device: Device,
    pub(super) settings: BridgeSettings,
    pub(super) ports: Vec<DeviceName>,
    pub(super) other_ports: OtherPorts,
}

/// What becomes of a bridge's ports that the file doesn't name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OtherPorts {
    Release,
    Keep,
}

#[derive(Debug, Clone)]
pub(super) struct Vxlan {
    pub(super) device: Device,
    pub(super) end: VxlanEnd,
}

/// A VXLAN link's settings, the device by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct VxlanEnd {
    pub(super) id: u32,
    pub(super) local: Option<IpAddr>,
    pub(super) remote: Option<IpAddr>,
    pub(super) port: u16,
    pub(super) device: Option<DeviceName>,
}

/// What carries a VXLAN link's packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Carrier {
    /// A bridge of the same file: it has to be there before the link, and outlives it.
    OwnBridge,
    /// A device that is there already, or whichever the routes lead to.
    Other,
}

impl Network {
    /// Names, in the file, of devices that the file doesn't make: they must be there.
    pub(super) fn foreign(&self) -> Vec<&DeviceName> {
        let own: Vec<&DeviceName> = self.names().collect();
        let ports = self.bridges.iter().flat_map(|bridge| &bridge.ports);
        let proxies = self.taps.iter().flat_map(|tap| &tap.proxy_on);
        let carriers = self
            .vxlans
            .iter()
            .filter_map(|vxlan| vxlan.end.device.as_ref());
        let mut foreign: Vec<&DeviceName> = ports
            .chain(proxies)
            .chain(carriers)
            .filter(|name| !own.contains(name))
            .collect();
        foreign.sort();
        foreign.dedup();
        foreign
    }

    /// All guests of all taps.
    pub(super) fn guests(&self) -> impl Iterator<Item = &IpAddr> {
        self.taps.iter().flat_map(|tap| &tap.guests)
    }

    /// Whether an address is a guest's.
    pub(super) fn has_guest(&self, address: IpAddr) -> bool {
        self.guests().any(|&guest| guest == address)
    }

    /// The names of all devices that the file makes, in the order in which they can be made.
    pub(super) fn names(&self) -> impl Iterator<Item = &DeviceName> {
        let taps = self.taps.iter().map(|tap| &tap.device.name);
        let vxlans = |on| self.vxlans_on(on).map(|vxlan| &vxlan.device.name);
        let bridges = self.bridges.iter().map(|bridge| &bridge.device.name);
        taps.chain(vxlans(Carrier::Other))
            .chain(bridges)
            .chain(vxlans(Carrier::OwnBridge))
    }

    /// The VXLAN links with such a carrier.
    pub(super) fn vxlans_on(&self, carrier: Carrier) -> impl Iterator<Item = &Vxlan> {
        self.vxlans.iter().filter(move |vxlan| {
            let mut bridges = self.bridges.iter();
            let is_own =
                bridges.any(|bridge| vxlan.end.device.as_ref() == Some(&bridge.device.name));
            is_own == (carrier == Carrier::OwnBridge)
        })
    }
}
