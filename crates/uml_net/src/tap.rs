//! `tuntap up`: a new tap device for the caller.

use std::net::Ipv4Addr;

use uml_core::{
    hostnet::{IpPrefix, Link, NamePattern},
    tuntap::{Device, Existing, Kind, Mode},
};

use crate::{problem::Problem, rules, session::Session};

impl Session<'_> {
    /// Makes the next free `tapN` for the caller, with the host's address on it.
    ///
    /// The device isn't persistent: it is gone with its descriptor, which the guest gets, and with
    /// it its address.
    ///
    /// # Errors
    /// Why not. Nothing is left then.
    pub fn tap_up(&mut self, gate: Ipv4Addr) -> Result<Device, Problem> {
        let view = self.view()?;
        rules::gateway(gate, self.policy.gateways.as_deref(), &view)?;
        self.check_tap_count()?;
        let made = self.make(gate);
        if made.is_err() {
            // The device is gone by now, and with it the need for forwarding.
            self.clean()?;
        }
        made
    }

    fn make(&mut self, gate: Ipv4Addr) -> Result<Device, Problem> {
        let uid = self.caller.uid;
        let pattern: NamePattern = "tap%d".parse().map_err(|_| Problem::Bug)?;
        let device = self.change(|_| {
            let device = Device::open(&pattern, Mode::plain(Kind::Tap), Existing::Refuse)?;
            device.set_owner(uid)?;
            Ok::<_, uml_core::tuntap::TunTapError>(device)
        })?;
        let name = device.name().clone();
        self.log
            .did(format_args!("ip tuntap add dev {name} mode tap user {uid}"));
        let interface = self.host().link(&name)?.interface;
        let alias = alias(uid);
        self.change(|host| host.set_alias(&interface, &alias))?;
        self.log
            .did(format_args!("ip link set dev {name} alias {alias}"));
        let address = IpPrefix::host(gate);
        self.change(|host| host.add_address(&interface, address))?;
        self.log
            .did(format_args!("ip addr add {address} dev {name}"));
        self.change(|host| host.set_up(&interface, true))?;
        self.log.did(format_args!("ip link set dev {name} up"));
        self.forwarding_for(&interface, false)?;
        Ok(device)
    }

    /// Counts by the alias: a tap's owner is what its guest makes it.
    fn check_tap_count(&mut self) -> Result<(), Problem> {
        let uid = self.caller.uid;
        let theirs = alias(uid);
        let is_theirs = |link: &&Link| link.alias.as_deref() == Some(&theirs);
        let count = self.host().links()?.iter().filter(is_theirs).count();
        if count >= self.policy.taps {
            return Err(Problem::TooManyTaps {
                uid,
                limit: self.policy.taps,
            });
        }
        Ok(())
    }
}

/// The text at a device that tells for whom it was made.
fn alias(uid: u32) -> String {
    format!("uml_net:{uid}")
}
