//! Names of disk files in `config ubdN=…` are made absolute before they are sent: the guest's
//! working directory is another.

use std::{
    ffi::OsStr,
    fs,
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
    path::Path,
};

/// The command with the names in it made absolute, from the working directory `here`.
///
/// Only `config ubdN[FLAGS]=FILE[,BACKING[,SERIAL]]` holds any: at most two, each behind `,` or
/// `:`, at which a guest parts them. The name of a file that doesn't exist yet (a new COW file)
/// is made absolute too. Every other command stays as it is.
#[must_use]
pub fn absolute(command: &[u8], here: &Path) -> Vec<u8> {
    let Some((head, files)) = split(command) else {
        return command.to_vec();
    };
    let mut made = head.to_vec();
    let mut names_left = 2;
    for part in files.split_inclusive(|byte| is_separator(*byte)) {
        let (name, separator) = match part.split_last() {
            Some((last, name)) if is_separator(*last) => (name, std::slice::from_ref(last)),
            _ => (part, &[][..]),
        };
        if names_left > 0 && !name.is_empty() {
            made.extend(absolute_name(Path::new(OsStr::from_bytes(name)), here));
        } else {
            made.extend_from_slice(name);
        }
        made.extend_from_slice(separator);
        names_left = i32::max(names_left - 1, 0);
    }
    made
}

fn is_separator(byte: u8) -> bool {
    matches!(byte, b',' | b':')
}

/// Splits `config ubdN…=` from what stands behind it.
fn split(command: &[u8]) -> Option<(&[u8], &[u8])> {
    let device = command.strip_prefix(b"config")?.trim_ascii_start();
    let unit = device.strip_prefix(b"ubd")?;
    let equals = unit.iter().position(|byte| *byte == b'=')?;
    // `ubd=sync` is about all disks and names none.
    if equals == 0 || unit[..equals].iter().any(u8::is_ascii_whitespace) {
        return None;
    }
    Some(command.split_at(command.len() - unit.len() + equals + 1))
}

/// The name with its directory resolved as the host sees it; where that is not there, the name
/// behind the working directory, for the guest to say what it thinks of it.
fn absolute_name(name: &Path, here: &Path) -> Vec<u8> {
    let whole = here.join(name);
    let resolved = match (whole.parent(), whole.file_name()) {
        (Some(dir), Some(file)) => fs::canonicalize(dir).ok().map(|dir| dir.join(file)),
        _ => fs::canonicalize(&whole).ok(),
    };
    resolved.unwrap_or(whole).into_os_string().into_vec()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn only_the_names_of_a_disk_change() {
        let dir = tempfile::tempdir().unwrap();
        let here = fs::canonicalize(dir.path()).unwrap();
        fs::create_dir(here.join("sub")).unwrap();
        symlink("sub", here.join("link")).unwrap();
        let h = here.to_str().unwrap();
        let cases = [
            ("config ubd1=disk", format!("config ubd1={h}/disk")),
            ("config ubd1r=./disk", format!("config ubd1r={h}/disk")),
            (
                "config ubd1rsdtc=link/disk",
                format!("config ubd1rsdtc={h}/sub/disk"),
            ),
            (
                "config ubda=cow,sub/disk,serial",
                format!("config ubda={h}/cow,{h}/sub/disk,serial"),
            ),
            (
                "config ubd1=cow:disk",
                format!("config ubd1={h}/cow:{h}/disk"),
            ),
            (
                "config ubd1=disk,,serial",
                format!("config ubd1={h}/disk,,serial"),
            ),
            (
                "config ubd1=none/../x/disk",
                format!("config ubd1={h}/none/../x/disk"),
            ),
            ("config ubd1=/none/disk", "config ubd1=/none/disk".into()),
            (
                "config  ubd1=two words",
                format!("config  ubd1={h}/two words"),
            ),
        ];
        for (command, expected) in cases {
            let made = absolute(command.as_bytes(), &here);
            assert_eq!(String::from_utf8(made).unwrap(), expected);
        }
    }

    #[test]
    fn everything_else_stays() {
        for command in [
            "config ubd1",
            "config ubd1=",
            "config ubd=sync",
            "config con1=fd:1",
            "config vec0:transport=tap,ifname=ubd1=x",
            "config eth0=tuntap,disk",
            "config mem=disk",
            "config other ubd1=disk",
            "remove ubd1=disk",
            "log config ubd1=disk",
        ] {
            assert_eq!(
                absolute(command.as_bytes(), Path::new("/")),
                command.as_bytes()
            );
        }
    }
}
