//! Neighbours: who has which hardware address, and for whom this host answers (proxy ARP).

use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, parse_u8};
use netlink_packet_route::{
    RouteNetlinkMessage,
    neighbour::{
        NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourHeader, NeighbourMessage,
        NeighbourState,
    },
};

use super::{
    Host, HostError, Interface, Origin,
    address::{family, parse_address},
    error::KernelAnswer,
    socket::attributes,
};

const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const NDA_PROTOCOL: u16 = 12;
/// The size of `struct ndmsg` in bytes.
const NEIGHBOUR_HEADER_SIZE: usize = 12;

/// An entry that makes this host answer ARP (IPv6: neighbour solicitations) for somebody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Proxy {
    /// The index of the device on which it answers.
    pub device: u32,
    /// Whom it answers for.
    pub address: IpAddr,
}

/// An entry of the neighbour table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbour {
    /// The index of the device.
    pub device: u32,
    /// The neighbour's address.
    pub address: IpAddr,
    /// Its hardware address, where it is known.
    pub hardware: Option<Vec<u8>>,
    /// Set by hand: it doesn't age (`NUD_PERMANENT`).
    pub permanent: bool,
}

impl Host {
    /// All proxy entries.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn proxies(&mut self) -> Result<Vec<Proxy>, HostError> {
        let entries = self.proxy_entries()?;
        Ok(entries.into_iter().map(|(proxy, _)| proxy).collect())
    }

    /// The proxy entries that are marked as made by `origin`.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn proxies_of(&mut self, origin: Origin) -> Result<Vec<Proxy>, HostError> {
        let entries = self.proxy_entries()?;
        Ok(entries
            .into_iter()
            .filter(|(_, maker)| *maker == Some(origin))
            .map(|(proxy, _)| proxy)
            .collect())
    }

    fn proxy_entries(&mut self) -> Result<Vec<(Proxy, Option<Origin>)>, HostError> {
        let mut message = NeighbourMessage::default();
        message.header.flags = NeighbourFlags::Proxy;
        let entries = self.neighbour_entries(message, "listing proxy entries")?;
        Ok(entries
            .into_iter()
            .map(|entry| {
                let proxy = Proxy {
                    device: entry.neighbour.device,
                    address: entry.neighbour.address,
                };
                (proxy, entry.origin)
            })
            .collect())
    }

    /// Makes this host answer for an address on a device.
    ///
    /// # Errors
    /// What the kernel said, with address and device; `EEXIST` where it answers already.
    pub fn add_proxy(&mut self, interface: &Interface, address: IpAddr) -> Result<(), HostError> {
        self.new_proxy(interface, address, None)
    }

    /// As [`Host::add_proxy`], with who makes it. Kernels before 5.1 don't keep that.
    ///
    /// # Errors
    /// As [`Host::add_proxy`].
    pub fn add_proxy_of(
        &mut self,
        interface: &Interface,
        address: IpAddr,
        origin: Origin,
    ) -> Result<(), HostError> {
        self.new_proxy(interface, address, Some(origin))
    }

    fn new_proxy(
        &mut self,
        interface: &Interface,
        address: IpAddr,
        origin: Option<Origin>,
    ) -> Result<(), HostError> {
        let doing = format!("adding proxy entry {address} dev {interface}");
        let wanted = Proxy {
            device: interface.index,
            address,
        };
        // The kernel takes an existing entry over without a word.
        if self.proxies()?.contains(&wanted) {
            return Err(HostError::at(doing)(KernelAnswer::number(libc::EEXIST)));
        }
        let mut message = proxy(wanted);
        message
            .attributes
            .extend(origin.map(|origin| NeighbourAttribute::Protocol(origin.0.into())));
        self.change(
            RouteNetlinkMessage::NewNeighbour(message),
            NLM_F_CREATE | NLM_F_EXCL,
        )
        .map_err(HostError::at(doing))
    }

    /// Stops answering for an address on a device.
    ///
    /// # Errors
    /// What the kernel said, with address and device: `ENOENT` where it never did.
    pub fn delete_proxy(
        &mut self,
        interface: &Interface,
        address: IpAddr,
    ) -> Result<(), HostError> {
        let entry = Proxy {
            device: interface.index,
            address,
        };
        self.change(RouteNetlinkMessage::DelNeighbour(proxy(entry)), 0)
            .map_err(HostError::at(format!(
                "deleting proxy entry {address} dev {interface}"
            )))
    }

    /// The neighbour table, without proxy entries.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn neighbours(&mut self) -> Result<Vec<Neighbour>, HostError> {
        let entries = self.neighbour_entries(NeighbourMessage::default(), "listing neighbours")?;
        Ok(entries.into_iter().map(|entry| entry.neighbour).collect())
    }

    /// Sets a neighbour's hardware address by hand.
    ///
    /// # Errors
    /// What the kernel said, with address and device: `EEXIST` where there is an entry.
    pub fn add_neighbour(
        &mut self,
        interface: &Interface,
        address: IpAddr,
        hardware: [u8; 6],
    ) -> Result<(), HostError> {
        let mut message = about(interface.index, address);
        message.header.state = NeighbourState::Permanent;
        message
            .attributes
            .push(NeighbourAttribute::LinkLayerAddress(hardware.to_vec()));
        self.change(
            RouteNetlinkMessage::NewNeighbour(message),
            NLM_F_CREATE | NLM_F_EXCL,
        )
        .map_err(HostError::at(format!(
            "adding neighbour {address} dev {interface}"
        )))
    }

    /// Deletes a neighbour's entry.
    ///
    /// # Errors
    /// What the kernel said, with address and device: `ENOENT` where there is none.
    pub fn delete_neighbour(
        &mut self,
        interface: &Interface,
        address: IpAddr,
    ) -> Result<(), HostError> {
        self.change(
            RouteNetlinkMessage::DelNeighbour(about(interface.index, address)),
            0,
        )
        .map_err(HostError::at(format!(
            "deleting neighbour {address} dev {interface}"
        )))
    }

    fn neighbour_entries(
        &mut self,
        question: NeighbourMessage,
        doing: &str,
    ) -> Result<Vec<Entry>, HostError> {
        let wants_proxies = question.header.flags.contains(NeighbourFlags::Proxy);
        self.dump(&RouteNetlinkMessage::GetNeighbour(question))
            .and_then(|replies| replies.iter().map(|bytes| parse(bytes)).collect())
            .map(|entries: Vec<Option<Entry>>| {
                entries
                    .into_iter()
                    .flatten()
                    .filter(|entry| entry.is_proxy == wants_proxies)
                    .collect()
            })
            .map_err(HostError::at::<KernelAnswer>(doing))
    }
}

/// An entry of either table.
struct Entry {
    is_proxy: bool,
    neighbour: Neighbour,
    origin: Option<Origin>,
}

fn about(index: u32, address: IpAddr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = family(address);
    message.header.ifindex = index;
    message.attributes = vec![NeighbourAttribute::Destination(NeighbourAddress::from(
        address,
    ))];
    message
}

fn proxy(entry: Proxy) -> NeighbourMessage {
    let mut message = about(entry.device, entry.address);
    message.header.flags = NeighbourFlags::Proxy;
    message.header.state = NeighbourState::Permanent;
    message
}

/// `None` for a table of another family (a bridge's forwarding table).
fn parse(bytes: &[u8]) -> Result<Option<Entry>, KernelAnswer> {
    let header = NeighbourHeader::parse(bytes)?;
    let mut address = None;
    let mut hardware = None;
    let mut origin = None;
    for attribute in attributes(bytes.get(NEIGHBOUR_HEADER_SIZE..).unwrap_or_default()) {
        match attribute? {
            (NDA_DST, value) => address = parse_address(value),
            (NDA_LLADDR, value) => hardware = Some(value.to_vec()),
            (NDA_PROTOCOL, value) => origin = Some(Origin(parse_u8(value)?)),
            _ => {}
        }
    }
    Ok(address.map(|address| Entry {
        is_proxy: header.flags.contains(NeighbourFlags::Proxy),
        neighbour: Neighbour {
            device: header.ifindex,
            address,
            hardware,
            permanent: header.state == NeighbourState::Permanent,
        },
        origin,
    }))
}
