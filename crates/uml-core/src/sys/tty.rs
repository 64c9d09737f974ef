#![expect(
    unsafe_code,
    reason = "line disciplines and their network devices have no safe wrapper"
)]
//! Line disciplines of terminals, and the network device that SLIP makes of one.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
};

use super::check;

/// `N_TTY`: the discipline that terminals have.
pub const N_TTY: libc::c_int = 0;
/// `N_SLIP`: IP packets over a serial line; the terminal becomes a network device.
pub const N_SLIP: libc::c_int = 1;

/// `TIOCGETD`: the terminal's line discipline.
///
/// # Errors
/// `ENOTTY` where it is no terminal.
pub fn line_discipline(tty: BorrowedFd<'_>) -> io::Result<libc::c_int> {
    let mut number: libc::c_int = 0;
    // SAFETY: `tty` is borrowed, so it stays open. The kernel writes one int at `number`, whose
    // pointer is unique; on failure it isn't read.
    let result = unsafe { libc::ioctl(tty.as_raw_fd(), libc::TIOCGETD, &raw mut number) };
    check(result)?;
    Ok(number)
}

/// `TIOCSETD`: sets the terminal's line discipline.
///
/// # Errors
/// `EINVAL` where the kernel hasn't got it, `EPERM` without `CAP_NET_ADMIN` for [`N_SLIP`].
pub fn set_line_discipline(tty: BorrowedFd<'_>, number: libc::c_int) -> io::Result<()> {
    // SAFETY: `tty` is borrowed, so it stays open. The kernel only reads one int at `number`, which
    // lives until the call is over. On failure the terminal has the discipline that it had.
    let result = unsafe { libc::ioctl(tty.as_raw_fd(), libc::TIOCSETD, &raw const number) };
    check(result)
}

/// `SIOCSIFENCAP` with 0 of a terminal with the discipline [`N_SLIP`]: packets go as they are,
/// without compressed headers.
///
/// # Errors
/// What the driver said.
pub fn plain_slip(tty: BorrowedFd<'_>) -> io::Result<()> {
    const SIOCSIFENCAP: libc::Ioctl = 0x8926;
    let encapsulation: libc::c_int = 0;
    // SAFETY: `tty` is borrowed, so it stays open. The kernel only reads one int at `encapsulation`,
    // which lives until the call is over. On failure packets go as before.
    let result = unsafe { libc::ioctl(tty.as_raw_fd(), SIOCSIFENCAP, &raw const encapsulation) };
    check(result)
}

/// `SIOCGIFNAME` of a terminal with the discipline [`N_SLIP`]: its network device's name.
///
/// The same number asks a socket for the name of any device: look at the discipline first.
///
/// # Errors
/// What the driver said.
pub fn slip_name(tty: BorrowedFd<'_>) -> io::Result<String> {
    // The driver writes a name and its NUL, 16 bytes at most, and sockets a `struct ifreq`, 40.
    let mut name = [0_u8; 64];
    // SAFETY: `tty` is borrowed, so it stays open. What the kernel writes is less than `name` has,
    // and its pointer is unique; on failure it isn't read.
    let result = unsafe { libc::ioctl(tty.as_raw_fd(), libc::SIOCGIFNAME, name.as_mut_ptr()) };
    check(result)?;
    let end = name.iter().position(|&byte| byte == 0).unwrap_or(0);
    Ok(String::from_utf8_lossy(&name[..end]).into_owned())
}

#[cfg(test)]
mod tests {
    use std::{fs::File, os::fd::AsFd as _};

    use super::*;

    #[test]
    fn terminals_have_a_discipline_and_files_have_none() {
        let terminal = File::options()
            .read(true)
            .write(true)
            .open("/dev/ptmx")
            .unwrap();
        assert_eq!(line_discipline(terminal.as_fd()).unwrap(), N_TTY);
        set_line_discipline(terminal.as_fd(), N_TTY).unwrap();
        let file = File::open("/proc/self/status").unwrap();
        assert!(line_discipline(file.as_fd()).is_err());
        assert!(slip_name(file.as_fd()).is_err());
        assert!(plain_slip(file.as_fd()).is_err());
    }
}
