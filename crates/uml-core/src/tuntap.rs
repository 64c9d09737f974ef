//! tun and tap devices.

use std::{
    fs::{File, OpenOptions},
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::OpenOptionsExt as _,
    },
    path::{Path, PathBuf},
};

use crate::{
    hostnet::{DeviceName, NamePattern},
    sys::tun,
};

/// The device through which tun and tap devices are made.
pub const CLONE_DEVICE: &str = "/dev/net/tun";

// Flags of TUNSETIFF, by their C names. All fit the field's 16 bits.
const IFF_TUN: u16 = 0x0001;
const IFF_TAP: u16 = 0x0002;
const IFF_MULTI_QUEUE: u16 = 0x0100;
const IFF_NO_PI: u16 = 0x1000;
const IFF_VNET_HDR: u16 = 0x4000;
const IFF_TUN_EXCL: u16 = 0x8000;

/// What a device carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kind {
    /// Ethernet frames.
    #[default]
    Tap,
    /// IP packets.
    Tun,
}

impl Kind {
    /// `tap` or `tun`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tap => "tap",
            Self::Tun => "tun",
        }
    }

    /// The kind that netlink tells as a number (`IFLA_TUN_TYPE`): 1 is `IFF_TUN`, 2 `IFF_TAP`.
    pub(crate) const fn of_type(number: u8) -> Self {
        match number {
            1 => Self::Tun,
            _ => Self::Tap,
        }
    }
}

/// How a device is attached to. An existing device refuses (`EINVAL`) another kind, and another
/// `multi_queue`; the headers are this attachment's choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mode {
    /// What the device carries.
    pub kind: Kind,
    /// Four bytes of packet information before each frame: flags, then the `EtherType`.
    pub packet_info: bool,
    /// A `virtio_net_hdr` before each frame: segmentation and checksums are left to the reader.
    pub vnet_hdr: bool,
    /// Several descriptors may be attached at once.
    pub multi_queue: bool,
}

impl Mode {
    /// A device of this kind whose frames stand alone, as User-Mode Linux reads them.
    #[must_use]
    pub const fn plain(kind: Kind) -> Self {
        Self {
            kind,
            packet_info: false,
            vnet_hdr: false,
            multi_queue: false,
        }
    }

    const fn flags(self) -> u16 {
        let mut flags = match self.kind {
            Kind::Tap => IFF_TAP,
            Kind::Tun => IFF_TUN,
        };
        if !self.packet_info {
            flags |= IFF_NO_PI;
        }
        if self.vnet_hdr {
            flags |= IFF_VNET_HDR;
        }
        if self.multi_queue {
            flags |= IFF_MULTI_QUEUE;
        }
        flags
    }
}

/// What to do with a device that exists already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// Attach to it.
    Attach,
    /// Refuse: `EBUSY`.
    Refuse,
}

/// The step at which the driver refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Opening the clone device.
    Open(PathBuf),
    /// `TUNSETIFF`: making the device of this name, or attaching to it.
    Attach(String),
    /// `TUNGETIFF`: asking what the descriptor is attached to.
    Query,
    /// `TUNSETPERSIST`.
    Persist(DeviceName),
    /// `TUNSETOWNER` with this user.
    Owner(DeviceName, u32),
    /// `TUNSETGROUP` with this group.
    Group(DeviceName, u32),
}

/// What the driver refused, and its answer.
///
/// Its text is what was being done, with the device; the system's answer is its source.
#[derive(Debug, thiserror::Error)]
#[error("{}", step.doing())]
pub struct TunTapError {
    /// The step that failed.
    pub step: Step,
    /// What the system said.
    pub source: io::Error,
}

impl TunTapError {
    fn at(step: Step) -> impl FnOnce(io::Error) -> Self {
        move |source| Self { step, source }
    }

    /// The system's error number, where there is one.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        self.source.raw_os_error()
    }
}

impl Step {
    /// The ioctl's C name; none for opening the clone device.
    #[must_use]
    pub const fn ioctl(&self) -> Option<&'static str> {
        match self {
            Self::Open(_) => None,
            Self::Attach(_) => Some("TUNSETIFF"),
            Self::Query => Some("TUNGETIFF"),
            Self::Persist(_) => Some("TUNSETPERSIST"),
            Self::Owner(..) => Some("TUNSETOWNER"),
            Self::Group(..) => Some("TUNSETGROUP"),
        }
    }

    fn doing(&self) -> String {
        match self {
            Self::Open(path) => format!("opening '{}'", path.display()),
            Self::Attach(name) => format!("attaching to {name}"),
            Self::Query => "asking for the device of a descriptor".to_owned(),
            Self::Persist(name) => format!("setting persistence of {name}"),
            Self::Owner(name, uid) => format!("setting owner of {name} to uid {uid}"),
            Self::Group(name, gid) => format!("setting group of {name} to gid {gid}"),
        }
    }
}

/// A descriptor attached to a tun or tap device.
///
/// A device that isn't persistent goes away with its last descriptor.
#[derive(Debug)]
pub struct Device {
    file: File,
    name: DeviceName,
}

impl Device {
    /// Makes a device through [`CLONE_DEVICE`], or attaches to it, in the network namespace of the
    /// calling thread.
    ///
    /// # Errors
    /// As [`Device::open_through`].
    pub fn open(
        pattern: &NamePattern,
        mode: Mode,
        existing: Existing,
    ) -> Result<Self, TunTapError> {
        Self::open_through(Path::new(CLONE_DEVICE), pattern, mode, existing)
    }

    /// Makes a device through a clone device, or attaches to it.
    ///
    /// # Errors
    /// [`Step::Open`]: `ENOENT` and `ENODEV` without the driver, `EACCES` and `EPERM` without the
    /// right. [`Step::Attach`]: `EPERM` without `CAP_NET_ADMIN` on a device that isn't the
    /// caller's, `EBUSY` where somebody is attached, `EINVAL` where the name belongs to a device
    /// of another kind.
    pub fn open_through(
        clone_device: &Path,
        pattern: &NamePattern,
        mode: Mode,
        existing: Existing,
    ) -> Result<Self, TunTapError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_CLOEXEC)
            .open(clone_device)
            .map_err(TunTapError::at(Step::Open(clone_device.to_path_buf())))?;
        let flags = match existing {
            Existing::Attach => mode.flags(),
            Existing::Refuse => mode.flags() | IFF_TUN_EXCL,
        };
        let attach = |error| TunTapError::at(Step::Attach(pattern.as_str().to_owned()))(error);
        let name = tun::set_interface(file.as_fd(), pattern.as_str(), flags).map_err(attach)?;
        let name = name
            .parse()
            .map_err(|error| attach(io::Error::new(io::ErrorKind::InvalidData, error)))?;
        Ok(Self { file, name })
    }

    /// Takes over a descriptor that is attached already.
    ///
    /// # Errors
    /// [`Step::Query`]: `ENOTTY` or `EBADFD` where it isn't attached to a tun or tap device.
    pub fn from_fd(fd: OwnedFd) -> Result<Self, TunTapError> {
        let query = TunTapError::at(Step::Query);
        match tun::interface(fd.as_fd()).and_then(|name| {
            name.parse::<DeviceName>()
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
        }) {
            Ok(name) => Ok(Self {
                file: File::from(fd),
                name,
            }),
            Err(error) => Err(query(error)),
        }
    }

    /// The device's name.
    #[must_use]
    pub const fn name(&self) -> &DeviceName {
        &self.name
    }

    /// Sets whether the device stays when nobody is attached.
    ///
    /// # Errors
    /// [`Step::Persist`].
    pub fn set_persistent(&self, on: bool) -> Result<(), TunTapError> {
        tun::set_persistent(self.file.as_fd(), on)
            .map_err(TunTapError::at(Step::Persist(self.name.clone())))
    }

    /// Sets the user who may attach besides those with `CAP_NET_ADMIN`.
    ///
    /// # Errors
    /// [`Step::Owner`]: `EINVAL` for an id without a meaning in this user namespace.
    pub fn set_owner(&self, uid: u32) -> Result<(), TunTapError> {
        tun::set_owner(self.file.as_fd(), uid)
            .map_err(TunTapError::at(Step::Owner(self.name.clone(), uid)))
    }

    /// Sets the group whose members may attach.
    ///
    /// # Errors
    /// [`Step::Group`]: `EINVAL` for an id without a meaning in this user namespace.
    pub fn set_group(&self, gid: u32) -> Result<(), TunTapError> {
        tun::set_group(self.file.as_fd(), gid)
            .map_err(TunTapError::at(Step::Group(self.name.clone(), gid)))
    }

    /// The descriptor as a file: one read or write is one frame.
    #[must_use]
    pub const fn file(&self) -> &File {
        &self.file
    }

    /// The descriptor alone; the device lives on with it.
    #[must_use]
    pub fn into_fd(self) -> OwnedFd {
        OwnedFd::from(self.file)
    }
}

impl AsFd for Device {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
