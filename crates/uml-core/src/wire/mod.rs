//! Wire formats of the guests' sockets, apart from any I/O.

pub mod sockaddr;
pub mod switch;
pub mod vde;
