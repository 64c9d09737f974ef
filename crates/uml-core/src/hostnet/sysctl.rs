//! The network's settings under `/proc/sys/net`.
//!
//! The files show, and change, the network namespace of the thread that opens them.

use std::{fs, path::PathBuf};

use super::{DeviceName, HostError};

/// One setting. Its path can only lead to the place named: a [`DeviceName`] holds no slash and is
/// neither `..` nor `all`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Sysctl {
    path: PathBuf,
}

impl Sysctl {
    /// Whether this host forwards IPv4 packets between its devices: `net.ipv4.ip_forward`.
    #[must_use]
    pub fn ipv4_forwarding() -> Self {
        Self {
            path: PathBuf::from("/proc/sys/net/ipv4/ip_forward"),
        }
    }

    /// Whether packets that come in by this device are forwarded:
    /// `net.ipv4.conf.DEVICE.forwarding`.
    #[must_use]
    pub fn ipv4_forwarding_from(device: &DeviceName) -> Self {
        Self {
            path: PathBuf::from(format!("/proc/sys/net/ipv4/conf/{device}/forwarding")),
        }
    }

    /// What new devices get as their [`Sysctl::ipv4_forwarding_from`]:
    /// `net.ipv4.conf.default.forwarding`.
    #[must_use]
    pub fn ipv4_forwarding_default() -> Self {
        Self {
            path: PathBuf::from("/proc/sys/net/ipv4/conf/default/forwarding"),
        }
    }

    /// Whether routers may change this host's routes: `net.ipv4.conf.all.accept_redirects`.
    /// The kernel sets it to the opposite of [`Sysctl::ipv4_forwarding`] whenever that changes.
    #[must_use]
    pub fn ipv4_accept_redirects() -> Self {
        Self {
            path: PathBuf::from("/proc/sys/net/ipv4/conf/all/accept_redirects"),
        }
    }

    /// Whether this host forwards IPv6 packets between its devices:
    /// `net.ipv6.conf.all.forwarding`.
    #[must_use]
    pub fn ipv6_forwarding() -> Self {
        Self {
            path: PathBuf::from("/proc/sys/net/ipv6/conf/all/forwarding"),
        }
    }

    /// Whether a device answers ARP for all hosts that it knows a way to by another device:
    /// `net.ipv4.conf.DEVICE.proxy_arp`.
    #[must_use]
    pub fn proxy_arp(device: &DeviceName) -> Self {
        Self {
            path: PathBuf::from(format!("/proc/sys/net/ipv4/conf/{device}/proxy_arp")),
        }
    }

    /// Whether a device answers neighbour solicitations for the addresses in the proxy table:
    /// `net.ipv6.conf.DEVICE.proxy_ndp`.
    #[must_use]
    pub fn proxy_ndp(device: &DeviceName) -> Self {
        Self {
            path: PathBuf::from(format!("/proc/sys/net/ipv6/conf/{device}/proxy_ndp")),
        }
    }

    /// Whether the second address of a network stays when the first one is deleted:
    /// `net.ipv4.conf.DEVICE.promote_secondaries`.
    #[must_use]
    pub fn promote_secondaries(device: &DeviceName) -> Self {
        Self {
            path: PathBuf::from(format!(
                "/proc/sys/net/ipv4/conf/{device}/promote_secondaries"
            )),
        }
    }

    /// The file of the setting.
    #[must_use]
    pub fn path(&self) -> &std::path::Path {
        &self.path
    }

    /// Whether the setting is on: anything but 0.
    ///
    /// # Errors
    /// What the system said, with the path.
    pub fn is_on(&self) -> Result<bool, HostError> {
        let text = fs::read_to_string(&self.path)
            .map_err(HostError::at(format!("reading {}", self.path.display())))?;
        Ok(text.trim() != "0")
    }

    /// Switches the setting on or off.
    ///
    /// # Errors
    /// What the system said, with the path.
    pub fn set(&self, on: bool) -> Result<(), HostError> {
        let value = if on { "1" } else { "0" };
        fs::write(&self.path, value).map_err(HostError::at(format!(
            "writing {value} to {}",
            self.path.display()
        )))
    }
}
