//! From what a file describes and what there is to the changes that lead from one to the other.

use uml_core::hostnet::{DeviceName, IpPrefix, LinkKind};

use super::{
    change::{Change, Shape, Step, TapShape, in_use},
    model::{Bridge, Carrier, Device, Network, OtherPorts, Tap, Vxlan},
    state::{Known, State, mode_of},
};
use crate::{Failure, holders::Holders};

/// The size of an Ethernet packet, which taps and bridges begin with.
const ETHERNET_MTU: u32 = 1500;

/// Plans the changes after which the host is as the file says; none if it is.
///
/// # Errors
/// What stands in the way: devices of another kind under the file's names, devices that are
/// missing, taps that would have to be made anew and are in use.
pub(super) fn apply(network: &Network, state: State) -> Result<Vec<Change>, Failure> {
    check(network, &state, Missing::IsWrong)?;
    let mut planner = Planner {
        network,
        state,
        changes: Vec::new(),
    };
    planner.remake()?;
    planner.make();
    planner.join();
    planner.configure();
    planner.reach_guests()?;
    Ok(planner.changes)
}

/// Plans the changes after which nothing that the file describes is left; none if nothing is.
///
/// # Errors
/// Devices of another kind under the file's names, taps that are in use.
pub(super) fn remove(network: &Network, state: State) -> Result<Vec<Change>, Failure> {
    check(network, &state, Missing::IsFine)?;
    let taps = network.taps.iter().map(|tap| &tap.device.name);
    refuse_users(taps)?;
    let mut planner = Planner {
        network,
        state,
        changes: Vec::new(),
    };
    planner.drop_proxies(|_, address| network.has_guest(address));
    // The last ones first. Bridges before their ports: what hangs on a port alone is then taken off
    // with the port.
    let names: Vec<&DeviceName> = network.names().collect();
    for name in names.into_iter().rev() {
        if planner.state.find(name).is_some() {
            let changes = planner.state.take_away(name);
            planner.changes.extend(changes);
        }
    }
    Ok(planner.changes)
}

/// What a device that the file needs, but doesn't make, is to a plan when it isn't there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Missing {
    IsWrong,
    IsFine,
}

/// Finds what stands in the way of the whole file, before anything is changed.
fn check(network: &Network, state: &State, missing: Missing) -> Result<(), Failure> {
    let mut wrong = Vec::new();
    let mut expect = |name: &DeviceName, what: &str, fits: fn(&LinkKind) -> bool| {
        if let Some(known) = state.find(name).filter(|known| !fits(&known.link.kind)) {
            wrong.push(match &known.link.kind {
                LinkKind::Other(None) => format!("{name} exists and is no {what}"),
                kind => format!("{name} exists and is no {what} but a device of kind {kind}"),
            });
        }
    };
    for tap in &network.taps {
        let fits = |kind: &LinkKind| matches!(kind, LinkKind::Tun(_));
        expect(&tap.device.name, "tap device", fits);
    }
    for bridge in &network.bridges {
        let fits = |kind: &LinkKind| matches!(kind, LinkKind::Bridge(_));
        expect(&bridge.device.name, "bridge", fits);
    }
    for vxlan in &network.vxlans {
        let fits = |kind: &LinkKind| matches!(kind, LinkKind::Vxlan(_));
        expect(&vxlan.device.name, "VXLAN link", fits);
    }
    if missing == Missing::IsWrong {
        for name in network.foreign() {
            if state.find(name).is_none() {
                wrong.push(format!(
                    "there is no device {name}, and the file doesn't make it"
                ));
            }
        }
        for guest in network.guests() {
            // The file's own devices get the file's addresses, none of which is a guest's.
            let owner = state.devices.iter().find(|known| {
                let mut own = known.addresses.iter();
                own.any(|address| address.address() == *guest)
                    && network
                        .names()
                        .all(|name| *name != known.link.interface.name)
            });
            if let Some(owner) = owner {
                wrong.push(format!(
                    "guest {guest} can't have this host's own address (dev {})",
                    owner.link.interface
                ));
            }
        }
    }
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(Failure::all(wrong))
    }
}

/// An error if somebody is attached to one of these taps.
fn refuse_users<'n>(names: impl Iterator<Item = &'n DeviceName>) -> Result<(), Failure> {
    let holders = Holders::find();
    let mut names = names.filter(|name| !holders.of(name.as_str()).is_empty());
    match names.next() {
        Some(name) => Err(in_use(name, &holders)),
        None => Ok(()),
    }
}

pub(super) struct Planner<'n> {
    pub(super) network: &'n Network,
    /// The host after the changes planned so far. New devices are not in it.
    pub(super) state: State,
    pub(super) changes: Vec<Change>,
}

impl Planner<'_> {
    pub(super) fn plan(&mut self, change: Change) {
        self.changes.push(change);
    }

    /// Takes away the devices whose differences can't be changed in place.
    fn remake(&mut self) -> Result<(), Failure> {
        let taps: Vec<&DeviceName> = self
            .network
            .taps
            .iter()
            .filter(|tap| self.known_tap(tap).is_some_and(|known| !fits(tap, known)))
            .map(|tap| &tap.device.name)
            .collect();
        refuse_users(taps.iter().copied())?;
        let vxlans: Vec<&DeviceName> = self
            .network
            .vxlans
            .iter()
            .filter(|vxlan| self.is_other_end(vxlan))
            .map(|vxlan| &vxlan.device.name)
            .collect();
        for name in taps.into_iter().chain(vxlans) {
            let changes = self.state.take_away(name);
            self.changes.extend(changes);
        }
        Ok(())
    }

    fn known_tap(&self, tap: &Tap) -> Option<&Known> {
        self.state.find(&tap.device.name)
    }

    fn is_other_end(&self, vxlan: &Vxlan) -> bool {
        let known = self.state.find(&vxlan.device.name);
        match known.map(|known| &known.link.kind) {
            Some(LinkKind::Vxlan(settings)) => self.state.vxlan_end(settings) != vxlan.end,
            _ => false,
        }
    }

    /// Makes what is missing, and sets what belongs to one kind of device alone.
    fn make(&mut self) {
        let network = self.network;
        for tap in &network.taps {
            self.make_tap(tap);
        }
        for vxlan in network.vxlans_on(Carrier::Other) {
            self.make_vxlan(vxlan);
        }
        for Bridge {
            device, settings, ..
        } in &network.bridges
        {
            let name = device.name.clone();
            match self.state.find(&name).map(|known| &known.link.kind) {
                None => self.plan(Change::Add(name, Shape::Bridge(*settings), None)),
                Some(LinkKind::Bridge(now)) if now != settings => {
                    let step = Step {
                        from: *now,
                        to: *settings,
                    };
                    self.plan(Change::SetBridge(name, step));
                }
                Some(_) => {}
            }
        }
        for vxlan in network.vxlans_on(Carrier::OwnBridge) {
            self.make_vxlan(vxlan);
        }
    }

    fn make_vxlan(&mut self, Vxlan { device, end }: &Vxlan) {
        if self.state.find(&device.name).is_none() {
            let shape = Shape::Vxlan(end.clone());
            self.plan(Change::Add(device.name.clone(), shape, None));
        }
        self.set_mtu(device, None);
    }

    fn make_tap(&mut self, tap: &Tap) {
        let name = tap.device.name.clone();
        let kind = self.known_tap(tap).map(|known| &known.link.kind);
        let Some(&LinkKind::Tun(state)) = kind else {
            let shape = Shape::Tap(TapShape {
                mode: tap.mode,
                owner: tap.owner,
                group: tap.group,
            });
            self.plan(Change::Add(name, shape, None));
            self.set_mtu(&tap.device, Some(ETHERNET_MTU));
            return;
        };
        let mode = mode_of(state);
        if !state.persistent {
            self.plan(Change::Keep(name.clone(), mode, true));
        }
        // That one is there and the other not has led to a new device before.
        if let Some(step) = Step::between(state.owner, tap.owner) {
            self.plan(Change::SetOwner(name.clone(), mode, step));
        }
        if let Some(step) = Step::between(state.group, tap.group) {
            self.plan(Change::SetGroup(name, mode, step));
        }
        self.set_mtu(&tap.device, Some(ETHERNET_MTU));
    }

    /// `fresh` is what a new device of this kind has, where that is known.
    fn set_mtu(&mut self, device: &Device, fresh: Option<u32>) {
        let now = self.state.find(&device.name).map(|known| known.link.mtu);
        let (Some(to), now) = (device.mtu, now.or(fresh)) else {
            return;
        };
        if now != Some(to) {
            // The opposite of a new device's first setting is never needed: the device goes.
            let from = now.unwrap_or(to);
            self.plan(Change::SetMtu(device.name.clone(), Step { from, to }));
        }
    }

    /// Brings the ports of bridges in line.
    fn join(&mut self) {
        let network = self.network;
        for bridge in &network.bridges {
            let name = &bridge.device.name;
            let own: Vec<&DeviceName> = network.names().collect();
            for port in self.state.ports_of(name) {
                let is_ours = own.contains(&&port) || bridge.other_ports == OtherPorts::Release;
                if is_ours && !bridge.ports.contains(&port) {
                    let change = self.state.set_master(&port, None);
                    self.plan(change);
                }
            }
        }
        for bridge in &network.bridges {
            let name = &bridge.device.name;
            let before = self.changes.len();
            for port in &bridge.ports {
                if self.state.master_of(port) != Some(name) {
                    let change = self.state.set_master(port, Some(name));
                    self.plan(change);
                }
            }
            // New ports may lower it to the smallest of theirs.
            match (
                self.state.find(name).map(|known| known.link.mtu),
                bridge.device.mtu,
            ) {
                (Some(from), Some(to)) if self.changes.len() > before => {
                    self.plan(Change::SetMtu(name.clone(), Step { from, to }));
                }
                _ => self.set_mtu(&bridge.device, None),
            }
        }
    }

    /// Brings addresses in line, and devices up or down.
    fn configure(&mut self) {
        let network = self.network;
        let taps = network.taps.iter().map(|tap| &tap.device);
        let vxlans = network.vxlans.iter().map(|vxlan| &vxlan.device);
        let bridges = network.bridges.iter().map(|bridge| &bridge.device);
        let devices: Vec<&Device> = taps.chain(vxlans).chain(bridges).collect();
        for device in &devices {
            self.set_addresses(device);
        }
        for device in &devices {
            if device.up {
                self.bring_up(&device.name);
            }
        }
        let own: Vec<&DeviceName> = network.names().collect();
        for port in network.bridges.iter().flat_map(|bridge| &bridge.ports) {
            if !own.contains(&port) {
                self.bring_up(port);
            }
        }
    }

    fn set_addresses(&mut self, device: &Device) {
        let name = &device.name;
        let (now, is_up) = match self.state.find(name) {
            Some(known) => (known.addresses.clone(), known.link.up),
            None => (Vec::new(), false),
        };
        let goes_down = is_up && !device.up;
        // New ones first: with its last address a device loses its routes.
        let missing = device.addresses.iter().filter(|&new| !now.contains(new));
        for &prefix in missing {
            self.plan(Change::AddAddress(name.clone(), prefix));
        }
        let has_ipv4 = |addresses: &[IpPrefix]| {
            let mut addresses = addresses.iter();
            addresses.any(|prefix| prefix.address().is_ipv4())
        };
        let loses_ipv4 = has_ipv4(&now) && !has_ipv4(&device.addresses);
        if goes_down || loses_ipv4 {
            for route in self.state.take_routes(name, |destination| {
                goes_down || destination.address().is_ipv4()
            }) {
                self.plan(Change::DeleteRoute(route));
            }
        }
        // A device that goes down loses its IPv6 addresses too.
        let (kept, gone): (Vec<IpPrefix>, Vec<IpPrefix>) = now.iter().partition(|&prefix| {
            device.addresses.contains(prefix) && (!goes_down || prefix.address().is_ipv4())
        });
        for &prefix in &gone {
            self.plan(Change::DeleteAddress(name.clone(), prefix));
        }
        if goes_down {
            self.plan(Change::SetUp(name.clone(), false));
        }
        for prefix in now {
            if device.addresses.contains(&prefix) && !kept.contains(&prefix) {
                self.plan(Change::AddAddress(name.clone(), prefix));
            }
        }
    }

    fn bring_up(&mut self, name: &DeviceName) {
        if !self.state.find(name).is_some_and(|known| known.link.up) {
            self.plan(Change::SetUp(name.clone(), true));
        }
    }
}

/// Whether a tap can become what the file says without being made anew. The header before each
/// frame is the choice of whoever attaches: it is not compared.
fn fits(tap: &Tap, known: &Known) -> bool {
    let LinkKind::Tun(state) = known.link.kind else {
        return true;
    };
    let mode = mode_of(state);
    mode.kind == tap.mode.kind
        && mode.multi_queue == tap.mode.multi_queue
        && state.owner.is_some() == tap.owner.is_some()
        && state.group.is_some() == tap.group.is_some()
}
