//! Bridges.

use std::time::Duration;

use netlink_packet_core::{DecodeError, NLM_F_CREATE, NLM_F_EXCL, parse_u32};
use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{BridgeStpState, InfoBridge, InfoData, InfoKind, LinkAttribute, LinkInfo, LinkMessage},
};

use super::{DeviceName, Host, HostError, Interface, link::at, socket::attributes};

const IFLA_BR_FORWARD_DELAY: u16 = 1;
const IFLA_BR_STP_STATE: u16 = 5;
/// Netlink counts a bridge's times in hundredths of a second.
const TICK_MS: u32 = 10;

/// How a bridge forwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BridgeSettings {
    /// Whether it speaks the spanning tree protocol.
    pub stp: bool,
    /// How long a new port listens and learns before it forwards; kept in hundredths of a second.
    /// Without the spanning tree protocol it may be zero: the port forwards at once.
    pub forward_delay: Duration,
}

impl BridgeSettings {
    fn delay(self) -> InfoBridge {
        let ticks = self.forward_delay.as_millis() / u128::from(TICK_MS);
        InfoBridge::ForwardDelay(u32::try_from(ticks).unwrap_or(u32::MAX))
    }

    fn stp(self) -> InfoBridge {
        InfoBridge::StpState(if self.stp {
            BridgeStpState::KernelStp
        } else {
            BridgeStpState::Disabled
        })
    }
}

impl Host {
    /// Makes a bridge, down and without ports.
    ///
    /// # Errors
    /// What the kernel said: `EEXIST` where the name is taken, `EOPNOTSUPP` without the driver.
    pub fn add_bridge(
        &mut self,
        name: &DeviceName,
        settings: BridgeSettings,
    ) -> Result<(), HostError> {
        let mut message = LinkMessage::default();
        message.attributes = vec![
            LinkAttribute::IfName(name.as_str().to_owned()),
            info(vec![settings.stp(), settings.delay()]),
        ];
        self.change(
            RouteNetlinkMessage::NewLink(message),
            NLM_F_CREATE | NLM_F_EXCL,
        )
        .map_err(HostError::at(format!("adding bridge {name}")))
    }

    /// Changes how a bridge forwards.
    ///
    /// # Errors
    /// What the kernel said: `ERANGE` for a delay that the spanning tree protocol can't have.
    pub fn set_bridge(
        &mut self,
        bridge: &Interface,
        settings: BridgeSettings,
    ) -> Result<(), HostError> {
        // Two steps: the kernel reads the delay first, and which one it allows depends on the
        // protocol being on.
        for (value, what) in [
            (settings.stp(), "spanning tree protocol"),
            (settings.delay(), "forward delay"),
        ] {
            let mut message = at(bridge.index);
            message.attributes = vec![info(vec![value])];
            self.change(RouteNetlinkMessage::NewLink(message), 0)
                .map_err(HostError::at(format!("setting the {what} of {bridge}")))?;
        }
        Ok(())
    }
}

fn info(values: Vec<InfoBridge>) -> LinkAttribute {
    LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Bridge),
        LinkInfo::Data(InfoData::Bridge(values)),
    ])
}

pub(super) fn parse(bytes: &[u8]) -> Result<BridgeSettings, DecodeError> {
    let mut settings = BridgeSettings::default();
    for attribute in attributes(bytes) {
        let (number, value) = attribute?;
        match number {
            IFLA_BR_FORWARD_DELAY => {
                let milliseconds = u64::from(parse_u32(value)?) * u64::from(TICK_MS);
                settings.forward_delay = Duration::from_millis(milliseconds);
            }
            IFLA_BR_STP_STATE => settings.stp = parse_u32(value)? != 0,
            _ => {}
        }
    }
    Ok(settings)
}
