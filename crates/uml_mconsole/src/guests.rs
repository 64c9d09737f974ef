//! Where guests' sockets are.

use std::{
    env,
    ffi::{OsStr, OsString},
    fs::{self, File},
    io::{self, Read as _},
    os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use nix::libc;
use uml_core::error::system_text;

/// The directories in which each guest has one of its umid's name.
#[derive(Debug, Clone)]
pub struct Places {
    dirs: Vec<PathBuf>,
}

/// A guest's socket and what to call the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guest {
    /// Its umid, or the socket's path as it was given where that says no umid.
    pub name: String,
    /// Its management console's socket.
    pub socket: PathBuf,
}

/// There is no such guest.
#[derive(Debug, thiserror::Error)]
#[error("no guest '{}': looked for {}", name.to_string_lossy(), list(looked_in))]
pub struct NotFound {
    /// What was asked for.
    pub name: OsString,
    /// Every path that was tried, with what the system said.
    pub looked_in: Vec<(PathBuf, io::Error)>,
}

/// Whether there is a socket of that name.
#[must_use]
pub fn is_socket(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.file_type().is_socket())
}

fn list(looked_in: &[(PathBuf, io::Error)]) -> String {
    let each: Vec<String> = looked_in
        .iter()
        .map(|(path, error)| format!("'{}' ({})", path.display(), system_text(error)))
        .collect();
    each.join(", ")
}

impl Places {
    /// This directory alone, or `~/.uml` and `/tmp/uml`.
    #[must_use]
    pub fn new(uml_dir: Option<PathBuf>) -> Self {
        let dirs = uml_dir.map_or_else(
            || {
                let home = env::var_os("HOME").filter(|home| !home.is_empty());
                home.map(|home| Path::new(&home).join(".uml"))
                    .into_iter()
                    .chain([PathBuf::from("/tmp/uml")])
                    .collect()
            },
            |dir| vec![dir],
        );
        Self { dirs }
    }

    /// The directories, in the order in which they are looked in.
    #[must_use]
    pub fn dirs(&self) -> &[PathBuf] {
        &self.dirs
    }

    /// All guests that have a socket below the directories, running or not, by name.
    #[must_use]
    pub fn guests(&self) -> Vec<Guest> {
        let mut found: Vec<Guest> = self
            .dirs
            .iter()
            // A directory that isn't there, or isn't ours to read, has no guests for us.
            .filter_map(|dir| fs::read_dir(dir).ok())
            .flatten()
            .filter_map(|entry| Some(entry.ok()?.path().join("mconsole")))
            .filter(|socket| is_socket(socket))
            .map(Guest::at)
            .collect();
        found.sort_by(|a, b| a.name.cmp(&b.name));
        found
    }

    /// Finds a guest by its umid, or by its socket's path.
    ///
    /// # Errors
    /// All places that were looked in, when there is none.
    pub fn find(&self, name: &OsStr) -> Result<Guest, NotFound> {
        let as_umid = self.dirs.iter().map(|dir| dir.join(name).join("mconsole"));
        let mut looked_in = Vec::new();
        // An absolute path replaces the directory it is joined to: nothing to look for there.
        let as_umid = as_umid.filter(|_| !Path::new(name).is_absolute() && !name.is_empty());
        for socket in as_umid.chain([PathBuf::from(name)]) {
            match fs::metadata(&socket) {
                Ok(_) => return Ok(Guest::at(socket)),
                Err(error) => looked_in.push((socket, error)),
            }
        }
        Err(NotFound {
            name: name.to_owned(),
            looked_in,
        })
    }
}

impl Guest {
    /// The guest behind this socket. `…/UMID/mconsole` says its umid.
    #[must_use]
    pub fn at(socket: PathBuf) -> Self {
        let umid = socket
            .parent()
            .filter(|_| socket.file_name() == Some(OsStr::new("mconsole")))
            .and_then(Path::file_name);
        let name = umid.unwrap_or(socket.as_os_str());
        Self {
            name: name.to_string_lossy().into_owned(),
            socket,
        }
    }

    /// The file beside its socket in which the guest leaves its process id.
    #[must_use]
    pub fn pid_file(&self) -> PathBuf {
        self.socket.with_file_name("pid")
    }

    /// The process id that the guest has left beside its socket.
    ///
    /// # Errors
    /// What reading the file answered; `InvalidData` when it holds no process id.
    pub fn pid(&self) -> io::Result<i32> {
        // Anybody may have made it, below /tmp: it must not block, nor be read without end.
        let file = File::options()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(self.pid_file())?;
        let mut text = String::new();
        file.take(32).read_to_string(&mut text)?;
        match text.trim().parse() {
            Ok(pid) if pid > 0 => Ok(pid),
            _ => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "it holds no process id",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(dir: &Path) -> Places {
        Places::new(Some(dir.to_path_buf()))
    }

    #[test]
    fn a_umid_is_found_before_a_path_of_the_same_name() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("src")).unwrap();
        fs::write(dir.path().join("src/mconsole"), "").unwrap();
        let guest = places(dir.path()).find(OsStr::new("src")).unwrap();
        assert_eq!(guest.name, "src");
        assert_eq!(guest.socket, dir.path().join("src/mconsole"));
    }

    #[test]
    fn a_path_is_named_by_its_umid_or_itself() {
        let named = |path: &str| Guest::at(path.into()).name;
        assert_eq!(named("/tmp/uml/lab1/mconsole"), "lab1");
        assert_eq!(named("/tmp/sock"), "/tmp/sock");
        assert_eq!(named("mconsole"), "mconsole");
    }

    #[test]
    fn all_places_are_named_when_there_is_none() {
        let places = Places {
            dirs: vec!["/nowhere/a".into(), "/nowhere/b".into()],
        };
        let error = places.find(OsStr::new("lab1")).unwrap_err().to_string();
        assert_eq!(
            error,
            "no guest 'lab1': looked for '/nowhere/a/lab1/mconsole' (No such file or directory), \
             '/nowhere/b/lab1/mconsole' (No such file or directory), \
             'lab1' (No such file or directory)"
        );
    }
}
