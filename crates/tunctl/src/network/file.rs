//! Reading the network file: what it may say, and what that means.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    path::Path,
};

use uml_core::{
    hostnet::{DeviceName, IpPrefix},
    tuntap::{Kind, Mode},
};

use super::{
    model::{Device, Network, Tap},
    reader::{At, Lone, Place, Problems, Section, parse},
};
use crate::ids;

/// More taps in one file than this are taken for a slip.
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

pub(super) struct Reader<'p, 'f> {
    pub(super) problems: &'p mut Problems<'f>,
    /// Every device's name, with the line that it stands in.
    names: HashMap<DeviceName, usize>,
    /// The names that a tap pattern stands for.
    pub(super) patterns: HashMap<String, Vec<DeviceName>>,
    /// Every guest, with its place.
    guests: HashMap<IpAddr, Place>,
    /// Every address of the host's own.
    own: HashSet<IpAddr>,
    /// Every port, with its line.
    pub(super) ports: HashMap<DeviceName, usize>,
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
            if network.taps.len() > MOST_TAPS as usize {
                self.problems.add(
                    &section.place,
                    format_args!("with this the file makes more than {MOST_TAPS} taps"),
                );
                break;
            }
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

    pub(super) fn own_name(&mut self, section: &Section<'_, '_>) -> Option<DeviceName> {
        let text = section.needed_text("name", self.problems)?;
        self.name(text, &section.place_of("name"))
    }

    pub(super) fn addresses(&mut self, section: &Section<'_, '_>) -> Vec<IpPrefix> {
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
        let listed: Vec<At<Lone>> = section.list("guests", self.problems);
        if !listed.is_empty() && !up {
            let why = "a route to a guest needs the device to be up";
            section.refuse("guests", why, self.problems);
        }
        let mut guests = Vec::new();
        for At {
            value: Lone(value),
            place,
        } in listed
        {
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
}

/// An address that one host can have.
fn is_hosts(address: IpAddr) -> bool {
    let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    !(address.is_unspecified() || address.is_multicast() || broadcast)
}
