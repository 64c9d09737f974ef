//! Reading the network file: what it may say, and what that means.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    path::Path,
    time::Duration,
};

use uml_core::{
    hostnet::{BridgeSettings, DeviceName, IpPrefix},
    tuntap::{Kind, Mode},
};

use super::{
    model::{Bridge, Device, Network, OtherPorts, Tap, Vxlan, VxlanEnd},
    reader::{At, Place, Problems, Section, parse},
};
use crate::ids;

/// The registered UDP port of VXLAN.
const VXLAN_PORT: u32 = 4789;
/// More taps by one pattern than this are taken for a slip.
const MOST_TAPS: u32 = 4096;
const TOP_KEYS: &[&str] = &["forwarding", "tap", "bridge", "vxlan"];
const TAP_KEYS: &[&str] = &[
    "name",
    "count",
    "first",
    "kind",
    "owner",
    "group",
    "addresses",
    "mtu",
    "up",
    "multi_queue",
    "vnet_hdr",
    "guests",
    "proxy_arp",
];
const BRIDGE_KEYS: &[&str] = &[
    "name",
    "addresses",
    "mtu",
    "up",
    "ports",
    "other_ports",
    "stp",
    "forward_delay",
];
const VXLAN_KEYS: &[&str] = &[
    "name", "mtu", "up", "id", "local", "remote", "group", "port", "device",
];

/// Reads a file's text.
///
/// # Errors
/// One line for each thing that is wrong.
pub(super) fn read(path: &Path, text: &str) -> Result<Network, Vec<String>> {
    let mut problems = Problems::new(path, text);
    let network = match parse(text, &mut problems) {
        Some(table) => {
            let top = Section::new("the file", table.get_ref(), 0..0, TOP_KEYS, &mut problems);
            Reader::new(&mut problems).network(&top)
        }
        None => Network::default(),
    };
    if problems.is_empty() {
        Ok(network)
    } else {
        Err(problems.into_lines())
    }
}

struct Reader<'p, 'f> {
    problems: &'p mut Problems<'f>,
    /// Every device's name, with the line that it stands in.
    names: HashMap<DeviceName, usize>,
    /// The names that a tap pattern stands for.
    patterns: HashMap<String, Vec<DeviceName>>,
    /// Every guest, with its place.
    guests: HashMap<IpAddr, Place>,
    /// Every address of the host's own.
    own: HashSet<IpAddr>,
    /// Every port, with its line.
    ports: HashMap<DeviceName, usize>,
}

impl<'p, 'f> Reader<'p, 'f> {
    fn new(problems: &'p mut Problems<'f>) -> Self {
        Self {
            problems,
            names: HashMap::new(),
            patterns: HashMap::new(),
            guests: HashMap::new(),
            own: HashSet::new(),
            ports: HashMap::new(),
        }
    }

    fn network(&mut self, top: &Section<'_, '_>) -> Network {
        let mut network = Network {
            forwarding: top.flag("forwarding", self.problems),
            ..Network::default()
        };
        for section in top.sections("tap", "[[tap]]", TAP_KEYS, self.problems) {
            network.taps.extend(self.taps(&section));
        }
        let mut segments = HashMap::new();
        for section in top.sections("vxlan", "[[vxlan]]", VXLAN_KEYS, self.problems) {
            let Some(vxlan) = self.vxlan(&section) else {
                continue;
            };
            let line = self.problems.line(&section.place);
            if let Some(other) = segments.insert((vxlan.end.id, vxlan.end.port), line) {
                let why = format!("with this port it stands at line {other} already");
                section.refuse("id", why, self.problems);
            }
            network.vxlans.push(vxlan);
        }
        for section in top.sections("bridge", "[[bridge]]", BRIDGE_KEYS, self.problems) {
            network.bridges.extend(self.bridge(&section, &network.taps));
        }
        for (guest, place) in &self.guests {
            if self.own.contains(guest) {
                let why = "is the host's own address: a guest has another";
                self.problems.add(place, format_args!("{guest} {why}"));
            }
        }
        network
    }

    /// One tap, or the row of taps of a pattern.
    fn taps(&mut self, section: &Section<'_, '_>) -> Vec<Tap> {
        let names = self.tap_names(section);
        let kind = match section.text("kind", self.problems) {
            None | Some("tap") => Kind::Tap,
            Some("tun") => Kind::Tun,
            Some(other) => {
                let why = format!(
                    "expected \"tap\" or \"tun\", found \"{}\"",
                    other.escape_debug()
                );
                section.refuse("kind", why, self.problems);
                Kind::Tap
            }
        };
        let mode = Mode {
            multi_queue: section.flag("multi_queue", self.problems).unwrap_or(false),
            vnet_hdr: section.flag("vnet_hdr", self.problems).unwrap_or(false),
            ..Mode::plain(kind)
        };
        let group = section.id("group", ids::group, self.problems);
        // A device with neither would be anybody's.
        let owner = match (section.id("owner", ids::user, self.problems), group) {
            (None, None) => Some(0),
            (owner, _) => owner,
        };
        let addresses = self.addresses(section);
        let mtu = section.number("mtu", 68..=65521, self.problems);
        let up = section.flag("up", self.problems).unwrap_or(true);
        let guests = self.guests(section, up);
        let proxies: Vec<At<DeviceName>> = section.list("proxy_arp", self.problems);
        if !proxies.is_empty() && guests.is_empty() {
            section.refuse(
                "proxy_arp",
                "there are no guests to answer for",
                self.problems,
            );
        }
        let proxy_on: Vec<DeviceName> = proxies.into_iter().map(|proxy| proxy.value).collect();
        if let Some(name) = proxy_on.iter().find(|name| names.contains(name)) {
            let why =
                format!("{name} is the guests' own side: name the other guests' or the LAN's");
            section.refuse("proxy_arp", why, self.problems);
        }
        // One tap has all the guests; of a row of taps each has one.
        let shares: Vec<Vec<IpAddr>> = if section.has("count") && !guests.is_empty() {
            if guests.len() != names.len() {
                let why = format!(
                    "expected one for each of the {} taps, found {}",
                    names.len(),
                    guests.len()
                );
                section.refuse("guests", why, self.problems);
            }
            guests.into_iter().map(|guest| vec![guest]).collect()
        } else {
            vec![guests; names.len()]
        };
        names
            .into_iter()
            .zip(shares)
            .map(|(name, guests)| Tap {
                device: Device {
                    name,
                    addresses: addresses.clone(),
                    mtu,
                    up,
                },
                mode,
                owner,
                group,
                guests,
                proxy_on: proxy_on.clone(),
            })
            .collect()
    }

    fn tap_names(&mut self, section: &Section<'_, '_>) -> Vec<DeviceName> {
        let Some(pattern) = section.needed_text("name", self.problems) else {
            return Vec::new();
        };
        let place = section.place_of("name");
        let count = section.number("count", 1..=MOST_TAPS, self.problems);
        let first = section.number("first", 0..=1_000_000, self.problems);
        let Some((head, tail)) = pattern.split_once("%d") else {
            for key in ["count", "first"] {
                if section.has(key) {
                    let why = "it goes with a name that holds %d, such as \"tap%d\"";
                    section.refuse(key, why, self.problems);
                }
            }
            return self.name(pattern, &place).into_iter().collect();
        };
        if !section.has("count") {
            let why = "a name with %d needs 'count', the number of taps";
            section.refuse("name", why, self.problems);
        }
        let first = first.unwrap_or(0);
        let numbers = first..first.saturating_add(count.unwrap_or(1));
        let names: Vec<DeviceName> = numbers
            .map_while(|number| self.name(&format!("{head}{number}{tail}"), &place))
            .collect();
        self.patterns.insert(pattern.to_owned(), names.clone());
        names
    }

    /// A device's name, which may stand in the file once.
    fn name(&mut self, text: &str, place: &Place) -> Option<DeviceName> {
        let name: DeviceName = match text.parse() {
            Ok(name) => name,
            Err(error) => {
                self.problems.add(place, error);
                return None;
            }
        };
        let line = self.problems.line(place);
        if let Some(other) = self.names.insert(name.clone(), line) {
            self.problems
                .add(place, format_args!("{name} stands at line {other} already"));
            return None;
        }
        Some(name)
    }

    fn own_name(&mut self, section: &Section<'_, '_>) -> Option<DeviceName> {
        let text = section.needed_text("name", self.problems)?;
        self.name(text, &section.place_of("name"))
    }

    fn addresses(&mut self, section: &Section<'_, '_>) -> Vec<IpPrefix> {
        let mut addresses = Vec::new();
        for At { value, place } in section.list::<IpPrefix>("addresses", self.problems) {
            if !is_hosts(value.address()) {
                self.problems
                    .add(&place, format_args!("{value} is no host's address"));
            } else if addresses.contains(&value) {
                self.problems
                    .add(&place, format_args!("{value} stands twice"));
            } else {
                self.own.insert(value.address());
                addresses.push(value);
            }
        }
        addresses
    }

    fn guests(&mut self, section: &Section<'_, '_>, up: bool) -> Vec<IpAddr> {
        let listed: Vec<At<IpAddr>> = section.list("guests", self.problems);
        if !listed.is_empty() && !up {
            let why = "a route to a guest needs the device to be up";
            section.refuse("guests", why, self.problems);
        }
        let mut guests = Vec::new();
        for At { value, place } in listed {
            if !is_hosts(value) {
                self.problems
                    .add(&place, format_args!("{value} is no host's address"));
            } else if let Some(other) = self.guests.insert(value, place.clone()) {
                let other = self.problems.line(&other);
                self.problems.add(
                    &place,
                    format_args!("guest {value} stands at line {other} already"),
                );
            } else {
                guests.push(value);
            }
        }
        guests
    }

    fn bridge(&mut self, section: &Section<'_, '_>, taps: &[Tap]) -> Option<Bridge> {
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

    fn vxlan(&mut self, section: &Section<'_, '_>) -> Option<Vxlan> {
        let name = self.own_name(section);
        if !section.has("id") {
            self.problems.add(&section.place, "[[vxlan]] has no 'id'");
        }
        let id = section.number("id", 1..=0x00ff_ffff, self.problems);
        let local: Option<IpAddr> = section.parsed("local", self.problems);
        let remote: Option<IpAddr> = section.parsed("remote", self.problems);
        let group: Option<IpAddr> = section.parsed("group", self.problems);
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

/// An address that one host can have.
fn is_hosts(address: IpAddr) -> bool {
    let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    !(address.is_unspecified() || address.is_multicast() || broadcast)
}
