//! Makes, lists and deletes tun and tap devices.
#![forbid(unsafe_code)]
