//! `add` and `del`: a guest's address behind a device.

use std::net::{IpAddr, Ipv4Addr};

use uml_core::hostnet::{Interface, IpPrefix, Link, Origin, RouteEntry, sysctl::Sysctl};

use crate::{
    args::GuestAddress,
    problem::Problem,
    rules,
    session::{Session, host_route, leads},
};

impl Session<'_> {
    /// Makes a guest's address reachable: a host route, and the host answers ARP for it.
    ///
    /// # Errors
    /// Why not. Where the kernel refuses half-way, the address is taken back, unless an earlier call
    /// added it: that guest goes on.
    pub fn add(&mut self, guest: &GuestAddress) -> Result<(), Problem> {
        let interface = self.callers_device(guest)?;
        let view = self.view()?;
        rules::guest(
            guest.address,
            interface.index,
            self.policy.guests.as_deref(),
            &view,
        )?;
        let behind = view
            .routes
            .iter()
            .filter(|route| route.origin == Origin::UML_NET && route.devices == [interface.index]);
        let mut to_it = view
            .routes
            .iter()
            .filter(|route| leads(route, guest.address, &interface));
        let before = to_it.next();
        let known = before.is_some();
        if !known && behind.count() >= self.policy.addresses {
            return Err(Problem::TooManyAddresses {
                device: guest.device.clone(),
                limit: self.policy.addresses,
            });
        }
        let slip = self.is_slip(interface.index);
        let added = self
            .forwarding_for(&interface, slip)
            .and_then(|()| self.add_route(guest.address, &interface, known))
            .and_then(|()| self.answer_for(guest, &interface, &view.routes));
        if added.is_err() && !before.is_some_and(|route| route.origin == Origin::UML_NET) {
            // What failed is told; that something of it can't be undone would be beside the point.
            let _ = self.undo(guest.address, &interface);
        }
        added
    }

    /// Undoes what [`Session::add`] did for an address, and nothing else.
    ///
    /// # Errors
    /// Why not.
    pub fn delete(&mut self, guest: &GuestAddress) -> Result<(), Problem> {
        let interface = self.callers_device(guest)?;
        if !self.undo(guest.address, &interface)? {
            self.log.says(format_args!(
                "uml_net: {} was not added to {interface} by uml_net: it stays as it is",
                guest.address
            ));
        }
        Ok(())
    }

    /// The device, where it is the caller's.
    fn callers_device(&mut self, guest: &GuestAddress) -> Result<Interface, Problem> {
        match self.host().find_link(&guest.device)? {
            Some(link) if self.is_callers(&link) => Ok(link.interface),
            _ => Err(Problem::NotYours {
                device: guest.device.clone(),
                uid: self.caller.uid,
            }),
        }
    }

    fn add_route(
        &mut self,
        address: Ipv4Addr,
        interface: &Interface,
        known: bool,
    ) -> Result<(), Problem> {
        if known {
            return Ok(());
        }
        let route = host_route(address, interface);
        self.change(|host| host.add_route_of(&route, Origin::UML_NET))?;
        self.log.did(format_args!("ip route add {route}"));
        Ok(())
    }

    /// Makes the host answer ARP for others on the guest's device, and for the guest on each
    /// other device whose network covers its address.
    fn answer_for(
        &mut self,
        guest: &GuestAddress,
        interface: &Interface,
        routes: &[RouteEntry],
    ) -> Result<(), Problem> {
        if !self.policy.proxy_arp {
            self.log.says(
                "uml_net: the policy allows no proxy ARP: the guest is seen by this host alone",
            );
            return Ok(());
        }
        let setting = Sysctl::proxy_arp(&interface.name);
        if !setting.is_on()? {
            self.state.proxy_arp.push(interface.index);
            self.save()?;
            self.change(|_| setting.set(true))?;
            self.log.did(format_args!(
                "sysctl -w net.ipv4.conf.{interface}.proxy_arp=1"
            ));
        }
        let address = IpAddr::V4(guest.address);
        let answered = self.host().proxies()?;
        for link in self.host().links()? {
            let index = link.interface.index;
            let has_it = answered
                .iter()
                .any(|proxy| proxy.device == index && proxy.address == address);
            if has_it || !sees(&link, interface, guest, routes) {
                continue;
            }
            let on = &link.interface;
            self.change(|host| host.add_proxy_of(on, address, Origin::UML_NET))?;
            self.log
                .did(format_args!("ip neigh add proxy {address} dev {on}"));
        }
        Ok(())
    }

    /// Takes back what carries our mark. Returns whether there was anything.
    fn undo(&mut self, address: Ipv4Addr, interface: &Interface) -> Result<bool, Problem> {
        let it = IpAddr::V4(address);
        let routes = self.host().routes()?;
        let mut to_it = routes
            .iter()
            .filter(|route| leads(route, address, interface));
        let Some(route) = to_it.next() else {
            // Nothing leads there by this device, so its proxy entries aren't this device's.
            self.no_guest_left(interface, &routes)?;
            return Ok(false);
        };
        let mut undone = false;
        for proxy in self.host().proxies_of(Origin::UML_NET)? {
            if proxy.address != it {
                continue;
            }
            // A device that is gone has taken its entries along.
            if let Ok(link) = self.host().link_at(proxy.device) {
                let on = link.interface;
                self.change(|host| host.delete_proxy(&on, it))?;
                self.log
                    .did(format_args!("ip neigh del proxy {address} dev {on}"));
                undone = true;
            }
        }
        if route.origin == Origin::UML_NET {
            let route = host_route(address, interface);
            self.change(|host| host.delete_route(&route))?;
            self.log.did(format_args!("ip route del {route}"));
            undone = true;
        }
        let left: Vec<RouteEntry> = routes
            .iter()
            .filter(|route| !leads(route, address, interface))
            .cloned()
            .collect();
        self.no_guest_left(interface, &left)?;
        Ok(undone)
    }

    /// Puts proxy ARP and forwarding back when no guest's address is left behind a device.
    fn no_guest_left(&mut self, interface: &Interface, left: &[RouteEntry]) -> Result<(), Problem> {
        if left
            .iter()
            .any(|route| route.origin == Origin::UML_NET && route.devices == [interface.index])
        {
            return Ok(());
        }
        if self.state.proxy_arp.contains(&interface.index) {
            let setting = Sysctl::proxy_arp(&interface.name);
            if setting.is_on()? {
                self.change(|_| setting.set(false))?;
                self.log.did(format_args!(
                    "sysctl -w net.ipv4.conf.{interface}.proxy_arp=0"
                ));
            }
            self.state
                .proxy_arp
                .retain(|&index| index != interface.index);
        }
        self.forwarding_without(interface)
    }
}

/// Whether machines behind a device look for a guest there: the device has a route to a network
/// that covers the guest's address, also when it is looked at with the guest's netmask.
fn sees(link: &Link, own: &Interface, guest: &GuestAddress, routes: &[RouteEntry]) -> bool {
    if link.loopback || link.interface.index == own.index {
        return false;
    }
    routes.iter().any(|route| {
        route.devices.contains(&link.interface.index)
            && (1..32).contains(&route.destination.length())
            && route.destination.contains(guest.address)
            && guest
                .netmask
                .is_none_or(|mask| covers(route.destination, guest.address, mask))
    })
}

/// Whether a network's first address and a guest's are in one network by the guest's netmask.
fn covers(network: IpPrefix, guest: Ipv4Addr, mask: Ipv4Addr) -> bool {
    let IpAddr::V4(first) = network.address() else {
        return false;
    };
    (first.to_bits() ^ guest.to_bits()) & mask.to_bits() == 0
}
