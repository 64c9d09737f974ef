//! VXLAN links: Ethernet frames in UDP packets between hosts.

use std::net::IpAddr;

use netlink_packet_core::{DecodeError, NLM_F_CREATE, NLM_F_EXCL, parse_u16_be, parse_u32};
use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{InfoData, InfoKind, InfoVxlan, LinkAttribute, LinkInfo, LinkMessage},
};

use super::{DeviceName, Host, HostError, address::parse_address, socket::attributes};

const IFLA_VXLAN_ID: u16 = 1;
const IFLA_VXLAN_GROUP: u16 = 2;
const IFLA_VXLAN_LINK: u16 = 3;
const IFLA_VXLAN_LOCAL: u16 = 4;
const IFLA_VXLAN_PORT: u16 = 15;
const IFLA_VXLAN_GROUP6: u16 = 16;
const IFLA_VXLAN_LOCAL6: u16 = 17;

/// One end of a VXLAN segment. All of it is fixed when the link is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VxlanSettings {
    /// The segment's number (VNI): 24 bits, the same on all hosts.
    pub id: u32,
    /// This host's address on the network between the hosts.
    pub local: Option<IpAddr>,
    /// Where frames for addresses not yet learned go: the other host, or a multicast group.
    pub remote: Option<IpAddr>,
    /// The UDP port, in host byte order. The registered one is 4789.
    pub port: u16,
    /// The index of the device that carries the packets. A multicast group needs one.
    pub device: Option<u32>,
}

impl Host {
    /// Makes a VXLAN link, down.
    ///
    /// # Errors
    /// What the kernel said: `EEXIST` where the name, or the id with this port, is taken;
    /// `EOPNOTSUPP` without the driver.
    pub fn add_vxlan(
        &mut self,
        name: &DeviceName,
        settings: VxlanSettings,
    ) -> Result<(), HostError> {
        let mut values = vec![InfoVxlan::Id(settings.id), InfoVxlan::Port(settings.port)];
        values.extend(settings.device.map(InfoVxlan::Link));
        values.extend(settings.local.map(|local| match local {
            IpAddr::V4(v4) => InfoVxlan::Local(v4),
            IpAddr::V6(v6) => InfoVxlan::Local6(v6),
        }));
        values.extend(settings.remote.map(|remote| match remote {
            IpAddr::V4(v4) => InfoVxlan::Group(v4),
            IpAddr::V6(v6) => InfoVxlan::Group6(v6),
        }));
        let mut message = LinkMessage::default();
        message.attributes = vec![
            LinkAttribute::IfName(name.as_str().to_owned()),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::Vxlan),
                LinkInfo::Data(InfoData::Vxlan(values)),
            ]),
        ];
        self.change(
            RouteNetlinkMessage::NewLink(message),
            NLM_F_CREATE | NLM_F_EXCL,
        )
        .map_err(HostError::at(format!(
            "adding vxlan {name} id {}",
            settings.id
        )))
    }
}

pub(super) fn parse(bytes: &[u8]) -> Result<VxlanSettings, DecodeError> {
    let mut settings = VxlanSettings {
        id: 0,
        local: None,
        remote: None,
        port: 0,
        device: None,
    };
    for attribute in attributes(bytes) {
        let (number, value) = attribute?;
        match number {
            IFLA_VXLAN_ID => settings.id = parse_u32(value)?,
            IFLA_VXLAN_GROUP | IFLA_VXLAN_GROUP6 => settings.remote = parse_address(value),
            IFLA_VXLAN_LOCAL | IFLA_VXLAN_LOCAL6 => settings.local = parse_address(value),
            IFLA_VXLAN_LINK => settings.device = Some(parse_u32(value)?).filter(|&link| link != 0),
            IFLA_VXLAN_PORT => settings.port = parse_u16_be(value)?,
            _ => {}
        }
    }
    Ok(settings)
}
