//! tun and tap devices.
