//! Reading the bridges and the VXLAN links of a network file.

use std::{net::IpAddr, time::Duration};

use uml_core::{
    hostnet::{BridgeSettings, DeviceName},
    tuntap::Kind,
};

use super::{
    file::Reader,
    model::{Bridge, Device, OtherPorts, Tap, Vxlan, VxlanEnd},
    reader::{At, Lone, Place, Section},
};

/// The registered UDP port of VXLAN.
const VXLAN_PORT: u32 = 4789;

impl Reader<'_, '_> {
    pub(super) fn bridge(&mut self, section: &Section<'_, '_>, taps: &[Tap]) -> Option<Bridge> {
        let name = self.own_name(section);
        let addresses = self.addresses(section);
        let stp = section.flag("stp", self.problems).unwrap_or(false);
        let delays = if stp { 2..=30 } else { 0..=30 };
        let delay = section.number("forward_delay", delays, self.problems);
        let delay = delay.unwrap_or(if stp { 15 } else { 0 });
        let other_ports = match section.text("other_ports", self.problems) {
            None | Some("release") => OtherPorts::Release,
            Some("keep") => OtherPorts::Keep,
            Some(other) => {
                let found = other.escape_debug();
                let why = format!("expected \"release\" or \"keep\", found \"{found}\"");
                section.refuse("other_ports", why, self.problems);
                OtherPorts::Keep
            }
        };
        let mut ports = Vec::new();
        for At { value, place } in section.list::<String>("ports", self.problems) {
            ports.extend(self.port(&value, &place, taps));
        }
        let mtu = section.number("mtu", 68..=65535, self.problems);
        let up = section.flag("up", self.problems).unwrap_or(true);
        let name = name?;
        if ports.contains(&name) {
            section.refuse("ports", "a bridge can't be its own port", self.problems);
        }
        Some(Bridge {
            device: Device {
                name,
                addresses,
                mtu,
                up,
            },
            settings: BridgeSettings {
                stp,
                forward_delay: Duration::from_secs(delay.into()),
            },
            ports,
            other_ports,
        })
    }

    /// A port by its name, or all taps of a pattern.
    fn port(&mut self, text: &str, place: &Place, taps: &[Tap]) -> Vec<DeviceName> {
        let names = match (self.patterns.get(text), text.parse::<DeviceName>()) {
            (Some(names), _) => names.clone(),
            (None, Ok(name)) => vec![name],
            (None, Err(_)) if text.contains("%d") => {
                let why = "is no tap's name in this file, with %d and a count";
                let text = text.escape_debug();
                self.problems.add(place, format_args!("'{text}' {why}"));
                return Vec::new();
            }
            (None, Err(error)) => {
                self.problems.add(place, error);
                return Vec::new();
            }
        };
        let line = self.problems.line(place);
        for name in &names {
            if let Some(other) = self.ports.insert(name.clone(), line) {
                self.problems.add(
                    place,
                    format_args!("{name} is a port at line {other} already"),
                );
                // So are most likely all others of a pattern.
                return Vec::new();
            }
            let tap = taps.iter().find(|tap| tap.device.name == *name);
            if tap.is_some_and(|tap| tap.mode.kind == Kind::Tun) {
                let why = "carries packets, not frames: it can't be a bridge's port";
                self.problems.add(place, format_args!("{name} {why}"));
            }
            if tap.is_some_and(|tap| !tap.guests.is_empty()) {
                let why = "has guests of its own: behind a bridge they need no routes";
                self.problems.add(place, format_args!("{name} {why}"));
            }
        }
        names
    }

    fn lone(&mut self, section: &Section<'_, '_>, key: &str) -> Option<IpAddr> {
        let found: Option<Lone> = section.parsed(key, self.problems);
        found.map(|Lone(address)| address)
    }

    pub(super) fn vxlan(&mut self, section: &Section<'_, '_>) -> Option<Vxlan> {
        let name = self.own_name(section);
        if !section.has("id") {
            self.problems.add(&section.place, "[[vxlan]] has no 'id'");
        }
        let id = section.number("id", 1..=0x00ff_ffff, self.problems);
        let local = self.lone(section, "local");
        let remote = self.lone(section, "remote");
        let group = self.lone(section, "group");
        let port = section.number("port", 1..=65535, self.problems);
        let device: Option<DeviceName> = section.parsed("device", self.problems);
        if section.has("remote") == section.has("group") {
            let why = "[[vxlan]] needs 'remote', the other host's address, or 'group', a multicast \
                       group of all the hosts, and not both";
            self.problems.add(&section.place, why);
        }
        if remote.is_some_and(|address| address.is_multicast()) {
            section.refuse(
                "remote",
                "a multicast address goes to 'group'",
                self.problems,
            );
        }
        if group.is_some_and(|address| !address.is_multicast()) {
            let why = "expected a multicast address, such as 239.1.1.1";
            section.refuse("group", why, self.problems);
        }
        if section.has("group") && !section.has("device") {
            section.refuse(
                "group",
                "it needs 'device', such as \"eth0\"",
                self.problems,
            );
        }
        let far = remote.or(group);
        match (local, far) {
            (Some(near), Some(far)) if near.is_ipv4() != far.is_ipv4() => {
                let why = format!("{near} and {far} are of different families");
                section.refuse("local", why, self.problems);
            }
            _ => {}
        }
        let mtu = section.number("mtu", 68..=65535, self.problems);
        let up = section.flag("up", self.problems).unwrap_or(true);
        Some(Vxlan {
            device: Device {
                name: name?,
                addresses: Vec::new(),
                mtu,
                up,
            },
            end: VxlanEnd {
                id: id?,
                local,
                remote: far,
                port: u16::try_from(port.unwrap_or(VXLAN_PORT)).ok()?,
                device,
            },
        })
    }
}
