//! Addresses of devices.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{AddressAttribute, AddressHeader, AddressHeaderFlags, AddressMessage},
};

use super::{Host, HostError, Interface, IpPrefix, error::KernelAnswer, socket::attributes};

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
/// The size of `struct ifaddrmsg` in bytes.
const ADDRESS_HEADER_SIZE: usize = 8;

/// An address that a device has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// The index of the device.
    pub device: u32,
    /// The address with its network's prefix length.
    pub prefix: IpPrefix,
    /// The other end's address, on a point-to-point link.
    pub peer: Option<IpAddr>,
    /// The kernel made it and takes it away itself: an IPv6 link-local address, or one that a
    /// router or a lease gave (without `IFA_F_PERMANENT`).
    pub automatic: bool,
}

impl Host {
    /// The addresses of one device, or of all.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn addresses(&mut self, of: Option<&Interface>) -> Result<Vec<Address>, HostError> {
        let doing = match of {
            Some(interface) => format!("listing addresses dev {interface}"),
            None => "listing addresses".to_owned(),
        };
        // Older kernels ignore an index in the question: the answer is sifted here.
        self.dump(&RouteNetlinkMessage::GetAddress(AddressMessage::default()))
            .and_then(|replies| replies.iter().map(|bytes| parse(bytes)).collect())
            .map(|addresses: Vec<Option<Address>>| {
                addresses
                    .into_iter()
                    .flatten()
                    .filter(|address| of.is_none_or(|interface| interface.index == address.device))
                    .collect()
            })
            .map_err(HostError::at::<KernelAnswer>(doing))
    }

    /// Gives a device an address.
    ///
    /// # Errors
    /// What the kernel said, with address and device: `EEXIST` where it has it already.
    pub fn add_address(
        &mut self,
        interface: &Interface,
        prefix: IpPrefix,
    ) -> Result<(), HostError> {
        self.change(
            RouteNetlinkMessage::NewAddress(message(interface, prefix)),
            NLM_F_CREATE | NLM_F_EXCL,
        )
        .map_err(HostError::at(format!(
            "adding address {prefix} dev {interface}"
        )))
    }

    /// Takes an address from a device.
    ///
    /// # Errors
    /// What the kernel said, with address and device: `EADDRNOTAVAIL` where it hasn't got it.
    pub fn delete_address(
        &mut self,
        interface: &Interface,
        prefix: IpPrefix,
    ) -> Result<(), HostError> {
        self.change(
            RouteNetlinkMessage::DelAddress(message(interface, prefix)),
            0,
        )
        .map_err(HostError::at(format!(
            "deleting address {prefix} dev {interface}"
        )))
    }
}

fn message(interface: &Interface, prefix: IpPrefix) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = family(prefix.address());
    message.header.prefix_len = prefix.length();
    message.header.index = interface.index;
    message.attributes = vec![
        AddressAttribute::Local(prefix.address()),
        AddressAttribute::Address(prefix.address()),
    ];
    message
}

pub(super) const fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

/// An address as it stands in an attribute: 4 or 16 bytes, network byte order.
pub(super) fn parse_address(value: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(value) {
        return Some(Ipv4Addr::from(v4).into());
    }
    let v6 = <[u8; 16]>::try_from(value).ok()?;
    Some(Ipv6Addr::from(v6).into())
}

/// `None` for an address of a family that is neither IPv4 nor IPv6.
fn parse(bytes: &[u8]) -> Result<Option<Address>, KernelAnswer> {
    let header = AddressHeader::parse(bytes)?;
    let mut local = None;
    let mut far = None;
    for attribute in attributes(bytes.get(ADDRESS_HEADER_SIZE..).unwrap_or_default()) {
        match attribute? {
            (IFA_LOCAL, value) => local = parse_address(value),
            (IFA_ADDRESS, value) => far = parse_address(value),
            _ => {}
        }
    }
    // IPv6 tells its own address as IFA_ADDRESS unless there is another end.
    let Some(own) = local.or(far) else {
        return Ok(None);
    };
    let Ok(prefix) = IpPrefix::new(own, header.prefix_len) else {
        return Ok(None);
    };
    let link_local = matches!(own, IpAddr::V6(v6) if v6.is_unicast_link_local());
    Ok(Some(Address {
        device: header.index,
        prefix,
        peer: far.filter(|&peer| peer != own),
        automatic: link_local || !header.flags.contains(AddressHeaderFlags::Permanent),
    }))
}
