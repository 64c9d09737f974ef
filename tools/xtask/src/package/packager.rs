//! Who is responsible for the packages: whoever makes them says so.

use std::{env, error::Error, ffi::OsString, fs, path::Path};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// Who the files of the source tree name: nobody. Names below `.invalid` never reach anybody (RFC 2606).
const NOBODY: &str = "uml-utilities packagers <packagers@uml-utilities.invalid>";

/// Who makes the packages.
pub(super) struct Packager {
    /// `NAME <ADDRESS>`.
    who: String,
}

impl Packager {
    /// The packager that `DEBFULLNAME` and `DEBEMAIL` name; nobody where they are not set.
    ///
    /// # Errors
    /// One without the other; what can't stand in a package's fields.
    pub(super) fn from_environment() -> Outcome<Self> {
        let who = named(env::var_os("DEBFULLNAME"), env::var_os("DEBEMAIL"))?;
        Ok(Self {
            who: who.unwrap_or_else(|| NOBODY.to_owned()),
        })
    }

    /// Whether nobody is named.
    pub(super) fn is_nobody(&self) -> bool {
        self.who == NOBODY
    }

    /// Writes the name into a copy of one of the tree's files.
    ///
    /// # Errors
    /// The file names somebody already; reading or writing it failed.
    pub(super) fn write_into(&self, file: &Path) -> Outcome {
        let at = |error| format!("naming the packager in {}: {error}", file.display());
        let text = fs::read_to_string(file).map_err(at)?;
        if !text.contains(NOBODY) {
            return Err(format!("{}: no {NOBODY}", file.display()).into());
        }
        Ok(fs::write(file, text.replace(NOBODY, &self.who)).map_err(at)?)
    }
}

/// `NAME <ADDRESS>`; none where neither is set.
fn named(name: Option<OsString>, address: Option<OsString>) -> Outcome<Option<String>> {
    let text = |value: Option<OsString>| value.unwrap_or_default().into_string();
    let (Ok(name), Ok(address)) = (text(name), text(address)) else {
        return Err("DEBFULLNAME or DEBEMAIL is not UTF-8".into());
    };
    match (name.trim(), address.trim()) {
        ("", "") => Ok(None),
        ("", _) => Err("DEBEMAIL is set, DEBFULLNAME is not: set both or none".into()),
        (_, "") => Err("DEBFULLNAME is set, DEBEMAIL is not: set both or none".into()),
        (name, address) => {
            // % begins a macro in a spec.
            let bad = |c: char| c.is_control() || "<>%".contains(c);
            if name.contains(bad) || address.contains(bad) || !address.contains('@') {
                return Err(format!("{name} <{address}>: no packager is named like this").into());
            }
            Ok(Some(format!("{name} <{address}>")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(name: &str, address: &str) -> Outcome<Option<String>> {
        named(Some(name.into()), Some(address.into()))
    }

    #[test]
    fn a_packager_has_a_name_and_an_address() {
        assert_eq!(named(None, None).unwrap(), None);
        assert_eq!(says("", " ").unwrap(), None);
        let who = says("Pack Ager", "pack@ager.example").unwrap();
        assert_eq!(who.unwrap(), "Pack Ager <pack@ager.example>");
        for (name, address) in [
            ("Pack Ager", ""),
            ("", "pack@ager.example"),
            ("Pack", "ager"),
            ("Pack\nAger", "pack@ager.example"),
            ("%Pack", "pack@ager.example"),
        ] {
            assert!(says(name, address).is_err(), "{name} {address}");
        }
    }

    #[test]
    fn the_trees_files_name_nobody_and_their_copies_the_packager() {
        let packaging = crate::tools::workspace().join("tools/packaging");
        let packager = Packager {
            who: "Pack Ager <pack@ager.example>".to_owned(),
        };
        let dir = tempfile::tempdir().unwrap();
        for path in [
            "debian/control",
            "debian/changelog",
            "rpm/uml-utilities-rs.spec",
        ] {
            let copy = dir.path().join("copy");
            fs::copy(packaging.join(path), &copy).unwrap();
            packager.write_into(&copy).unwrap();
            let text = fs::read_to_string(&copy).unwrap();
            assert!(text.contains(&packager.who), "{path}");
            assert!(!text.contains("@uml-utilities.invalid"), "{path}");
            assert!(packager.write_into(&copy).is_err(), "{path}");
        }
    }
}
