//! A list of the guests and of what they are.

use std::{fmt::Write as _, io, time::Duration};

use serde::Serialize;

use crate::{
    cli::Format,
    guests::{Guest, Places},
    many, process,
    session::{End, Session},
    show::{self, visible_line},
};

/// Whether a guest is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    /// It answers.
    Alive,
    /// Somebody listens on its socket, and doesn't answer.
    Silent,
    /// Nobody listens on its socket: it has ended without cleaning up.
    Stale,
}

/// One guest.
#[derive(Debug, Serialize)]
struct Entry {
    umid: String,
    socket: String,
    /// Only while it is the guest's: a stale one may be another process's by now.
    pid: Option<i32>,
    state: State,
    /// The answer to `version`.
    version: Option<String>,
    /// The process's, not the guest's own.
    uptime_seconds: Option<u64>,
    devices: Vec<Device>,
}

/// A device as `config NAME` tells it.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Device {
    name: String,
    config: String,
}

/// The device names that a kernel knows settings of, as a prefix and the highest number. Network
/// devices tell none.
const DEVICES: [(&str, u32); 3] = [("ubd", 15), ("con", 15), ("ssl", 15)];

/// What a guest says to a question.
#[derive(Debug)]
enum Said {
    /// This, without white space at its end.
    Text(String),
    /// That it failed.
    Refused,
    /// Not all of an answer.
    Nothing,
}

/// Lists all guests.
///
/// # Errors
/// What writing to standard output answered.
pub fn run(places: &Places, timeout: Duration, format: Format) -> io::Result<u8> {
    let entries = many::each(&places.guests(), |guest| look(guest, timeout));
    match format {
        Format::Text => show::output(table(&entries).as_bytes())?,
        Format::Json => {
            let text = serde_json::to_string_pretty(&entries).map_err(io::Error::other)?;
            show::output(format!("{text}\n").as_bytes())?;
        }
    }
    Ok(0)
}

fn look(guest: &Guest, timeout: Duration) -> Entry {
    let session = Session::new(guest.clone(), timeout);
    let ask = |command: &str| match session.request(command.as_bytes()) {
        Ok(reply) if reply.end != End::Whole => Said::Nothing,
        Ok(reply) if reply.err == 0 => {
            Said::Text(String::from_utf8_lossy(&reply.text).trim_end().to_owned())
        }
        Ok(_) => Said::Refused,
        Err(_) => Said::Nothing,
    };
    let is_there = session.check().is_ok();
    let version = match is_there.then(|| ask("version")) {
        Some(Said::Text(version)) => Some(version),
        _ => None,
    };
    let state = match (is_there, &version) {
        (true, Some(_)) => State::Alive,
        (true, None) => State::Silent,
        (false, _) => State::Stale,
    };
    let pid = guest.pid().ok().filter(|_| is_there);
    Entry {
        umid: guest.name.clone(),
        socket: guest.socket.to_string_lossy().into_owned(),
        pid,
        state,
        devices: if version.is_some() {
            devices(ask)
        } else {
            Vec::new()
        },
        version,
        uptime_seconds: pid.and_then(process::uptime).map(|time| time.as_secs()),
    }
}

fn devices(mut ask: impl FnMut(&str) -> Said) -> Vec<Device> {
    let names = DEVICES
        .iter()
        .flat_map(|(prefix, last)| (0..=*last).map(move |number| format!("{prefix}{number}")));
    let mut found = Vec::new();
    for name in names.chain(["mem".to_owned()]) {
        match ask(&format!("config {name}")) {
            Said::Text(config) if !config.is_empty() && config != "none" => {
                found.push(Device { name, config });
            }
            Said::Text(_) | Said::Refused => {}
            // Each further question might be waited for as long.
            Said::Nothing => break,
        }
    }
    found
}

fn table(entries: &[Entry]) -> String {
    let mut rows = vec![["UMID", "PID", "STATE", "KERNEL", "UPTIME", "DEVICES"].map(str::to_owned)];
    let dash = || "-".to_owned();
    for entry in entries {
        // `Linux NAME RELEASE …`
        let version = entry.version.as_deref();
        let release = version.map(|text| text.split(' ').nth(2).unwrap_or(text));
        rows.push([
            visible_line(entry.umid.as_bytes()),
            entry.pid.map_or_else(dash, |pid| pid.to_string()),
            match entry.state {
                State::Alive => "alive",
                State::Silent => "silent",
                State::Stale => "stale",
            }
            .to_owned(),
            release.map_or_else(dash, |text| visible_line(text.as_bytes())),
            entry.uptime_seconds.map_or_else(dash, clock),
            visible_line(together(&entry.devices).as_bytes()),
        ]);
    }
    let mut widths = [0; 6];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = usize::max(*width, cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (width, cell) in widths.iter().zip(row) {
            // Writing to a String can't fail.
            let _ = write!(line, "{cell:width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// `1d 02:03:04`, or `02:03:04` on the first day.
fn clock(seconds: u64) -> String {
    let (minutes, s) = (seconds / 60, seconds % 60);
    let (hours, m) = (minutes / 60, minutes % 60);
    let (days, h) = (hours / 24, hours % 24);
    if days > 0 {
        format!("{days}d {h:02}:{m:02}:{s:02}")
    } else {
        format!("{h:02}:{m:02}:{s:02}")
    }
}

/// `ubd0=/disk con0-15=null`: devices of one kind in a row with the same settings are one entry.
fn together(devices: &[Device]) -> String {
    let split = |name: &str| {
        let kind = name
            .trim_end_matches(|c: char| c.is_ascii_digit())
            .to_owned();
        let number: Option<u32> = name[kind.len()..].parse().ok();
        (kind, number)
    };
    let mut runs: Vec<(String, Option<u32>, Option<u32>, &str)> = Vec::new();
    for device in devices {
        let (kind, number) = split(&device.name);
        match runs.last_mut() {
            Some((last_kind, _, last, config))
                if *last_kind == kind
                    && *config == device.config
                    && last.is_some_and(|last| Some(last + 1) == number) =>
            {
                *last = number;
            }
            _ => runs.push((kind, number, number, &device.config)),
        }
    }
    let words: Vec<String> = runs
        .iter()
        .map(|(kind, first, last, config)| match (first, last) {
            (Some(first), Some(last)) if first != last => format!("{kind}{first}-{last}={config}"),
            (Some(first), _) => format!("{kind}{first}={config}"),
            (None, _) => format!("{kind}={config}"),
        })
        .collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(name: &str, config: &str) -> Device {
        Device {
            name: name.to_owned(),
            config: config.to_owned(),
        }
    }

    #[test]
    fn devices_in_a_row_are_one_entry() {
        let devices = [
            device("ubd0", "/disk"),
            device("ubd2", "/disk"),
            device("con0", "fd:0"),
            device("con1", "null"),
            device("con2", "null"),
            device("con3", "null"),
            device("ssl4", "null"),
            device("mem", "65536K"),
        ];
        assert_eq!(
            together(&devices),
            "ubd0=/disk ubd2=/disk con0=fd:0 con1-3=null ssl4=null mem=65536K"
        );
    }

    #[test]
    fn only_devices_with_settings_are_listed() {
        let found = devices(|command| match command {
            "config ubd1" => Said::Text("/cow,/disk".into()),
            "config ubd2" => Said::Text(String::new()),
            "config con0" => Said::Text("none".into()),
            _ => Said::Refused,
        });
        assert_eq!(found, [device("ubd1", "/cow,/disk")]);
    }

    #[test]
    fn a_guest_that_falls_silent_is_asked_no_more() {
        let mut asked = 0;
        let found = devices(|command| {
            asked += 1;
            match command {
                "config ubd0" => Said::Text("/disk".into()),
                _ => Said::Nothing,
            }
        });
        assert_eq!((found, asked), (vec![device("ubd0", "/disk")], 2));
    }

    #[test]
    fn the_table_is_lined_up_and_safe() {
        let entries = [
            Entry {
                umid: "lab1".into(),
                socket: "/x".into(),
                pid: Some(7),
                state: State::Alive,
                version: Some("Linux (none) 6.1.0 #1 x86_64".into()),
                uptime_seconds: Some(93_784),
                devices: vec![device("ubd0", "a\x1b[2J\nb")],
            },
            Entry {
                umid: "a-longer-name".into(),
                socket: "/y".into(),
                pid: None,
                state: State::Stale,
                version: None,
                uptime_seconds: None,
                devices: vec![],
            },
        ];
        assert_eq!(
            table(&entries),
            "UMID           PID  STATE  KERNEL  UPTIME       DEVICES\n\
             lab1           7    alive  6.1.0   1d 02:03:04  ubd0=a\\u{1b}[2J\\nb\n\
             a-longer-name  -    stale  -       -\n"
        );
    }
}
