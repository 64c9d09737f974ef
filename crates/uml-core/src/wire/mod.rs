//! Wire formats of the guests' sockets, apart from any I/O.
