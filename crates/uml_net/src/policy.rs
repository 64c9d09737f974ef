//! The administrator's policy: `/etc/uml/uml_net.toml`.

use std::{
    fs::File,
    io::{self, Read as _},
    net::IpAddr,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::Path,
};

use serde::{Deserialize, Deserializer, de};
use uml_core::{error::system_text, hostnet::IpPrefix};

use crate::privilege::Caller;

/// Where the policy is.
pub const PATH: &str = "/etc/uml/uml_net.toml";

/// The largest file that is read, in bytes.
const LIMIT: u64 = 64 << 10;

/// What callers may do. Without a file this is [`Policy::default`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// The users who may call, by name or number. With neither `users` nor `groups` that is
    /// everybody who may run the program. Root always may.
    pub users: Option<Vec<Id>>,
    /// The groups whose members may call, by name or number.
    pub groups: Option<Vec<Id>>,
    /// The networks that guests' addresses must be in. Without it they are private addresses, and
    /// those of networks that the host is in.
    #[serde(deserialize_with = "networks")]
    pub guests: Option<Vec<IpPrefix>>,
    /// The networks that the host's ends must be in. Without it as for guests, and any address
    /// that the host has already.
    #[serde(deserialize_with = "networks")]
    pub gateways: Option<Vec<IpPrefix>>,
    /// Whether IPv4 forwarding may be switched on.
    pub forwarding: bool,
    /// Whether the host may answer ARP for guests.
    pub proxy_arp: bool,
    /// How many taps a user may have at once.
    pub taps: usize,
    /// How many guests' addresses there may be behind a tap.
    pub addresses: usize,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            users: None,
            groups: None,
            guests: None,
            gateways: None,
            forwarding: true,
            proxy_arp: true,
            taps: 64,
            addresses: 64,
        }
    }
}

/// A user or a group.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Id {
    /// By number.
    Number(u32),
    /// By name, as `/etc/passwd` and `/etc/group` have it.
    Name(String),
}

/// Why a policy doesn't count, or nothing is allowed.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The file could be somebody else's work: it is ignored.
    #[error("policy {PATH} is ignored: {0}")]
    Untrusted(&'static str),
    /// The file is there but can't be read: nothing is allowed.
    #[error("policy {PATH} can't be read")]
    Unreadable(#[source] io::Error),
    /// The file is there but can't be understood: nothing is allowed.
    #[error("policy {PATH} is wrong: {0}")]
    Wrong(String),
}

impl Policy {
    /// The policy of [`PATH`], and why it is another than the file says.
    ///
    /// # Errors
    /// Where the file can't be read or understood. Nothing is allowed then.
    pub fn load() -> Result<(Self, Option<PolicyError>), PolicyError> {
        match read_trusted(Path::new(PATH)) {
            Ok(None) => Ok((Self::default(), None)),
            Ok(Some(text)) => Ok((Self::parse(&text).map_err(PolicyError::Wrong)?, None)),
            Err(PolicyError::Untrusted(why)) => {
                Ok((Self::default(), Some(PolicyError::Untrusted(why))))
            }
            Err(error) => Err(error),
        }
    }

    /// Whether a file is a correct policy, and, where it is the one of [`PATH`], one that counts.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn check(path: &Path) -> Result<(), String> {
        let said = |error: io::Error| system_text(&error);
        let file = File::open(path).map_err(said)?;
        let text = read_all(file).map_err(|error| match error {
            PolicyError::Wrong(what) => what,
            PolicyError::Unreadable(error) => said(error),
            PolicyError::Untrusted(why) => why.to_owned(),
        })?;
        Self::parse(&text)?;
        if path != Path::new(PATH) {
            return Ok(());
        }
        match read_trusted(path) {
            Err(PolicyError::Untrusted(why)) => Err(format!("it is ignored: {why}")),
            _ => Ok(()),
        }
    }

    /// Reads a policy's text.
    ///
    /// # Errors
    /// What is wrong, with the line.
    pub fn parse(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|error| {
            let start = error.span().map_or(0, |span| span.start);
            let before = text.get(..start).unwrap_or_default();
            let line = before.matches('\n').count() + 1;
            let what = error.message().trim().replace('\n', " ");
            format!("line {line}: {what}")
        })
    }

    /// Whether a user may call at all. `passwd` and `group` are the files that give names numbers.
    #[must_use]
    pub fn allows(&self, caller: &Caller, passwd: &str, group: &str) -> bool {
        if caller.uid == 0 || (self.users.is_none() && self.groups.is_none()) {
            return true;
        }
        let is_one_of = |ids: &Option<Vec<Id>>, numbers: &[u32], names: &str| {
            ids.iter()
                .flatten()
                .filter_map(|id| match id {
                    Id::Number(number) => Some(*number),
                    Id::Name(name) => number_of(name, names),
                })
                .any(|number| numbers.contains(&number))
        };
        is_one_of(&self.users, &[caller.uid], passwd)
            || is_one_of(&self.groups, &caller.groups, group)
    }
}

/// The number of a name in `/etc/passwd` or `/etc/group`: both have it in the third place.
///
/// Names from elsewhere (a directory server) are given by number in the policy: nothing else is
/// asked by a program with privilege.
fn number_of(name: &str, file: &str) -> Option<u32> {
    file.lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields.first() == Some(&name))
        .and_then(|fields| fields.get(2)?.parse().ok())
}

fn networks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<IpPrefix>>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    texts
        .iter()
        .map(|text| {
            let network: IpPrefix = text.parse().map_err(de::Error::custom)?;
            if !matches!(network.address(), IpAddr::V4(_)) {
                return Err(de::Error::custom(format!("{network} is no IPv4 network")));
            }
            if !network.is_network() {
                return Err(de::Error::custom(format!(
                    "{network} is no network: bits are set behind the first {}",
                    network.length()
                )));
            }
            Ok(network)
        })
        .collect::<Result<_, _>>()
        .map(Some)
}

/// The text of a file that only root can have written; nothing where there is none.
fn read_trusted(path: &Path) -> Result<Option<String>, PolicyError> {
    let folder = match path.parent().map(File::open) {
        Some(Ok(folder)) => folder,
        Some(Err(error)) if is_missing(&error) => return Ok(None),
        Some(Err(error)) => return Err(PolicyError::Unreadable(error)),
        None => return Ok(None),
    };
    // A link, a FIFO or a device in its place must neither lead elsewhere nor block.
    let file = File::options()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path);
    let file = match file {
        Ok(file) => file,
        Err(error) if is_missing(&error) => return Ok(None),
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => {
            return Err(PolicyError::Untrusted("it is a symbolic link"));
        }
        Err(error) => return Err(PolicyError::Unreadable(error)),
    };
    for (file, whose, writable) in [
        (
            &folder,
            "its folder doesn't belong to root",
            "its folder can be written by others than root",
        ),
        (
            &file,
            "it doesn't belong to root",
            "it can be written by others than root",
        ),
    ] {
        let meta = file.metadata().map_err(PolicyError::Unreadable)?;
        if meta.uid() != 0 {
            return Err(PolicyError::Untrusted(whose));
        }
        if meta.mode() & 0o022 != 0 {
            return Err(PolicyError::Untrusted(writable));
        }
    }
    if !file.metadata().map_err(PolicyError::Unreadable)?.is_file() {
        return Err(PolicyError::Untrusted("it is no plain file"));
    }
    read_all(file).map(Some)
}

/// A file's text, if it isn't too long for a policy.
fn read_all(file: File) -> Result<String, PolicyError> {
    let mut text = String::new();
    let length = file
        .take(LIMIT + 1)
        .read_to_string(&mut text)
        .map_err(PolicyError::Unreadable)?;
    if u64::try_from(length).is_ok_and(|length| length > LIMIT) {
        return Err(PolicyError::Wrong(format!(
            "it is longer than {LIMIT} bytes"
        )));
    }
    Ok(text)
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(uid: u32, groups: &[u32]) -> Caller {
        Caller {
            uid,
            groups: groups.to_vec(),
        }
    }

    #[test]
    fn an_empty_policy_is_the_default() {
        assert_eq!(Policy::parse(""), Ok(Policy::default()));
    }

    #[test]
    fn a_whole_policy_is_read() {
        let policy = Policy::parse(
            "users = ['alice', 1001]\ngroups = ['uml-net']\nguests = ['10.0.0.0/8']\n\
             gateways = ['192.168.78.254']\nforwarding = false\nproxy_arp = false\ntaps = 2\naddresses = 1\n",
        )
        .unwrap();
        assert_eq!(
            policy.users,
            Some(vec![Id::Name("alice".into()), Id::Number(1001)])
        );
        assert_eq!(policy.guests, Some(vec!["10.0.0.0/8".parse().unwrap()]));
        assert_eq!(
            policy.gateways,
            Some(vec!["192.168.78.254/32".parse().unwrap()])
        );
        assert!(!policy.forwarding && !policy.proxy_arp);
        assert_eq!((policy.taps, policy.addresses), (2, 1));
    }

    #[test]
    fn mistakes_are_told_with_their_line() {
        for (text, start, part) in [
            (
                "taps = 1\nguest = []\n",
                "line 2: ",
                "unknown field `guest`",
            ),
            ("\n\nforwarding = 1\n", "line 3: ", "expected a boolean"),
            (
                "guests = ['10.0.0.1/8']",
                "line 1: ",
                "10.0.0.1/8 is no network",
            ),
            (
                "guests = ['fd00::/8']",
                "line 1: ",
                "fd00::/8 is no IPv4 network",
            ),
            ("gateways = ['x']", "line 1: ", "'x' is not an IP address"),
            ("users = [-1]", "line 1: ", ""),
            ("taps = ", "line 1: ", ""),
        ] {
            let error = Policy::parse(text).unwrap_err();
            assert!(error.starts_with(start) && error.contains(part), "{error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn callers_are_found_by_name_and_number() {
        let passwd = "root:x:0:0::/:/bin/sh\nalice:x:1000:1000::/:/bin/sh\nbroken\n";
        let group = "uml-net:x:150:bob\n";
        let allows = |policy: &str, uid, groups: &[u32]| {
            let policy = Policy::parse(policy).unwrap();
            policy.allows(&caller(uid, groups), passwd, group)
        };
        assert!(allows("", 4711, &[4711]));
        assert!(allows("users = ['alice']", 1000, &[]));
        assert!(allows("users = ['nobody-knows', 1000]", 1000, &[]));
        assert!(!allows("users = ['alice']", 1001, &[1000]));
        assert!(allows("groups = ['uml-net']", 1001, &[7, 150]));
        assert!(!allows("groups = ['uml-net']", 150, &[7]));
        assert!(!allows("users = []", 1000, &[]));
        assert!(allows("users = []", 0, &[]));
        assert!(allows("users = ['alice']\ngroups = [150]", 1001, &[150]));
    }
}
