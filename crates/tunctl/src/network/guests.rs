//! The ways to guests: host routes, proxy entries, switches.

use std::net::IpAddr;

use uml_core::hostnet::{DeviceName, HostError, IpPrefix, Origin, Route, sysctl::Sysctl};

use super::{
    change::{Change, RoutePath},
    model::Tap,
    plan::Planner,
};
use crate::Failure;

impl Planner<'_> {
    /// Routes and proxy entries for guests, and the switches that make them work.
    pub(super) fn reach_guests(&mut self) -> Result<(), Failure> {
        let network = self.network;
        let mut missing = Vec::new();
        for tap in &network.taps {
            missing.extend(self.route_guests(tap)?);
        }
        self.drop_proxies(|device, address| {
            let mut taps = network.taps.iter();
            let is_wanted =
                taps.any(|tap| tap.guests.contains(&address) && tap.proxy_on.contains(device));
            network.has_guest(address) && !is_wanted
        });
        for route in missing {
            self.plan(Change::AddRoute(route));
        }
        let mut switches = Vec::new();
        for tap in &network.taps {
            if tap.guests.iter().any(IpAddr::is_ipv4) {
                switches.push(Sysctl::proxy_arp(&tap.device.name));
            }
            let has_ipv6 = tap.guests.iter().any(IpAddr::is_ipv6);
            for device in &tap.proxy_on {
                self.answer_for(&tap.guests, device);
                let switch = Sysctl::proxy_ndp(device);
                if has_ipv6 && !switches.contains(&switch) {
                    switches.push(switch);
                }
            }
        }
        switches.extend(self.forwarding());
        for switch in switches {
            if !is_on(&switch)? {
                self.plan(Change::Switch(switch, true));
            }
        }
        Ok(())
    }

    /// Proxy entries on one device.
    fn answer_for(&mut self, guests: &[IpAddr], device: &DeviceName) {
        let known = self.state.find(device);
        let missing: Vec<Change> = guests
            .iter()
            .filter(|guest| !known.is_some_and(|known| known.proxies.contains(guest)))
            .map(|&guest| Change::AddProxy(device.clone(), guest))
            .collect();
        self.changes.extend(missing);
    }

    /// The forwarding switches that must be on.
    fn forwarding(&self) -> Vec<Sysctl> {
        let guests = || self.network.guests();
        let mut switches = Vec::new();
        match self.network.forwarding {
            Some(false) => {}
            forced => {
                if forced == Some(true) || guests().any(IpAddr::is_ipv4) {
                    switches.push(Sysctl::ipv4_forwarding());
                }
                if guests().any(IpAddr::is_ipv6) {
                    switches.push(Sysctl::ipv6_forwarding());
                }
            }
        }
        switches
    }

    /// Deletes a tap's routes to guests that it no longer has, with what else was for them;
    /// returns the routes that it hasn't got yet.
    fn route_guests(&mut self, tap: &Tap) -> Result<Vec<RoutePath>, Failure> {
        let name = &tap.device.name;
        if !tap.device.up {
            // Its routes have gone with it.
            return Ok(Vec::new());
        }
        let mut missing = Vec::new();
        for &guest in &tap.guests {
            let destination = IpPrefix::host(guest);
            let other = self.state.devices.iter().find(|known| {
                let mut routes = known.routes.iter();
                routes.any(|path| path.route.destination == destination)
            });
            match other.map(|known| &known.link.interface.name) {
                Some(device) if device == name => {}
                Some(device) if !self.network.taps.iter().any(|t| t.device.name == *device) => {
                    return Err(Failure::say(&format!(
                        "guest {guest} of {name} has a route by dev {device} already, which this \
                         file doesn't describe: ip route del {destination} dev {device}"
                    )));
                }
                _ => missing.push(RoutePath {
                    route: Route {
                        destination,
                        device: name.clone(),
                        gateway: None,
                    },
                    origin: Origin::BOOT,
                }),
            }
        }
        let stale: Vec<RoutePath> = self
            .state
            .find(name)
            .into_iter()
            .flat_map(|known| &known.routes)
            .filter(|path| {
                is_guests(path) && !tap.guests.contains(&path.route.destination.address())
            })
            .cloned()
            .collect();
        let are_last = !stale.is_empty() && !tap.guests.iter().any(IpAddr::is_ipv4);
        for path in stale {
            let address = path.route.destination.address();
            self.plan(Change::DeleteRoute(path));
            if !self.network.has_guest(address) {
                self.drop_proxies(|_, other| other == address);
            }
        }
        let switch = Sysctl::proxy_arp(name);
        if are_last && is_on(&switch)? {
            self.plan(Change::Switch(switch, false));
        }
        Ok(missing)
    }

    /// Deletes the proxy entries that `goes` names.
    pub(super) fn drop_proxies(&mut self, goes: impl Fn(&DeviceName, IpAddr) -> bool) {
        for known in &mut self.state.devices {
            let name = &known.link.interface.name;
            known.proxies.retain(|&address| {
                let stays = !goes(name, address);
                if !stays {
                    self.changes
                        .push(Change::DeleteProxy(name.clone(), address));
                }
                stays
            });
        }
    }
}

/// A route to one host on the link, as guests get it here. Routes that others made for guests
/// (`uml_net`, a routing daemon) are theirs.
fn is_guests(path: &RoutePath) -> bool {
    let destination = path.route.destination;
    path.origin == Origin::BOOT
        && path.route.gateway.is_none()
        && destination == IpPrefix::host(destination.address())
}

/// A device that is still to be made has its switches off, unless the host's defaults say
/// otherwise; then switching on changes nothing.
fn is_on(switch: &Sysctl) -> Result<bool, HostError> {
    match switch.is_on() {
        Err(error) if error.is(libc::ENOENT) => Ok(false),
        answer => answer,
    }
}
