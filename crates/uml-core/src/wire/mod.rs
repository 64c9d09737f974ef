//! Wire formats of the guests' sockets, apart from any I/O.

pub mod helper;
pub mod mconsole;
pub mod sockaddr;
pub mod switch;
pub mod vde;
