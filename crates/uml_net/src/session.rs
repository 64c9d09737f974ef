//! One call's work on the host, from the lock to the last change.

use std::{net::Ipv4Addr, os::fd::AsFd as _};

use uml_core::{
    error::chain,
    hostnet::{Host, HostError, Interface, IpPrefix, Link, LinkKind, Origin, Route, RouteEntry},
    sys::process::network_namespace,
    tuntap::Kind,
};

use crate::{
    log::Log,
    policy::Policy,
    privilege::{Caller, Privilege},
    problem::Problem,
    rules::HostView,
    state::{State, StateError, Store, Unlocked},
};

/// The host's network, what earlier calls left, and what this call may do about them.
#[derive(Debug)]
pub struct Session<'a> {
    /// Who calls.
    pub caller: &'a Caller,
    /// What callers may do.
    pub policy: &'a Policy,
    /// What was done and said.
    pub log: &'a mut Log,
    pub(crate) state: State,
    privilege: &'a Privilege,
    host: Host,
    /// Where the state is kept, or why it can't be.
    store: Result<Store, StateError>,
}

impl<'a> Session<'a> {
    /// Waits for other calls to end, and puts right what killed ones and dead guests left.
    ///
    /// # Errors
    /// Where there is no privilege, or another call doesn't end.
    pub fn open(
        caller: &'a Caller,
        policy: &'a Policy,
        privilege: &'a Privilege,
        log: &'a mut Log,
    ) -> Result<Self, Problem> {
        if !privilege.exists() {
            return Err(Problem::NoPrivilege);
        }
        let raised = || {
            // The kernel also looks at who opened a netlink socket.
            let host = Host::open()?;
            Ok::<_, HostError>((host, namespace().and_then(Unlocked::open)))
        };
        let (host, unlocked) = privilege.raised(raised).map_err(Problem::Raise)??;
        let loaded = match unlocked.and_then(Unlocked::lock) {
            Ok(store) => privilege
                .raised(|| store.load())
                .map_err(Problem::Raise)?
                .map(|state| (store, state)),
            Err(error) => Err(error),
        };
        let (store, state) = match loaded {
            Ok((store, state)) => (Ok(store), state),
            Err(error) if error.is_for_good() => (Err(error), State::default()),
            Err(error) => return Err(error.into()),
        };
        let mut session = Self {
            caller,
            policy,
            log,
            state,
            privilege,
            host,
            store,
        };
        session.clean()?;
        Ok(session)
    }

    /// Forgets devices that are gone, with all that was there for their guests.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn clean(&mut self) -> Result<(), Problem> {
        let before = self.state.clone();
        let links = self.host.links()?;
        let exists = |index: u32| links.iter().any(|link| link.interface.index == index);
        self.state.users.retain(|guest| exists(guest.index));
        self.state.proxy_arp.retain(|&index| exists(index));
        self.delete_stale_proxies(&links)?;
        if self.state.users.is_empty() {
            self.forwarding_back()?;
        }
        if self.state != before {
            self.save_less();
        }
        Ok(())
    }

    /// A proxy entry with our mark is stale when no device of a guest has a route to its address.
    fn delete_stale_proxies(&mut self, links: &[Link]) -> Result<(), Problem> {
        let proxies = self.host.proxies_of(Origin::UML_NET)?;
        if proxies.is_empty() {
            return Ok(());
        }
        let routes = self.host.routes()?;
        let is_guests = |index: u32| {
            links.iter().any(|link| {
                link.interface.index == index
                    && (matches!(link.kind, LinkKind::Tun(_)) || self.is_slip(index))
            })
        };
        let stale: Vec<_> = proxies
            .into_iter()
            .filter(|proxy| {
                let destination = IpPrefix::host(proxy.address);
                !routes.iter().any(|route| {
                    route.destination == destination
                        && route.devices.iter().any(|&device| is_guests(device))
                })
            })
            .collect();
        for proxy in stale {
            let Some(link) = links
                .iter()
                .find(|link| link.interface.index == proxy.device)
            else {
                continue;
            };
            let on = &link.interface;
            self.change(|host| host.delete_proxy(on, proxy.address))?;
            self.log.did(format_args!(
                "ip neigh del proxy {} dev {on}",
                proxy.address
            ));
        }
        Ok(())
    }

    /// Asks the host's network, with no privilege.
    pub(crate) fn host(&mut self) -> &mut Host {
        &mut self.host
    }

    /// Changes the host's network.
    pub(crate) fn change<T, E>(
        &mut self,
        change: impl FnOnce(&mut Host) -> Result<T, E>,
    ) -> Result<T, Problem>
    where
        Problem: From<E>,
    {
        let host = &mut self.host;
        Ok(self
            .privilege
            .raised(|| change(host))
            .map_err(Problem::Raise)??)
    }

    /// Writes the state down, before the change that it is about. Returns why no state can be kept
    /// at all, where that is so.
    ///
    /// # Errors
    /// Where it can be kept, but not now: a full disk.
    pub(crate) fn save(&mut self) -> Result<Option<String>, Problem> {
        let store = match &self.store {
            Ok(store) => store,
            Err(error) => return Ok(Some(chain(error))),
        };
        let state = &self.state;
        self.privilege
            .raised(|| store.save(state))
            .map_err(Problem::Raise)??;
        Ok(None)
    }

    /// Writes down a state that has become less. Should that fail, a later call finds devices in it
    /// that are gone, and forgets them again.
    pub(crate) fn save_less(&mut self) {
        let _ = self.save();
    }

    /// What the rules about addresses look at.
    pub(crate) fn view(&mut self) -> Result<HostView, Problem> {
        Ok(HostView {
            addresses: self.host.addresses(None)?,
            routes: self.host.routes()?,
            neighbours: self.host.neighbours()?,
            nameservers: nameservers(
                &std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default(),
            ),
        })
    }

    /// Whether the device of this index is a SLIP line that was brought up here.
    pub(crate) fn is_slip(&self, index: u32) -> bool {
        self.state
            .users
            .iter()
            .any(|guest| guest.index == index && guest.slip)
    }

    /// Whether a device is the caller's, to have guests behind it.
    pub(crate) fn is_callers(&self, link: &Link) -> bool {
        match link.kind {
            LinkKind::Tun(tun) => tun.kind == Kind::Tap && tun.owner == Some(self.caller.uid),
            _ => self.state.users.iter().any(|guest| {
                guest.slip && guest.index == link.interface.index && guest.uid == self.caller.uid
            }),
        }
    }
}

/// The host route to a guest's address.
pub(crate) fn host_route(address: Ipv4Addr, interface: &Interface) -> Route {
    Route {
        destination: IpPrefix::host(address),
        device: interface.clone(),
        gateway: None,
    }
}

/// Whether a route is one that leads a guest's address to this device, whoever made it.
pub(crate) fn leads(route: &RouteEntry, address: Ipv4Addr, interface: &Interface) -> bool {
    route.destination == IpPrefix::host(address)
        && route.devices == [interface.index]
        && route.gateway.is_none()
}

/// The number of the network namespace.
fn namespace() -> Result<u64, StateError> {
    let socket = std::os::unix::net::UnixDatagram::unbound()?;
    Ok(network_namespace(socket.as_fd())?)
}

/// The name servers that the text of a `resolv.conf` names. What stands behind an address on its
/// line is nothing to the resolver either.
fn nameservers(text: &str) -> Vec<Ipv4Addr> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            words.next().filter(|&word| word == "nameserver")?;
            words.next()?.parse().ok()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_are_read_as_the_resolver_does() {
        let text = "# nameserver 10.0.0.1\nnameserver 10.0.0.2\n nameserver\t10.0.0.3 # ours\n\
                    nameserver10.0.0.4\nnameserver\nnameserver fd00::1\nsearch 10.0.0.5\n";
        let expected: [Ipv4Addr; 2] = [[10, 0, 0, 2].into(), [10, 0, 0, 3].into()];
        assert_eq!(nameservers(text), expected);
    }
}
