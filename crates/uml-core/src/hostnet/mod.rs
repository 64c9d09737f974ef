//! Links, addresses, routes, neighbours and bridges over netlink.
