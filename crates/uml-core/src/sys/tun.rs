#![expect(
    unsafe_code,
    reason = "the ioctls of /dev/net/tun have no safe wrapper"
)]
//! The ioctls of the tun driver.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
};

use super::check;

/// `IFNAMSIZ`: a device name with its closing NUL.
const NAME_SIZE: usize = libc::IFNAMSIZ;

/// What `TUNSETIFF` and `TUNGETIFF` exchange: the first 18 bytes of `struct ifreq` (name, NUL
/// padded, 16 bytes; flags, 2 bytes, native order), in the space of the whole struct.
#[repr(C)]
struct Request {
    name: [u8; NAME_SIZE],
    flags: u16,
    rest: [u8; size_of::<libc::ifreq>() - NAME_SIZE - size_of::<u16>()],
}

impl Request {
    fn new(name: &str, flags: u16) -> io::Result<Self> {
        let mut request = Self {
            name: [0; NAME_SIZE],
            flags,
            rest: [0; size_of::<libc::ifreq>() - NAME_SIZE - size_of::<u16>()],
        };
        match request.name.get_mut(..name.len()) {
            // The closing NUL needs a place too.
            Some(place) if name.len() < NAME_SIZE => place.copy_from_slice(name.as_bytes()),
            _ => return Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG)),
        }
        Ok(request)
    }

    fn name(&self) -> String {
        let end = self.name.iter().position(|&byte| byte == 0);
        let name = &self.name[..end.unwrap_or(NAME_SIZE)];
        String::from_utf8_lossy(name).into_owned()
    }
}

/// `TUNSETIFF`: attaches to the device of this name, or makes it. Returns its name.
pub(crate) fn set_interface(fd: BorrowedFd<'_>, name: &str, flags: u16) -> io::Result<String> {
    let mut request = Request::new(name, flags)?;
    // SAFETY: `fd` is borrowed, so it stays open. The kernel reads and writes `struct ifreq` at a
    // `Request`, which is as large, and aligned enough since the kernel copies bytes; `&mut` makes
    // the pointer unique. On failure the request isn't read.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNSETIFF as _, &raw mut request) };
    check(result)?;
    Ok(request.name())
}

/// `TUNGETIFF`: the name of the device that this descriptor is attached to.
///
/// The flags that it tells too are no use: 0x1000 stands for `IFF_NO_PI` and `IFF_NOFILTER`.
pub(crate) fn interface(fd: BorrowedFd<'_>) -> io::Result<String> {
    let mut request = Request::new("", 0)?;
    // SAFETY: as in `set_interface`, but for the kernel reading nothing.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNGETIFF as _, &raw mut request) };
    check(result)?;
    Ok(request.name())
}

/// `TUNSETPERSIST`: whether the device stays when nobody is attached.
pub(crate) fn set_persistent(fd: BorrowedFd<'_>, on: bool) -> io::Result<()> {
    let value = libc::c_ulong::from(on);
    // SAFETY: `fd` is borrowed, so it stays open. The argument is a number: no memory is touched.
    // On failure the device is as before.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNSETPERSIST as _, value) };
    check(result)
}

/// `TUNSETOWNER`: the user who may attach.
pub(crate) fn set_owner(fd: BorrowedFd<'_>, uid: u32) -> io::Result<()> {
    let value = libc::c_ulong::from(uid);
    // SAFETY: as in `set_persistent`.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNSETOWNER as _, value) };
    check(result)
}

/// `TUNSETGROUP`: the group whose members may attach.
pub(crate) fn set_group(fd: BorrowedFd<'_>, gid: u32) -> io::Result<()> {
    let value = libc::c_ulong::from(gid);
    // SAFETY: as in `set_persistent`.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNSETGROUP as _, value) };
    check(result)
}
