//! What one call leaves for later ones: `/run/uml_net`.
//!
//! Routes and proxy entries carry a mark in the kernel that tells who made them
//! ([`uml_core::hostnet::Origin::UML_NET`]). Settings don't, so what they were before is kept here,
//! one file for each network namespace:
//!
//! - `lock`: held by a call from its first look to its last change.
//! - `net-COOKIE`: the [`State`] of the namespace with that number, as TOML. It is replaced by a
//!   rename, so it is always whole, and it is written before the change that it is about: a call
//!   that is killed half-way leaves nothing that the next one can't put right.
//!
//! The file tells the boot that it belongs to; one of an earlier boot doesn't count.

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    os::{
        fd::OwnedFd,
        unix::fs::{DirBuilderExt as _, MetadataExt as _},
    },
    time::Duration,
};

use nix::{
    errno::Errno,
    fcntl::{Flock, OFlag, openat, renameat},
    sys::stat::Mode,
    unistd::{UnlinkatFlags, unlinkat},
};
use serde::{Deserialize, Serialize};
use uml_core::lock;

/// The folder of all state.
pub const FOLDER: &str = "/run/uml_net";

/// How long a call waits for another one to be done: one that its caller has frozen must not stop
/// everybody else's for good.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);

/// What is kept about one network namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The boot in which this holds.
    boot: String,
    /// The devices whose guests need forwarding.
    #[serde(default)]
    pub users: Vec<Guest>,
    /// The indexes of the devices on which proxy ARP was switched on here.
    #[serde(default)]
    pub proxy_arp: Vec<u32>,
    /// What forwarding was before it was switched on here.
    pub forwarding: Option<ForwardingBefore>,
}

/// A device with a guest behind it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guest {
    /// The device's index, which no other device gets.
    pub index: u32,
    /// The user who asked for it.
    pub uid: u32,
    /// It is a SLIP line, which unlike a tap doesn't know its owner.
    #[serde(default)]
    pub slip: bool,
}

/// The settings that the kernel changes along with `net.ipv4.ip_forward`, before that was
/// switched on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForwardingBefore {
    /// `net.ipv4.conf.all.accept_redirects`.
    pub accept_redirects: bool,
    /// `net.ipv4.conf.default.forwarding`.
    pub default: bool,
    /// The indexes of the devices with `net.ipv4.conf.DEVICE.forwarding`.
    pub devices: Vec<u32>,
}

impl State {
    /// Whether there is nothing to keep.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.users.is_empty() && self.proxy_arp.is_empty() && self.forwarding.is_none()
    }
}

/// Why there is no state.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Another call holds the lock.
    #[error("another call of uml_net has not ended after {} s", LOCK_PATIENCE.as_secs())]
    Busy,
    /// It can't be kept, for example since the program is not setuid root.
    #[error("{FOLDER}")]
    Unusable(#[source] io::Error),
    /// Others than root can write the folder.
    #[error("{FOLDER} does not belong to root alone")]
    Untrusted,
}

impl StateError {
    /// Whether this host keeps no state for this program at all: it isn't setuid root, or there is
    /// no `/run` for it. Anything else (a limit that the caller has set, a full disk, a lock that
    /// is held) must not make a call go on without state.
    #[must_use]
    pub fn is_for_good(&self) -> bool {
        match self {
            Self::Busy => false,
            Self::Untrusted => true,
            Self::Unusable(error) => matches!(
                error.raw_os_error(),
                Some(libc::EACCES | libc::EPERM | libc::ENOENT | libc::EROFS | libc::ENOPROTOOPT)
            ),
        }
    }
}

impl From<Errno> for StateError {
    fn from(error: Errno) -> Self {
        Self::Unusable(error.into())
    }
}

impl From<io::Error> for StateError {
    fn from(error: io::Error) -> Self {
        Self::Unusable(error)
    }
}

/// The state of one network namespace, not locked yet.
#[derive(Debug)]
pub struct Unlocked {
    folder: OwnedFd,
    name: String,
    boot: String,
    lock: File,
}

/// The locked state of one network namespace. All its methods want root's right to its files.
#[derive(Debug)]
pub struct Store {
    folder: OwnedFd,
    name: String,
    boot: String,
    _lock: Flock<File>,
}

impl Unlocked {
    /// Opens the state of the namespace with this number, with root's right to its files.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn open(namespace: u64) -> Result<Self, StateError> {
        let made = fs::DirBuilder::new().mode(0o700).create(FOLDER);
        if let Err(error) = made {
            if error.kind() != io::ErrorKind::AlreadyExists {
                return Err(error.into());
            }
        }
        let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let folder = nix::fcntl::open(FOLDER, flags, Mode::empty())?;
        let meta = File::from(folder.try_clone()?).metadata()?;
        if meta.uid() != 0 || meta.mode() & 0o022 != 0 {
            return Err(StateError::Untrusted);
        }
        let lock = openat(
            &folder,
            "lock",
            OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC,
            Mode::S_IRUSR | Mode::S_IWUSR,
        )?;
        Ok(Self {
            lock: File::from(lock),
            folder,
            name: format!("net-{namespace:x}"),
            boot: fs::read_to_string("/proc/sys/kernel/random/boot_id")?
                .trim()
                .to_owned(),
        })
    }

    /// Waits for the lock, which wants no right.
    ///
    /// # Errors
    /// [`StateError::Busy`] where another call doesn't end.
    pub fn lock(self) -> Result<Store, StateError> {
        Ok(Store {
            folder: self.folder,
            name: self.name,
            boot: self.boot,
            _lock: lock::within(LOCK_PATIENCE, self.lock, || {})?.ok_or(StateError::Busy)?,
        })
    }
}

impl Store {
    /// The state that earlier calls left; an empty one where there is none of this boot, or none
    /// that can be understood.
    ///
    /// # Errors
    /// What the system said.
    pub fn load(&self) -> Result<State, StateError> {
        let empty = State {
            boot: self.boot.clone(),
            ..State::default()
        };
        // A call that was killed while it wrote has left this.
        self.unlink(&self.unfinished())?;
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = match openat(&self.folder, self.name.as_str(), flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::ENOENT) => return Ok(empty),
            Err(error) => return Err(error.into()),
        };
        let mut bytes = Vec::new();
        (&file).read_to_end(&mut bytes)?;
        let state = std::str::from_utf8(&bytes)
            .ok()
            .and_then(|text| toml::from_str::<State>(text).ok())
            .filter(|state| state.boot == self.boot);
        Ok(state.unwrap_or(empty))
    }

    /// Replaces the state; an empty one has no file.
    ///
    /// # Errors
    /// What the system said. The earlier state stays whole then.
    pub fn save(&self, state: &State) -> Result<(), StateError> {
        if state.is_empty() {
            return self.unlink(&self.name);
        }
        let text = toml::to_string(state).map_err(io::Error::other)?;
        let unfinished = self.unfinished();
        let file = openat(
            &self.folder,
            unfinished.as_str(),
            OFlag::O_WRONLY
                | OFlag::O_CREAT
                | OFlag::O_TRUNC
                | OFlag::O_NOFOLLOW
                | OFlag::O_CLOEXEC,
            Mode::S_IRUSR | Mode::S_IWUSR,
        )?;
        // No fsync: what a crash of the host could lose is of no use after it.
        File::from(file).write_all(text.as_bytes())?;
        renameat(
            &self.folder,
            unfinished.as_str(),
            &self.folder,
            self.name.as_str(),
        )?;
        Ok(())
    }

    /// The name that a state has until it is whole.
    fn unfinished(&self) -> String {
        format!("{}.new", self.name)
    }

    fn unlink(&self, name: &str) -> Result<(), StateError> {
        match unlinkat(&self.folder, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
