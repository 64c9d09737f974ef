#![expect(
    unsafe_code,
    reason = "the environment, capabilities and inherited descriptors have no safe wrapper"
)]
//! What a process has from whoever started it: environment, descriptors, capabilities; and where
//! it is: its network namespace.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
};

use super::check;

/// `CAP_SETUID` as a bit of a capability set.
pub const CAP_SETUID: u64 = 1 << 7;
/// `CAP_NET_ADMIN` as a bit of a capability set.
pub const CAP_NET_ADMIN: u64 = 1 << 12;

/// `_LINUX_CAPABILITY_VERSION_3`: sets of 64 bits, in two halves.
const CAPABILITY_VERSION: u32 = 0x2008_0522;

/// Empties the environment.
///
/// Call it before the program has a second thread: another one may be reading a variable.
pub fn clear_environment() {
    // SAFETY: no memory of ours is passed. The C library's list of variables is emptied; nobody
    // holds a pointer into it, since there is no other thread yet and Rust copies what it reads.
    // Failure (out of memory) leaves variables that nothing reads.
    let _ = unsafe { libc::clearenv() };
}

/// Takes over a descriptor that was inherited under this number: a copy of it, 3 or above, closed
/// on exec.
///
/// # Errors
/// `EBADF` where there is none, `EMFILE` where no number is free.
pub fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: only numbers are passed. The number may be anything: where no descriptor stands behind
    // it the kernel answers `EBADF`, and has made none.
    let copy = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3) };
    check(copy)?;
    // SAFETY: the kernel has just made this descriptor, so nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// Closes all descriptors from 3 on but one.
///
/// Call it before the program has opened any: one that is closed behind its owner's back may be
/// closed again after its number has gone to somebody else.
///
/// # Errors
/// `ENOSYS` before Linux 5.9.
pub fn close_inherited(keep: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let Some(kept) = keep.and_then(|fd| u32::try_from(fd.as_raw_fd()).ok()) else {
        return close_from(3, u32::MAX);
    };
    if kept > 3 {
        close_from(3, kept - 1)?;
    }
    close_from(kept.max(2) + 1, u32::MAX)
}

fn close_from(first: u32, last: u32) -> io::Result<()> {
    // SAFETY: only numbers are passed. By `close_inherited`'s contract nobody owns these
    // descriptors. On failure they stay open.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    check(result)
}

/// The capability sets of this thread, each a mask of bits like [`CAP_NET_ADMIN`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// What counts now.
    pub effective: u64,
    /// What may be made to count.
    pub permitted: u64,
    /// What goes on to programs that are started.
    pub inheritable: u64,
}

/// `struct __user_cap_header_struct`: version (4 bytes), thread (4 bytes; 0: this one).
#[repr(C)]
struct Header {
    version: u32,
    thread: libc::c_int,
}

/// `struct __user_cap_data_struct`: three masks of 32 bits; the second of two has bits 32 to 63.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Half {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

const HEADER: Header = Header {
    version: CAPABILITY_VERSION,
    thread: 0,
};

/// The low and the high half of a mask.
fn halves(mask: u64) -> (u32, u32) {
    let half = |bits: u64| u32::try_from(bits & u64::from(u32::MAX)).unwrap_or_default();
    (half(mask), half(mask >> 32))
}

fn mask(low: u32, high: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

impl Capabilities {
    /// None at all.
    pub const NONE: Self = Self {
        effective: 0,
        permitted: 0,
        inheritable: 0,
    };

    /// Those that this thread has.
    ///
    /// # Errors
    /// What the system said.
    pub fn now() -> io::Result<Self> {
        let mut header = HEADER;
        let mut data = [Half::default(); 2];
        // SAFETY: both pointers are to live local variables that nobody else uses; version 3 makes
        // the kernel write two `Half`s at most. On failure nothing is read from them.
        let result = unsafe { libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) };
        check(result)?;
        let [low, high] = data;
        Ok(Self {
            effective: mask(low.effective, high.effective),
            permitted: mask(low.permitted, high.permitted),
            inheritable: mask(low.inheritable, high.inheritable),
        })
    }

    /// Makes these the capabilities of this thread.
    ///
    /// # Errors
    /// `EPERM` where they are more than the thread may have.
    pub fn set(self) -> io::Result<()> {
        let (effective, permitted, inheritable) = (
            halves(self.effective),
            halves(self.permitted),
            halves(self.inheritable),
        );
        let mut header = HEADER;
        let data = [
            Half {
                effective: effective.0,
                permitted: permitted.0,
                inheritable: inheritable.0,
            },
            Half {
                effective: effective.1,
                permitted: permitted.1,
                inheritable: inheritable.1,
            },
        ];
        // SAFETY: both pointers are to live local variables; the kernel reads two `Half`s, and may
        // write the version it prefers into the header, which is unique here. On failure the
        // thread has the sets that it had.
        let result = unsafe { libc::syscall(libc::SYS_capset, &raw mut header, data.as_ptr()) };
        check(result)
    }
}

/// `SO_NETNS_COOKIE` of a socket: a number for its network namespace that no other namespace has
/// had or will have until the next boot.
///
/// # Errors
/// `ENOPROTOOPT` before Linux 5.14.
pub fn network_namespace(socket: BorrowedFd<'_>) -> io::Result<u64> {
    const SO_NETNS_COOKIE: libc::c_int = 71;
    let mut cookie = 0_u64;
    let mut length: libc::socklen_t = 8;
    // SAFETY: `socket` is borrowed, so it stays open. The kernel writes at most `length` bytes, 8,
    // at `cookie`, which is as large; both pointers are unique. On failure neither is read.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    check(result)?;
    Ok(cookie)
}

#[cfg(test)]
mod tests {
    use std::{fs::File, os::fd::AsFd as _};

    use super::*;

    #[test]
    fn capabilities_come_back_as_the_kernel_lists_them() {
        let now = Capabilities::now().unwrap();
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let line = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            u64::from_str_radix(line.unwrap().trim(), 16).unwrap()
        };
        assert_eq!(now.effective, line("CapEff:"));
        assert_eq!(now.permitted, line("CapPrm:"));
        assert_eq!(now.inheritable, line("CapInh:"));
    }

    #[test]
    fn capabilities_are_set_for_this_thread() {
        std::thread::spawn(|| {
            let few = Capabilities {
                effective: 0,
                permitted: CAP_NET_ADMIN,
                inheritable: 0,
            };
            few.set().unwrap();
            assert_eq!(Capabilities::now().unwrap(), few);
            let more = Capabilities {
                permitted: u64::MAX,
                ..few
            };
            assert!(more.set().is_err());
        })
        .join()
        .unwrap();
    }

    #[test]
    fn inherited_descriptors_are_copied() {
        let file = File::open("/proc/self/status").unwrap();
        let copy = inherited(file.as_raw_fd()).unwrap();
        assert!(copy.as_raw_fd() >= 3);
        assert_eq!(inherited(-1).unwrap_err().raw_os_error(), Some(libc::EBADF));
    }

    #[test]
    fn a_network_namespace_has_one_number() {
        let socket = || std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let cookie = network_namespace(socket().as_fd()).unwrap();
        assert_eq!(cookie, network_namespace(socket().as_fd()).unwrap());
        let file = File::open("/proc/self/status").unwrap();
        assert!(network_namespace(file.as_fd()).is_err());
    }
}
