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
mod tests {
    use uml_core::hostnet::Origin;

    use super::*;

    const ETH: u32 = 2;
    const TAP: u32 = 7;
    const OTHER_TAP: u32 = 8;

    fn prefix(text: &str) -> IpPrefix {
        text.parse().unwrap()
    }

    fn ip(text: &str) -> Ipv4Addr {
        text.parse().unwrap()
    }

    fn route(destination: &str, device: u32, gateway: Option<&str>) -> RouteEntry {
        RouteEntry {
            destination: prefix(destination),
            devices: vec![device],
            gateway: gateway.map(|text| ip(text).into()),
            multipath: Vec::new(),
            automatic: false,
            origin: Origin::BOOT,
        }
    }

    /// 192.0.2.10/24 on a network with public addresses, a router, an intranet behind another.
    fn host() -> HostView {
        let address = |device, text: &str| Address {
            device,
            prefix: prefix(text),
            peer: None,
            automatic: false,
        };
        let neighbour = |text: &str, known: bool| Neighbour {
            device: ETH,
            address: ip(text).into(),
            hardware: known.then(|| vec![2, 0, 0, 0, 0, 1]),
            permanent: false,
        };
        HostView {
            addresses: vec![
                address(1, "127.0.0.1/8"),
                address(ETH, "192.0.2.10/24"),
                address(TAP, "192.168.78.254/32"),
                Address {
                    peer: Some(ip("10.99.0.2").into()),
                    ..address(9, "10.99.0.1/32")
                },
            ],
            routes: vec![
                route("0.0.0.0/0", ETH, Some("192.0.2.1")),
                RouteEntry {
                    automatic: true,
                    ..route("192.0.2.0/24", ETH, None)
                },
                RouteEntry {
                    multipath: vec![ip("192.0.2.3").into()],
                    ..route("198.51.100.0/24", ETH, None)
                },
                route("10.1.0.0/16", ETH, Some("192.0.2.2")),
                route("192.168.78.1/32", OTHER_TAP, None),
                route("192.168.78.2/32", TAP, None),
            ],
            neighbours: vec![
                neighbour("192.0.2.20", true),
                neighbour("192.0.2.21", false),
            ],
            nameservers: vec![ip("192.0.2.53"), ip("10.2.0.53")],
        }
    }

    fn guest_text(address: &str) -> String {
        match guest(ip(address), TAP, None, &host()) {
            Ok(()) => "ok".to_owned(),
            Err(refusal) => refusal.to_string(),
        }
    }

    fn gateway_text(address: &str) -> String {
        match gateway(ip(address), None, &host()) {
            Ok(()) => "ok".to_owned(),
            Err(refusal) => refusal.to_string(),
        }
    }

    #[test]
    fn guests_get_free_addresses() {
        for address in [
            "192.168.78.2",
            "192.168.78.3",
            "10.0.0.1",
            "172.16.5.4",
            "192.0.2.99",
        ] {
            assert_eq!(guest_text(address), "ok", "{address}");
        }
        // Nobody answered for this one.
        assert_eq!(guest_text("192.0.2.21"), "ok");
    }

    #[test]
    fn guests_get_nobodys_address() {
        for (address, text) in [
            ("192.0.2.10", "192.0.2.10 is an address of this host"),
            (
                "192.168.78.254",
                "192.168.78.254 is an address of this host",
            ),
            ("0.1.2.3", "0.1.2.3 is a \"this network\" address"),
            ("127.5.0.1", "127.5.0.1 is a loopback address"),
            ("224.0.0.1", "224.0.0.1 is a multicast address"),
            (
                "255.255.255.255",
                "255.255.255.255 is the broadcast address",
            ),
            ("250.0.0.1", "250.0.0.1 is a reserved address"),
            (
                "192.0.2.0",
                "192.0.2.0 is the network or broadcast address of 192.0.2.10/24",
            ),
            (
                "192.0.2.255",
                "192.0.2.255 is the network or broadcast address of 192.0.2.10/24",
            ),
            ("192.0.2.1", "192.0.2.1 is a router that this host uses"),
            ("192.0.2.2", "192.0.2.2 is a router that this host uses"),
            ("192.0.2.3", "192.0.2.3 is a router that this host uses"),
            (
                "192.0.2.53",
                "192.0.2.53 is a name server that this host uses",
            ),
            (
                "10.2.0.53",
                "10.2.0.53 is a name server that this host uses",
            ),
            (
                "10.99.0.2",
                "10.99.0.2 is the other end of a link of this host",
            ),
            (
                "192.0.2.20",
                "192.0.2.20 belongs to a machine that this host knows",
            ),
            ("192.168.78.1", "192.168.78.1 has a route by another device"),
            (
                "10.1.2.3",
                "10.1.2.3 is in 10.1.0.0/16, which this host has a route to",
            ),
            (
                "8.8.8.8",
                "8.8.8.8 is neither a private address nor in a network of this host; 'guests' in the policy may allow it",
            ),
            (
                "169.254.169.254",
                "169.254.169.254 is neither a private address nor in a network of this host; 'guests' in the policy may allow it",
            ),
        ] {
            assert_eq!(guest_text(address), text);
        }
    }

    #[test]
    fn gateways_may_be_the_hosts_own() {
        for address in ["192.0.2.10", "192.168.78.254", "192.168.5.254"] {
            assert_eq!(gateway_text(address), "ok", "{address}");
        }
    }

    #[test]
    fn gateways_are_nobody_elses() {
        for address in [
            "127.0.0.1",
            "224.0.0.1",
            "192.0.2.1",
            "192.0.2.53",
            "192.0.2.20",
            "192.168.78.1",
            // Of the caller's own guest, but the host would talk to itself.
            "192.168.78.2",
            "10.1.2.3",
            "8.8.8.8",
            "192.0.2.255",
            "10.99.0.2",
        ] {
            assert_ne!(gateway_text(address), "ok", "{address}");
        }
    }

    #[test]
    fn a_policy_narrows_and_widens() {
        let networks = [
            prefix("198.18.0.0/15"),
            prefix("10.1.0.0/16"),
            prefix("192.0.2.0/24"),
        ];
        let allowed = Some(networks.as_slice());
        let host = host();
        assert_eq!(guest(ip("198.18.0.9"), TAP, allowed, &host), Ok(()));
        assert_eq!(guest(ip("10.1.2.3"), TAP, allowed, &host), Ok(()));
        assert!(matches!(
            guest(ip("192.168.78.3"), TAP, allowed, &host),
            Err(Refusal::NotListed { .. })
        ));
        // No list gives away what somebody has.
        assert_eq!(
            guest(ip("192.0.2.1"), TAP, allowed, &host),
            Err(Refusal::Router(ip("192.0.2.1")))
        );
        assert_eq!(
            guest(ip("192.0.2.10"), TAP, allowed, &host),
            Err(Refusal::OfHost(ip("192.0.2.10")))
        );
        // The host's own address as a gateway must be in the list too.
        assert_eq!(gateway(ip("192.0.2.10"), allowed, &host), Ok(()));
        assert!(gateway(ip("192.168.78.254"), allowed, &host).is_err());
    }

    #[test]
    fn edges_of_networks() {
        assert!(is_edge(ip("10.0.0.0"), prefix("10.0.0.9/8")));
        assert!(is_edge(ip("10.255.255.255"), prefix("10.0.0.9/8")));
        assert!(!is_edge(ip("10.0.0.255"), prefix("10.0.0.9/8")));
        assert!(is_edge(ip("255.255.255.255"), prefix("0.0.0.0/0")));
    }
}
