//! IPv4 forwarding: on while there are guests that need it, then what it was before.

use uml_core::hostnet::{HostError, Interface, sysctl::Sysctl};

use crate::{
    problem::Problem,
    session::Session,
    state::{ForwardingBefore, Guest},
};

impl Session<'_> {
    /// Notes that a device has a guest behind it, and switches forwarding on where it is off.
    ///
    /// # Errors
    /// What the kernel said.
    pub(crate) fn forwarding_for(
        &mut self,
        interface: &Interface,
        slip: bool,
    ) -> Result<(), Problem> {
        let guest = Guest {
            index: interface.index,
            uid: self.caller.uid,
            slip,
        };
        if !self
            .state
            .users
            .iter()
            .any(|known| known.index == guest.index)
        {
            self.state.users.push(guest);
        }
        let on = Sysctl::ipv4_forwarding();
        // Where it is on, somebody else did that, or an earlier call, which noted what was before.
        let switch = !on.is_on()?;
        if switch && self.policy.forwarding {
            self.state.forwarding = Some(self.forwarding_now()?);
        }
        let unkept = self.save()?;
        if !switch {
            return Ok(());
        }
        if !self.policy.forwarding {
            self.log
                .says("uml_net: the policy leaves net.ipv4.ip_forward=0: the guest reaches this host alone");
            return Ok(());
        }
        self.change(|_| on.set(true))?;
        self.log.did("sysctl -w net.ipv4.ip_forward=1");
        if let Some(why) = unkept {
            self.log.says(format_args!(
                "uml_net: net.ipv4.ip_forward will stay 1: no state can be kept ({why})"
            ));
        }
        Ok(())
    }

    /// A device has no guest behind it any more: forwarding goes back with the last one.
    ///
    /// # Errors
    /// What the kernel said.
    pub(crate) fn forwarding_without(&mut self, interface: &Interface) -> Result<(), Problem> {
        self.state
            .users
            .retain(|guest| guest.index != interface.index);
        if self.state.users.is_empty() {
            self.forwarding_back()?;
        }
        self.save_less();
        Ok(())
    }

    /// Puts forwarding, and what the kernel changed with it, back to what was before.
    pub(crate) fn forwarding_back(&mut self) -> Result<(), Problem> {
        let Some(before) = self.state.forwarding.clone() else {
            return Ok(());
        };
        let on = Sysctl::ipv4_forwarding();
        if on.is_on()? {
            self.change(|_| on.set(false))?;
            self.log.did("sysctl -w net.ipv4.ip_forward=0");
        }
        // The kernel has set these along with it.
        let redirects = Sysctl::ipv4_accept_redirects();
        self.change(|_| set(&redirects, before.accept_redirects))?;
        let default = Sysctl::ipv4_forwarding_default();
        self.change(|_| set(&default, before.default))?;
        for index in before.devices {
            // A device that is gone, or has a new name that can't stand in a path, has no setting.
            if let Ok(link) = self.host().link_at(index) {
                let device = Sysctl::ipv4_forwarding_from(&link.interface.name);
                self.change(|_| set(&device, true))?;
            }
        }
        self.state.forwarding = None;
        Ok(())
    }

    fn forwarding_now(&mut self) -> Result<ForwardingBefore, Problem> {
        let mut devices = Vec::new();
        for link in self.host().links()? {
            let one = Sysctl::ipv4_forwarding_from(&link.interface.name);
            // A device may have no IPv4 at all.
            if one.is_on().unwrap_or(false) {
                devices.push(link.interface.index);
            }
        }
        Ok(ForwardingBefore {
            accept_redirects: Sysctl::ipv4_accept_redirects().is_on()?,
            default: Sysctl::ipv4_forwarding_default().is_on()?,
            devices,
        })
    }
}

/// Sets what isn't set already, so that nothing is done where nothing has changed.
fn set(setting: &Sysctl, on: bool) -> Result<(), HostError> {
    if setting.is_on()? == on {
        Ok(())
    } else {
        setting.set(on)
    }
}
