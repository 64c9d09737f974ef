//! `slip up` and `slip down`: a serial line as a network device.

use std::{
    fs::File,
    net::Ipv4Addr,
    os::{
        fd::BorrowedFd,
        unix::fs::{FileTypeExt as _, MetadataExt as _},
    },
};

use uml_core::{
    hostnet::{DeviceName, Interface, IpPrefix},
    sys::tty::{N_SLIP, line_discipline, plain_slip, set_line_discipline, slip_name},
};

use crate::{problem::Problem, rules, session::Session};

/// The largest packet that a guest's SLIP driver takes, in bytes.
const MTU: u32 = 1500;

/// A serial line that a call names.
#[derive(Debug, Clone, Copy)]
pub struct Line<'a> {
    /// The number by which the caller knows it.
    pub number: i32,
    /// Its descriptor here.
    pub fd: BorrowedFd<'a>,
}

impl Session<'_> {
    /// Makes a network device of a terminal, with the host's address on it.
    ///
    /// # Errors
    /// Why not.
    pub fn slip_up(&mut self, line: Line<'_>, gate: Ipv4Addr) -> Result<(), Problem> {
        check_owner(line, self.caller.uid)?;
        let view = self.view()?;
        rules::gateway(gate, self.policy.gateways.as_deref(), &view)?;
        let at = |doing| move |source| Problem::Line { doing, source };
        let before = line_discipline(line.fd).map_err(at("Getting line discipline"))?;
        self.change(|_| {
            set_line_discipline(line.fd, N_SLIP).map_err(at("Setting slip line discipline"))
        })?;
        let up = self.slip_configure(line, gate);
        if up.is_err() {
            // The device goes with the discipline.
            let _ = self.change(|_| {
                set_line_discipline(line.fd, before).map_err(at("Setting line discipline"))
            });
            self.clean()?;
        }
        up
    }

    fn slip_configure(&mut self, line: Line<'_>, gate: Ipv4Addr) -> Result<(), Problem> {
        let interface = self.slip_device(line)?;
        self.log.did(format_args!("slattach -p slip ({interface})"));
        self.change(|_| {
            plain_slip(line.fd).map_err(|source| Problem::Line {
                doing: "Setting slip encapsulation",
                source,
            })
        })?;
        let address = IpPrefix::host(gate);
        self.change(|host| host.add_address(&interface, address))?;
        self.log
            .did(format_args!("ip addr add {address} dev {interface}"));
        self.change(|host| host.set_mtu(&interface, MTU))?;
        self.change(|host| host.set_up(&interface, true))?;
        self.log
            .did(format_args!("ip link set dev {interface} mtu {MTU} up"));
        self.forwarding_for(&interface, true)
    }

    /// Takes the network device of a terminal down. The device's name comes from the terminal.
    ///
    /// # Errors
    /// Why not.
    pub fn slip_down(&mut self, line: Line<'_>) -> Result<(), Problem> {
        check_owner(line, self.caller.uid)?;
        if line_discipline(line.fd).ok() != Some(N_SLIP) {
            return Err(Problem::NoSlip(line.number));
        }
        let interface = self.slip_device(line)?;
        self.change(|host| host.set_up(&interface, false))?;
        self.log
            .did(format_args!("ip link set dev {interface} down"));
        self.forwarding_without(&interface)
    }

    fn slip_device(&mut self, line: Line<'_>) -> Result<Interface, Problem> {
        let name = slip_name(line.fd).map_err(|source| Problem::Line {
            doing: "Getting the slip device's name",
            source,
        })?;
        let name: DeviceName = name.parse().map_err(|_| Problem::NoSlip(line.number))?;
        Ok(self.host().link(&name)?.interface)
    }
}

/// A caller may have somebody else's terminal open, for example that of the shell from which it
/// was started: it stays what it is.
fn check_owner(line: Line<'_>, uid: u32) -> Result<(), Problem> {
    let refused = || Problem::NotYourLine(line.number);
    let file = line
        .fd
        .try_clone_to_owned()
        .map(File::from)
        .map_err(|_| refused())?;
    let meta = file.metadata().map_err(|_| refused())?;
    if !meta.file_type().is_char_device() || meta.uid() != uid || line_discipline(line.fd).is_err()
    {
        return Err(refused());
    }
    Ok(())
}
