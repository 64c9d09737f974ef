//! The host's network: links, addresses, routes, neighbours and sysctl files.
//!
//! Everything goes over one synchronous rtnetlink socket, [`Host`], and `/proc/sys/net`. Both act
//! in the network namespace of the calling thread: a socket belongs to the namespace in which it
//! was opened, and `/proc/sys/net` shows that of the thread which opens the file.
//!
//! A device's name can pass to another device between two calls, its index can't: changes take an
//! [`Interface`], so that what was checked is what is changed.

mod address;
mod bridge;
mod error;
mod link;
mod name;
mod neighbour;
mod prefix;
mod route;
mod socket;
pub mod sysctl;
mod vxlan;

pub use address::Address;
pub use bridge::BridgeSettings;
pub use error::{HostError, KernelAnswer};
pub use link::{Interface, Link, LinkKind, TunState};
pub use name::{BadName, DeviceName, NamePattern};
pub use neighbour::{Neighbour, Proxy};
pub use prefix::{BadPrefix, IpPrefix};
pub use route::{Origin, Route, RouteEntry};
pub use socket::Host;
pub use vxlan::VxlanSettings;
