//! Which addresses a caller may put on the host, and which may be behind its tap.
//!
//! A guest's address becomes a host route, and a gateway's an address of the host: whoever may
//! choose them freely can take the host's traffic to anybody. So neither may be an address that
//! somebody is known to have, and without a policy both must be private or belong to a network
//! that the host itself is in.

use std::net::{IpAddr, Ipv4Addr};

use uml_core::hostnet::{Address, IpPrefix, Neighbour, RouteEntry};

/// What the host's network looks like to these rules.
#[derive(Debug, Clone, Default)]
pub struct HostView {
    /// All addresses of all devices.
    pub addresses: Vec<Address>,
    /// The main routing table.
    pub routes: Vec<RouteEntry>,
    /// The neighbour table.
    pub neighbours: Vec<Neighbour>,
    /// The name servers that `/etc/resolv.conf` names.
    pub nameservers: Vec<Ipv4Addr>,
}

/// Why an address is refused. The texts are what the guest prints.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// An address that no host can have.
    #[error("{address} is {what} address")]
    Never {
        /// The address.
        address: Ipv4Addr,
        /// `a loopback`, `a multicast` …
        what: &'static str,
    },
    /// An address of the host's own, where a guest's is wanted.
    #[error("{0} is an address of this host")]
    OfHost(Ipv4Addr),
    /// The first or the last address of a network that the host is in.
    #[error("{address} is the network or broadcast address of {network}")]
    NetworkOrBroadcast {
        /// The address.
        address: Ipv4Addr,
        /// The host's address with the network's length.
        network: IpPrefix,
    },
    /// A router of the host's.
    #[error("{0} is a router that this host uses")]
    Router(Ipv4Addr),
    /// A name server of the host's.
    #[error("{0} is a name server that this host uses")]
    NameServer(Ipv4Addr),
    /// The other end of a point-to-point link.
    #[error("{0} is the other end of a link of this host")]
    Peer(Ipv4Addr),
    /// A machine that the host has talked to on another device.
    #[error("{0} belongs to a machine that this host knows")]
    Neighbour(Ipv4Addr),
    /// A host route by another device.
    #[error("{0} has a route by another device")]
    HostRoute(Ipv4Addr),
    /// A network that the host reaches in a way somebody has set up.
    #[error("{address} is in {network}, which this host has a route to")]
    Routed {
        /// The address.
        address: Ipv4Addr,
        /// The route's destination.
        network: IpPrefix,
    },
    /// Not in the policy's list.
    #[error("{address} is in none of the networks that {list} in the policy allows")]
    NotListed {
        /// The address.
        address: Ipv4Addr,
        /// The policy's key.
        list: &'static str,
    },
    /// Neither private nor in a network of the host's, and no policy that allows it.
    #[error(
        "{address} is neither a private address nor in a network of this host; {list} in the policy may allow it"
    )]
    Public {
        /// The address.
        address: Ipv4Addr,
        /// The policy's key.
        list: &'static str,
    },
}

/// Whether an address may be a guest's, behind the device of this index.
///
/// `allowed` is the policy's list of networks, if it has one.
///
/// # Errors
/// Why not.
pub fn guest(
    address: Ipv4Addr,
    device: u32,
    allowed: Option<&[IpPrefix]>,
    host: &HostView,
) -> Result<(), Refusal> {
    never(address)?;
    if host.has(address) {
        return Err(Refusal::OfHost(address));
    }
    listed(address, allowed, "'guests'")?;
    foreign(address, Some(device), allowed, "'guests'", host)
}

/// Whether an address may become the host's end of a guest's network.
///
/// One that the host has already may, as the UML HOWTO recommends to those short of addresses.
///
/// # Errors
/// Why not.
pub fn gateway(
    address: Ipv4Addr,
    allowed: Option<&[IpPrefix]>,
    host: &HostView,
) -> Result<(), Refusal> {
    never(address)?;
    listed(address, allowed, "'gateways'")?;
    if host.has(address) {
        return Ok(());
    }
    foreign(address, None, allowed, "'gateways'", host)
}

impl HostView {
    fn has(&self, address: Ipv4Addr) -> bool {
        self.addresses
            .iter()
            .any(|own| own.prefix.address() == IpAddr::V4(address))
    }
}

fn never(address: Ipv4Addr) -> Result<(), Refusal> {
    let what = match address.octets()[0] {
        0 => "a \"this network\"",
        127 => "a loopback",
        224..=239 => "a multicast",
        240..=255 if address.is_broadcast() => "the broadcast",
        240..=255 => "a reserved",
        _ => return Ok(()),
    };
    Err(Refusal::Never { address, what })
}

fn listed(
    address: Ipv4Addr,
    allowed: Option<&[IpPrefix]>,
    list: &'static str,
) -> Result<(), Refusal> {
    match allowed {
        Some(networks) if !networks.iter().any(|network| network.contains(address)) => {
            Err(Refusal::NotListed { address, list })
        }
        _ => Ok(()),
    }
}

/// Whether an address that isn't the host's is somebody else's.
fn foreign(
    address: Ipv4Addr,
    device: Option<u32>,
    allowed: Option<&[IpPrefix]>,
    list: &'static str,
    host: &HostView,
) -> Result<(), Refusal> {
    let it = IpAddr::V4(address);
    for own in &host.addresses {
        if own.peer == Some(it) {
            return Err(Refusal::Peer(address));
        }
        if own.prefix.length() < 31 && is_edge(address, own.prefix) {
            return Err(Refusal::NetworkOrBroadcast {
                address,
                network: own.prefix,
            });
        }
    }
    let routers = |route: &RouteEntry| route.gateway == Some(it) || route.multipath.contains(&it);
    if host.routes.iter().any(routers) {
        return Err(Refusal::Router(address));
    }
    if host.nameservers.contains(&address) {
        return Err(Refusal::NameServer(address));
    }
    let elsewhere = |index: u32| Some(index) != device;
    let known = |neighbour: &Neighbour| {
        neighbour.address == it && neighbour.hardware.is_some() && elsewhere(neighbour.device)
    };
    if host.neighbours.iter().any(known) {
        return Err(Refusal::Neighbour(address));
    }
    // The route that packets to this address take now, but for a default route.
    let route = host
        .routes
        .iter()
        .filter(|route| route.destination.length() > 0 && route.destination.contains(it))
        .filter(|route| route.devices.iter().any(|&index| elsewhere(index)))
        .max_by_key(|route| route.destination.length());
    match route {
        Some(route) if route.destination.length() == 32 => Err(Refusal::HostRoute(address)),
        // What the policy names is the administrator's own choice.
        _ if allowed.is_some() => Ok(()),
        // The kernel made it with an address of the host's: the host is in that network.
        Some(route) if route.automatic && !address.is_link_local() => Ok(()),
        Some(route) => Err(Refusal::Routed {
            address,
            network: route.destination,
        }),
        None if address.is_private() => Ok(()),
        None => Err(Refusal::Public { address, list }),
    }
}

/// Whether an address is the first or the last of a network.
fn is_edge(address: Ipv4Addr, network: IpPrefix) -> bool {
    let hosts = u32::MAX
        .checked_shr(u32::from(network.length()))
        .unwrap_or(0);
    let host = address.to_bits() & hosts;
    network.contains(address) && (host == 0 || host == hosts)
}

#[cfg(test)]
mod tests;
