//! Why a call fails.

use std::io;

use uml_core::{
    error::chain,
    hostnet::{DeviceName, HostError},
    tuntap::TunTapError,
};

use crate::{args::BadCall, policy::PolicyError, rules::Refusal, state::StateError};

/// Why a call fails. The texts are what the guest prints.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// It can't be understood.
    #[error(transparent)]
    Call(#[from] BadCall),
    /// The descriptor that it names can't be used.
    #[error("descriptor {0}")]
    Descriptor(i32, #[source] io::Error),
    /// The answer to `tuntap up` can only go to a local socket: it carries a descriptor.
    #[error("descriptor {0} is no local socket: a guest's kernel starts uml_net with one")]
    NoSocket(i32),
    /// The program was installed without its privilege.
    #[error(
        "uml_net has no privilege: install it setuid root (chmod 4750) or with setcap cap_net_admin=ep, on a file system without nosuid; it loses both under no_new_privs"
    )]
    NoPrivilege,
    /// A limit that the caller has set, and that can't be raised again.
    #[error("uml_net was started with too little memory (ulimit -d, ulimit -v)")]
    NoMemory,
    /// The policy doesn't know the caller.
    #[error("the policy does not allow uid {0} to use uml_net")]
    NotAllowed(u32),
    /// The policy is unusable.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The address is not to be had.
    #[error(transparent)]
    Address(#[from] Refusal),
    /// The device is none of the caller's.
    #[error("{device} is no tap device of uid {uid}")]
    NotYours {
        /// The device.
        device: DeviceName,
        /// The caller.
        uid: u32,
    },
    /// The serial line is none of the caller's.
    #[error("descriptor {0} is no terminal of the caller's")]
    NotYourLine(i32),
    /// The serial line is no SLIP line.
    #[error("descriptor {0} is no SLIP line")]
    NoSlip(i32),
    /// As many taps as the policy allows.
    #[error("uid {uid} has as many taps as the policy allows: {limit}")]
    TooManyTaps {
        /// The caller.
        uid: u32,
        /// How many there may be.
        limit: usize,
    },
    /// As many addresses as the policy allows.
    #[error("{device} has as many guests' addresses as the policy allows: {limit}")]
    TooManyAddresses {
        /// The device.
        device: DeviceName,
        /// How many there may be.
        limit: usize,
    },
    /// The state can't be locked.
    #[error(transparent)]
    State(#[from] StateError),
    /// The kernel refused a change.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The tun driver refused.
    #[error(transparent)]
    Tap(#[from] TunTapError),
    /// The terminal's driver refused.
    #[error("{doing}")]
    Line {
        /// What was being done.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The privilege can't be raised.
    #[error("raising privilege")]
    Raise(#[source] io::Error),
    /// A bug.
    #[error("internal error")]
    Bug,
}

impl Problem {
    /// Whether the caller asked for what it may not have, or the policy lets nobody have anything:
    /// both are worth a line in the system's log.
    #[must_use]
    pub const fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::Call(_)
                | Self::NotAllowed(_)
                | Self::Policy(_)
                | Self::Address(_)
                | Self::NotYours { .. }
                | Self::NotYourLine(_)
                | Self::NoSlip(_)
                | Self::TooManyTaps { .. }
                | Self::TooManyAddresses { .. }
        )
    }

    /// The problem as the guest prints it, with what the system said and what to do.
    #[must_use]
    pub fn text(&self) -> String {
        let hint = match self {
            Self::Tap(error) => match error.errno() {
                Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => {
                    " (is the tun module there? in a container, is the device let in?)"
                }
                Some(libc::EACCES) => {
                    " (without setuid root, the device must be open to the caller)"
                }
                _ => "",
            },
            Self::Line { source, .. } if source.raw_os_error() == Some(libc::EINVAL) => {
                " (has the kernel the slip module?)"
            }
            _ => "",
        };
        // The words for calls that can't be understood are the old ones.
        let name = if matches!(self, Self::Call(_)) {
            ""
        } else {
            "uml_net: "
        };
        format!("{name}{}{hint}", chain(self))
    }
}
