//! Links: what devices there are, up and down, MTU, bridge membership.

use std::fmt;

use netlink_packet_core::{DecodeError, parse_string, parse_u8, parse_u32};
use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{LinkAttribute, LinkFlags, LinkHeader, LinkMessage},
};

use crate::tuntap::Kind;

use super::{
    BridgeSettings, DeviceName, Host, HostError, VxlanSettings, bridge, error::KernelAnswer,
    socket::attributes, vxlan,
};

// The attributes of a link that are read here, by their C names.
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_IFALIAS: u16 = 20;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_TUN_OWNER: u16 = 1;
const IFLA_TUN_GROUP: u16 = 2;
const IFLA_TUN_TYPE: u16 = 3;
const IFLA_TUN_PI: u16 = 4;
const IFLA_TUN_VNET_HDR: u16 = 5;
const IFLA_TUN_PERSIST: u16 = 6;
const IFLA_TUN_MULTI_QUEUE: u16 = 7;
/// The size of `struct ifinfomsg` in bytes.
const LINK_HEADER_SIZE: usize = 16;

/// A network device, by the index that it alone has and the name that it had.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Interface {
    /// The kernel's number of the device.
    pub index: u32,
    /// Its name when it was looked up.
    pub name: DeviceName,
}

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name.fmt(f)
    }
}

/// A network device as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Index and name.
    pub interface: Interface,
    /// Administratively up (`IFF_UP`).
    pub up: bool,
    /// The loopback device (`IFF_LOOPBACK`).
    pub loopback: bool,
    /// The largest packet in bytes, without the Ethernet header.
    pub mtu: u32,
    /// The index of the bridge that it is a port of.
    pub master: Option<u32>,
    /// The kind of device, with what only this kind has.
    pub kind: LinkKind,
    /// A text that somebody with `CAP_NET_ADMIN` has put to it.
    pub alias: Option<String>,
}

/// The kind of a network device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkKind {
    /// A tun or tap device.
    Tun(TunState),
    /// A bridge.
    Bridge(BridgeSettings),
    /// A VXLAN tunnel end.
    Vxlan(VxlanSettings),
    /// Another kind (`veth`, `dummy` …); hardware and the loopback device have no kind.
    Other(Option<String>),
}

impl fmt::Display for LinkKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tun(state) => state.kind.as_str(),
            Self::Bridge(_) => "bridge",
            Self::Vxlan(_) => "vxlan",
            Self::Other(Some(kind)) => kind,
            Self::Other(None) => "no virtual device",
        })
    }
}

/// What netlink tells of a tun or tap device.
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent flags of the kernel's"
)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TunState {
    /// What it carries.
    pub kind: Kind,
    /// The user who may attach besides those with `CAP_NET_ADMIN`.
    pub owner: Option<u32>,
    /// The group whose members may attach.
    pub group: Option<u32>,
    /// Stays when nobody is attached.
    pub persistent: bool,
    /// Four bytes of packet information before each frame.
    pub packet_info: bool,
    /// A `virtio_net_hdr` before each frame.
    pub vnet_hdr: bool,
    /// Several descriptors may be attached at once.
    pub multi_queue: bool,
}

impl Host {
    /// The device of this name.
    ///
    /// # Errors
    /// `ENODEV` where there is none, with the name.
    pub fn link(&mut self, name: &DeviceName) -> Result<Link, HostError> {
        let mut message = LinkMessage::default();
        message
            .attributes
            .push(LinkAttribute::IfName(name.as_str().to_owned()));
        self.get_link(message)
            .map_err(HostError::at(format!("looking up device {name}")))
    }

    /// The device of this index.
    ///
    /// # Errors
    /// `ENODEV` where there is none.
    pub fn link_at(&mut self, index: u32) -> Result<Link, HostError> {
        self.get_link(at(index))
            .map_err(HostError::at(format!("looking up device number {index}")))
    }

    /// The device of this name, if there is one.
    ///
    /// # Errors
    /// What the kernel said, but for `ENODEV`.
    pub fn find_link(&mut self, name: &DeviceName) -> Result<Option<Link>, HostError> {
        match self.link(name) {
            Ok(link) => Ok(Some(link)),
            Err(error) if error.is(libc::ENODEV) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All devices, in the order of their indexes, but for those whose name is no [`DeviceName`].
    ///
    /// # Errors
    /// What the kernel said.
    pub fn links(&mut self) -> Result<Vec<Link>, HostError> {
        let mut links: Vec<Link> = self
            .dump(&RouteNetlinkMessage::GetLink(LinkMessage::default()))
            .and_then(|replies| {
                let links = replies.iter().map(|bytes| parse(bytes));
                links.filter_map(Result::transpose).collect()
            })
            .map_err(HostError::at::<KernelAnswer>("listing devices"))?;
        links.sort_by_key(|link| link.interface.index);
        Ok(links)
    }

    /// Brings a device up or takes it down.
    ///
    /// # Errors
    /// What the kernel said, with the device.
    pub fn set_up(&mut self, interface: &Interface, up: bool) -> Result<(), HostError> {
        let mut message = at(interface.index);
        message.header.change_mask = LinkFlags::Up;
        if up {
            message.header.flags = LinkFlags::Up;
        }
        let state = if up { "up" } else { "down" };
        self.change(RouteNetlinkMessage::SetLink(message), 0)
            .map_err(HostError::at(format!("setting dev {interface} {state}")))
    }

    /// Puts a text to a device, which `ip link` shows. Only who has `CAP_NET_ADMIN` can change it:
    /// unlike the owner of a tap, which whoever has its descriptor can.
    ///
    /// # Errors
    /// What the kernel said, with the device.
    pub fn set_alias(&mut self, interface: &Interface, alias: &str) -> Result<(), HostError> {
        let mut message = at(interface.index);
        message
            .attributes
            .push(LinkAttribute::IfAlias(alias.to_owned()));
        self.change(RouteNetlinkMessage::SetLink(message), 0)
            .map_err(HostError::at(format!(
                "setting dev {interface} alias {alias}"
            )))
    }

    /// Sets the largest packet of a device, in bytes.
    ///
    /// # Errors
    /// What the kernel said, with the device.
    pub fn set_mtu(&mut self, interface: &Interface, mtu: u32) -> Result<(), HostError> {
        let mut message = at(interface.index);
        message.attributes.push(LinkAttribute::Mtu(mtu));
        self.change(RouteNetlinkMessage::SetLink(message), 0)
            .map_err(HostError::at(format!("setting dev {interface} mtu {mtu}")))
    }

    /// Makes a device the port of a bridge, or of none.
    ///
    /// # Errors
    /// What the kernel said, with the device.
    pub fn set_master(
        &mut self,
        interface: &Interface,
        master: Option<&Interface>,
    ) -> Result<(), HostError> {
        let mut message = at(interface.index);
        let index = master.map_or(0, |bridge| bridge.index);
        message.attributes.push(LinkAttribute::Controller(index));
        let doing = match master {
            Some(bridge) => format!("setting dev {interface} master {bridge}"),
            None => format!("setting dev {interface} nomaster"),
        };
        self.change(RouteNetlinkMessage::SetLink(message), 0)
            .map_err(HostError::at(doing))
    }

    /// Deletes a device.
    ///
    /// # Errors
    /// What the kernel said, with the device: `EOPNOTSUPP` for hardware.
    pub fn delete_link(&mut self, interface: &Interface) -> Result<(), HostError> {
        self.change(RouteNetlinkMessage::DelLink(at(interface.index)), 0)
            .map_err(HostError::at(format!("deleting dev {interface}")))
    }

    fn get_link(&mut self, message: LinkMessage) -> Result<Link, KernelAnswer> {
        parse(&self.get(RouteNetlinkMessage::GetLink(message))?)?
            .ok_or_else(|| KernelAnswer::Unreadable("the device's name is not one".to_owned()))
    }
}

/// A message about the device of this index.
pub(super) fn at(index: u32) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message
}

/// Reads the attributes that matter here and no others: a device of some exotic driver, or a
/// kernel that is newer than this program, must not make a listing fail. `None` for a device whose
/// name is no [`DeviceName`].
fn parse(bytes: &[u8]) -> Result<Option<Link>, KernelAnswer> {
    let header = LinkHeader::parse(bytes)?;
    let mut name = None;
    let mut mtu = 0;
    let mut master = None;
    let mut kind = LinkKind::Other(None);
    let mut alias = None;
    for attribute in attributes(bytes.get(LINK_HEADER_SIZE..).unwrap_or_default()) {
        let (number, value) = attribute?;
        match number {
            IFLA_IFNAME => name = parse_string(value).ok().and_then(|name| name.parse().ok()),
            IFLA_MTU => mtu = parse_u32(value)?,
            IFLA_MASTER => master = Some(parse_u32(value)?),
            IFLA_LINKINFO => kind = parse_kind(value)?,
            IFLA_IFALIAS => alias = parse_string(value).ok(),
            _ => {}
        }
    }
    Ok(name.map(|name| Link {
        interface: Interface {
            index: header.index,
            name,
        },
        up: header.flags.contains(LinkFlags::Up),
        loopback: header.flags.contains(LinkFlags::Loopback),
        mtu,
        master,
        kind,
        alias,
    }))
}

fn parse_kind(bytes: &[u8]) -> Result<LinkKind, DecodeError> {
    let mut kind = String::new();
    let mut data: &[u8] = &[];
    for attribute in attributes(bytes) {
        let (number, value) = attribute?;
        match number {
            IFLA_INFO_KIND => kind = parse_string(value)?,
            IFLA_INFO_DATA => data = value,
            _ => {}
        }
    }
    Ok(match kind.as_str() {
        "tun" => LinkKind::Tun(parse_tun(data)?),
        "bridge" => LinkKind::Bridge(bridge::parse(data)?),
        "vxlan" => LinkKind::Vxlan(vxlan::parse(data)?),
        _ => LinkKind::Other(Some(kind)),
    })
}

fn parse_tun(bytes: &[u8]) -> Result<TunState, DecodeError> {
    let mut state = TunState::default();
    for attribute in attributes(bytes) {
        let (number, value) = attribute?;
        match number {
            IFLA_TUN_OWNER => state.owner = Some(parse_u32(value)?),
            IFLA_TUN_GROUP => state.group = Some(parse_u32(value)?),
            IFLA_TUN_TYPE => state.kind = parse_u8(value).map(Kind::of_type)?,
            IFLA_TUN_PI => state.packet_info = parse_u8(value)? != 0,
            IFLA_TUN_VNET_HDR => state.vnet_hdr = parse_u8(value)? != 0,
            IFLA_TUN_PERSIST => state.persistent = parse_u8(value)? != 0,
            IFLA_TUN_MULTI_QUEUE => state.multi_queue = parse_u8(value)? != 0,
            _ => {}
        }
    }
    Ok(state)
}
