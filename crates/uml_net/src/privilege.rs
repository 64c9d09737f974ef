//! Who calls, and the privilege that is lent to the few steps that need it.
//!
//! Two ways to install the program are known:
//!
//! - **setuid root.** The effective user is the caller except where privilege is raised. The real
//!   user is root meanwhile, so that the caller can't send signals to a process that holds the
//!   lock or is half-way through a change. Of root's capabilities only `CAP_NET_ADMIN` stays, and
//!   `CAP_SETUID` for the way back from root to the caller.
//! - **file capability `cap_net_admin=ep`.** The capability is effective only where privilege is
//!   raised. All users stay the caller's.
//!
//! Started by root it is as with the file capability.

use std::io;

use nix::{
    sys::prctl,
    unistd::{Gid, Uid, getgroups, getresgid, getresuid, setresgid, setresuid},
};
use uml_core::sys::process::{CAP_NET_ADMIN, CAP_SETUID, Capabilities};

/// The user who started the program: the real one, whatever the file's mode says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The real user.
    pub uid: u32,
    /// The real group and the supplementary ones.
    pub groups: Vec<u32>,
}

/// How the program came by its privilege.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    /// Setuid root, started by somebody else.
    Setuid,
    /// A file capability, or root itself.
    Capability,
    /// It has none.
    Nowhere,
}

/// The privilege, lowered but for [`Privilege::raised`].
#[derive(Debug)]
pub struct Privilege {
    caller: Uid,
    source: Source,
}

/// Set while privilege is raised; lowers it when dropped, a panic included.
struct Raised<'a>(&'a Privilege);

impl Privilege {
    /// Looks at who called, and lowers the privilege.
    ///
    /// # Errors
    /// What the system said. The program must not go on then.
    pub fn take() -> io::Result<(Caller, Self)> {
        let users = getresuid()?;
        let groups = getresgid()?;
        if groups.effective != groups.real || groups.saved != groups.real {
            // A setgid bit is of no use here.
            setresgid(groups.real, groups.real, groups.real)?;
        }
        let caller = Caller {
            uid: users.real.as_raw(),
            groups: [groups.real]
                .into_iter()
                .chain(getgroups()?)
                .map(Gid::as_raw)
                .collect(),
        };
        let permitted = Capabilities::now()?.permitted;
        let may = |capability| permitted & capability != 0;
        let setuid = users.effective.is_root() && !users.real.is_root();
        let source = match (may(CAP_NET_ADMIN), setuid) {
            (true, true) if may(CAP_SETUID) => Source::Setuid,
            (true, false) => Source::Capability,
            _ => Source::Nowhere,
        };
        let privilege = Self {
            caller: users.real,
            source,
        };
        if source != Source::Setuid {
            // Where the file is setuid to a user who isn't root, that user has no part in this.
            setresuid(users.real, users.real, users.real)?;
        }
        privilege.lower()?;
        Ok((caller, privilege))
    }

    /// Whether there is any privilege to raise.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.source != Source::Nowhere
    }

    /// Runs one step with the privilege: root's files are root's again where the program is setuid,
    /// and `CAP_NET_ADMIN` is effective.
    ///
    /// Without any privilege the step is run all the same: the kernel has the last word.
    ///
    /// # Errors
    /// What the system said to the raising, which it can't refuse to a program that has the right.
    pub fn raised<T>(&self, step: impl FnOnce() -> T) -> io::Result<T> {
        let raised = Raised(self);
        if self.source == Source::Setuid {
            let root = Uid::from_raw(0);
            setresuid(root, root, root)?;
        }
        if self.source != Source::Nowhere {
            self.capabilities(CAP_NET_ADMIN).set()?;
        }
        let value = step();
        drop(raised);
        Ok(value)
    }

    /// Makes the caller the real user again, while privilege can still be raised.
    ///
    /// What is written from now on carries the caller's name: a socket that tells its reader who
    /// wrote must not say root.
    ///
    /// # Errors
    /// What the system said.
    pub fn answer_as_caller(&self) -> io::Result<()> {
        if self.source == Source::Setuid {
            setresuid(self.caller, self.caller, Uid::from_raw(0))?;
            forbid_dumps();
        }
        Ok(())
    }

    /// Gives the privilege up for good.
    ///
    /// # Errors
    /// What the system said.
    pub fn give_up(self) -> io::Result<()> {
        setresuid(self.caller, self.caller, self.caller)?;
        Capabilities::NONE.set()?;
        forbid_dumps();
        Ok(())
    }

    fn lower(&self) -> io::Result<()> {
        if self.source == Source::Setuid {
            let root = Uid::from_raw(0);
            self.capabilities(CAP_SETUID).set()?;
            // The kernel takes all effective capabilities away with this.
            setresuid(root, self.caller, root)?;
        } else {
            self.capabilities(0).set()?;
        }
        forbid_dumps();
        Ok(())
    }

    const fn capabilities(&self, effective: u64) -> Capabilities {
        Capabilities {
            effective,
            permitted: match self.source {
                Source::Setuid => CAP_NET_ADMIN | CAP_SETUID,
                Source::Capability => CAP_NET_ADMIN,
                Source::Nowhere => 0,
            },
            inheritable: 0,
        }
    }
}

impl Drop for Raised<'_> {
    fn drop(&mut self) {
        // A program that can't put its privilege down must not run on.
        if self.0.lower().is_err() {
            std::process::abort();
        }
    }
}

/// No core dump and no tracing. The kernel forgets this at each change of user.
pub fn forbid_dumps() {
    // Without it the system's own setting counts, which is the same for programs with privilege.
    let _ = prctl::set_dumpable(false);
}
