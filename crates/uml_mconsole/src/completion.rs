//! What the prompt completes: commands, guests' names, names of disk files.

use std::{fs, path::Path};

use crate::guests::Places;

/// The commands of this program and of the kernels at hand. A guest may know more.
const COMMANDS: [&str; 20] = [
    "cad",
    "config ",
    "go",
    "halt",
    "help",
    "int",
    "log ",
    "log -f ",
    "mconsole-version",
    "proc ",
    "quit",
    "reboot",
    "remove ",
    "stack ",
    "stop",
    "switch ",
    "sysrq ",
    "umlfs ",
    "version",
    "config ubd",
];

/// What may stand in place of `line[start..]`, and `start`.
#[must_use]
pub fn complete(line: &str, places: &Places) -> (usize, Vec<String>) {
    // `NAME: COMMAND`: the command is completed as if it stood alone.
    if let Some((name, command)) = line.split_once(": ") {
        if !name.contains(char::is_whitespace) {
            let offset = line.len() - command.len();
            let (start, found) = complete(command, places);
            return (offset + start, found);
        }
    }
    if let Some(prefix) = line.strip_prefix("switch ") {
        return (line.len() - prefix.len(), umids(prefix, places));
    }
    if let Some(prefix) = line.strip_prefix("log -f ") {
        return (line.len() - prefix.len(), files(prefix));
    }
    if let Some((_, files_so_far)) = disk(line) {
        let prefix = files_so_far
            .rsplit([',', ':'])
            .next()
            .unwrap_or(files_so_far);
        return (line.len() - prefix.len(), files(prefix));
    }
    let mut found: Vec<String> = COMMANDS
        .iter()
        .filter(|command| {
            // A second word is offered only when the first one stands.
            command.starts_with(line)
                && !command.trim_end()[line.len().min(command.trim_end().len())..].contains(' ')
        })
        .map(|command| (*command).to_owned())
        .collect();
    if !line.contains(char::is_whitespace) && !line.is_empty() {
        found.extend(umids(line, places).into_iter().map(|umid| umid + ": "));
    }
    found.sort();
    found.dedup();
    (0, found)
}

/// Splits `config ubdN…=` from the files behind it.
fn disk(line: &str) -> Option<(&str, &str)> {
    line.strip_prefix("config ubd")?.split_once('=')
}

fn umids(prefix: &str, places: &Places) -> Vec<String> {
    places
        .guests()
        .into_iter()
        .map(|guest| guest.name)
        .filter(|name| name.starts_with(prefix) && !name.contains(char::is_control))
        .collect()
}

/// The files whose names begin so; directories end with `/`.
fn files(prefix: &str) -> Vec<String> {
    let (dir, begin) = match prefix.rfind('/') {
        Some(at) => prefix.split_at(at + 1),
        None => ("", prefix),
    };
    let path = if dir.is_empty() { "." } else { dir };
    let mut found: Vec<String> = fs::read_dir(Path::new(path))
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let name = entry.file_name().into_string().ok()?;
            let is_hidden = name.starts_with('.') && !begin.starts_with('.');
            let fits = name.starts_with(begin) && !is_hidden && !name.contains(char::is_control);
            let slash = if entry.path().is_dir() { "/" } else { "" };
            fits.then(|| format!("{dir}{name}{slash}"))
        })
        .collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use super::*;

    fn completed(line: &str, places: &Places) -> Vec<String> {
        let (start, found) = complete(line, places);
        found
            .iter()
            .map(|end| format!("{}{end}", &line[..start]))
            .collect()
    }

    #[test]
    fn commands_and_umids() {
        let dir = tempfile::tempdir().unwrap();
        for umid in ["gateway", "go-server"] {
            fs::create_dir(dir.path().join(umid)).unwrap();
            UnixDatagram::bind(dir.path().join(umid).join("mconsole")).unwrap();
        }
        let places = Places::new(Some(dir.path().to_path_buf()));
        let completed = |line| completed(line, &places);
        assert_eq!(completed("re"), ["reboot", "remove "]);
        assert_eq!(completed("g"), ["gateway: ", "go", "go-server: "]);
        assert_eq!(completed("switch ga"), ["switch gateway"]);
        assert_eq!(completed("log"), ["log "]);
        assert_eq!(completed("log "), ["log ", "log -f "]);
        assert_eq!(completed("config"), ["config "]);
        assert_eq!(completed("config u"), ["config ubd"]);
        assert_eq!(completed("gateway: ve"), ["gateway: version"]);
        assert_eq!(completed("nonsense "), [""; 0]);
    }

    #[test]
    fn files_of_a_disk() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("disk.img"), "").unwrap();
        fs::write(dir.path().join(".hidden"), "").unwrap();
        fs::create_dir(dir.path().join("data")).unwrap();
        let places = Places::new(Some(dir.path().to_path_buf()));
        let d = dir.path().display();
        let completed = |line: String| completed(&line, &places);
        assert_eq!(
            completed(format!("config ubd1r={d}/d")),
            [
                format!("config ubd1r={d}/data/"),
                format!("config ubd1r={d}/disk.img")
            ]
        );
        assert_eq!(
            completed(format!("config ubd1=/a.cow,{d}/di")),
            [format!("config ubd1=/a.cow,{d}/disk.img")]
        );
        assert_eq!(
            completed(format!("x: log -f {d}/.h")),
            [format!("x: log -f {d}/.hidden")]
        );
    }
}
