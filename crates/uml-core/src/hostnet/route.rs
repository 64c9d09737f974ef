//! Routes of the main table.

use std::{fmt, net::IpAddr};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, parse_u32};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    route::{
        RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope,
        RouteType,
    },
};

use super::{
    Host, HostError, Interface, IpPrefix,
    address::{family, parse_address},
    error::KernelAnswer,
    socket::attributes,
};

const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_MULTIPATH: u16 = 9;
const RTA_TABLE: u16 = 15;
/// The size of `struct rtmsg` in bytes.
const ROUTE_HEADER_SIZE: usize = 12;
/// The size of `struct rtnexthop` in bytes: length (2), flags, hops, device's index (4).
const NEXT_HOP_SIZE: usize = 8;

/// Who made a route or a proxy entry: a number that the kernel keeps with it, shown by
/// `ip route show proto NUMBER` and `ip neigh show proxy proto NUMBER`.
///
/// What carries a program's number was made by it, whatever has become of the program since.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Origin(pub u8);

impl Origin {
    /// `RTPROT_KERNEL`: the kernel, with an address.
    pub const KERNEL: Self = Self(2);
    /// `RTPROT_BOOT`: commands and scripts.
    pub const BOOT: Self = Self(3);
    /// `uml_net`, for a guest. Nobody else is known to use this number.
    pub const UML_NET: Self = Self(117);
}

/// A route to add or to delete. Its device is an [`Interface`] for the kernel, or a name in a plan.
///
/// As text it is what `ip route` takes: `DESTINATION [via GATEWAY] dev DEVICE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route<D = Interface> {
    /// Where it leads.
    pub destination: IpPrefix,
    /// The device that packets leave by.
    pub device: D,
    /// The router that they go to; without one the destination is on the link.
    pub gateway: Option<IpAddr>,
}

impl<D: fmt::Display> fmt::Display for Route<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.destination)?;
        if let Some(gateway) = self.gateway {
            write!(f, " via {gateway}")?;
        }
        write!(f, " dev {}", self.device)
    }
}

/// A unicast route as the main table has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteEntry {
    /// Where it leads.
    pub destination: IpPrefix,
    /// The indexes of the devices that packets leave by; several on a multipath route.
    pub devices: Vec<u32>,
    /// The router that they go to.
    pub gateway: Option<IpAddr>,
    /// The routers of a multipath route.
    pub multipath: Vec<IpAddr>,
    /// The kernel made it, with an address (`RTPROT_KERNEL`).
    pub automatic: bool,
    /// Who made it.
    pub origin: Origin,
}

impl Host {
    /// The unicast routes of the main table, IPv4 and IPv6.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn routes(&mut self) -> Result<Vec<RouteEntry>, HostError> {
        self.dump(&RouteNetlinkMessage::GetRoute(RouteMessage::default()))
            .and_then(|replies| replies.iter().map(|bytes| parse(bytes)).collect())
            .map(|routes: Vec<Option<RouteEntry>>| routes.into_iter().flatten().collect())
            .map_err(HostError::at::<KernelAnswer>("listing routes"))
    }

    /// Adds a route to the main table.
    ///
    /// # Errors
    /// What the kernel said, with the route: `EEXIST` where the destination has one, by this
    /// device or by another.
    pub fn add_route(&mut self, route: &Route) -> Result<(), HostError> {
        self.add_route_of(route, Origin::BOOT)
    }

    /// As [`Host::add_route`], with who makes it.
    ///
    /// # Errors
    /// As [`Host::add_route`].
    pub fn add_route_of(&mut self, route: &Route, origin: Origin) -> Result<(), HostError> {
        let mut message = message(route);
        message.header.protocol = RouteProtocol::from(origin.0);
        message.header.scope = match (route.destination.address(), route.gateway) {
            (IpAddr::V4(_), None) => RouteScope::Link,
            _ => RouteScope::Universe,
        };
        self.change(
            RouteNetlinkMessage::NewRoute(message),
            NLM_F_CREATE | NLM_F_EXCL,
        )
        .map_err(HostError::at(format!("adding route {route}")))
    }

    /// Deletes a route from the main table: the one with this destination, device and gateway.
    ///
    /// # Errors
    /// What the kernel said, with the route: `ESRCH` where there is none.
    pub fn delete_route(&mut self, route: &Route) -> Result<(), HostError> {
        let mut message = message(route);
        // "Nowhere" matches every scope.
        message.header.scope = RouteScope::NoWhere;
        self.change(RouteNetlinkMessage::DelRoute(message), 0)
            .map_err(HostError::at(format!("deleting route {route}")))
    }
}

fn message(route: &Route) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family(route.destination.address());
    message.header.destination_prefix_length = route.destination.length();
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.kind = RouteType::Unicast;
    message.attributes = vec![
        RouteAttribute::Destination(RouteAddress::from(route.destination.address())),
        RouteAttribute::Oif(route.device.index),
    ];
    message.attributes.extend(
        route
            .gateway
            .map(|gateway| RouteAttribute::Gateway(gateway.into())),
    );
    message
}

/// `None` for what is no unicast route of the main table.
fn parse(bytes: &[u8]) -> Result<Option<RouteEntry>, KernelAnswer> {
    let header = RouteHeader::parse(bytes)?;
    let any: IpAddr = match header.address_family {
        AddressFamily::Inet => std::net::Ipv4Addr::UNSPECIFIED.into(),
        AddressFamily::Inet6 => std::net::Ipv6Addr::UNSPECIFIED.into(),
        _ => return Ok(None),
    };
    let mut destination = Some(any);
    let mut devices = Vec::new();
    let mut gateway = None;
    let mut multipath = Vec::new();
    let mut table = u32::from(header.table);
    for attribute in attributes(bytes.get(ROUTE_HEADER_SIZE..).unwrap_or_default()) {
        match attribute? {
            (RTA_DST, value) => destination = parse_address(value),
            (RTA_OIF, value) => devices.push(parse_u32(value)?),
            (RTA_GATEWAY, value) => gateway = parse_address(value),
            (RTA_MULTIPATH, value) => {
                for (device, router) in next_hops(value) {
                    devices.push(device);
                    multipath.extend(router);
                }
            }
            (RTA_TABLE, value) => table = parse_u32(value)?,
            _ => {}
        }
    }
    if header.kind != RouteType::Unicast || table != u32::from(RouteHeader::RT_TABLE_MAIN) {
        return Ok(None);
    }
    let entry = destination
        .and_then(|address| IpPrefix::new(address, header.destination_prefix_length).ok())
        .map(|destination| RouteEntry {
            destination,
            devices,
            gateway,
            multipath,
            automatic: header.protocol == RouteProtocol::Kernel,
            origin: Origin(header.protocol.into()),
        });
    Ok(entry)
}

/// The devices' indexes and the routers in a row of `struct rtnexthop`, each with its own
/// attributes behind it.
fn next_hops(mut bytes: &[u8]) -> Vec<(u32, Option<IpAddr>)> {
    let mut hops = Vec::new();
    while let (Some(&[low, high]), Some(index)) = (bytes.first_chunk(), bytes.get(4..NEXT_HOP_SIZE))
    {
        let length = usize::from(u16::from_ne_bytes([low, high])).max(NEXT_HOP_SIZE);
        let own = bytes.get(NEXT_HOP_SIZE..length.min(bytes.len()));
        let router = attributes(own.unwrap_or_default())
            .flatten()
            .find(|(number, _)| *number == RTA_GATEWAY)
            .and_then(|(_, value)| parse_address(value));
        if let Ok(index) = parse_u32(index) {
            hops.push((index, router));
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    hops
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn next_hops_end_with_their_bytes() {
        assert_eq!(next_hops(&[]), []);
        assert_eq!(next_hops(&[8, 0, 0, 0, 7, 0, 0]), []);
        let seven = 7_u32.to_ne_bytes();
        let length = 8_u16.to_ne_bytes();
        let hop = [length.as_slice(), &[0, 0], &seven].concat();
        assert_eq!(next_hops(&hop), [(7, None)]);
        assert_eq!(
            next_hops(&[hop.clone(), hop].concat()),
            [(7, None), (7, None)]
        );
        // A router's address: an attribute of 8 bytes, number 5.
        let with_router = [16, 0, 0, 0, 7, 0, 0, 0, 8, 0, 5, 0, 10, 0, 0, 1];
        let router = IpAddr::from([10, 0, 0, 1]);
        if cfg!(target_endian = "little") {
            assert_eq!(next_hops(&with_router), [(7, Some(router))]);
        }
        // A length of zero must not turn in circles.
        assert_eq!(next_hops(&[0, 0, 0, 0, 1, 0, 0, 0]).len(), 1);
    }
}
