//! `--notify`: prints what guests tell of their own accord.

use std::{
    error::Error,
    ffi::OsStr,
    io,
    os::unix::ffi::OsStrExt as _,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use jiff::Zoned;
use serde::Serialize;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use uml_core::{IoError, console, error::chain, wire::mconsole::Event};

use crate::{
    TOOL,
    cli::Format,
    guests::Places,
    listen::{Heard, Listener},
    show::{self, visible_line},
};

/// How often it is looked whether a signal has said to end, and which commands have ended.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How many commands run at a time; the next one waits.
const MAX_COMMANDS: usize = 64;

/// A notification as a line of JSON.
#[derive(Debug, Serialize)]
struct Line<'a> {
    time: &'a str,
    umid: Option<&'a str>,
    pid: Option<i32>,
    event: &'a str,
    text: &'a str,
}

/// Prints notifications until a signal (SIGINT, SIGTERM, SIGHUP) says to end.
///
/// # Errors
/// What making the socket, receiving, or writing to standard output answered.
pub fn run(
    socket: &Path,
    exec: Option<&OsStr>,
    format: Format,
    places: Places,
) -> Result<u8, Box<dyn Error>> {
    let ended = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&ended))?;
    }
    let mut listener = Listener::bind(socket, places)?;
    let mut commands: Vec<Child> = Vec::new();
    while !ended.load(Ordering::Relaxed) {
        let next = listener.next(LOOK_EVERY)?;
        commands.retain_mut(is_running);
        let heard = match next {
            None => continue,
            Some(Ok(heard)) => heard,
            Some(Err(error)) => {
                console::note(format_args!("{TOOL}: no notification: {}", chain(&error)));
                continue;
            }
        };
        let time = Zoned::now().strftime("%Y-%m-%dT%H:%M:%S%:z").to_string();
        print(&heard, &time, format)?;
        if let Some(exec) = exec {
            while commands.len() >= MAX_COMMANDS {
                if ended.load(Ordering::Relaxed) {
                    return Ok(0);
                }
                thread::sleep(LOOK_EVERY);
                commands.retain_mut(is_running);
            }
            match command(exec, &heard, &time).spawn() {
                Ok(child) => commands.push(child),
                Err(error) => {
                    let error = IoError::at("running", exec)(error);
                    console::report(TOOL, &error);
                }
            }
        }
    }
    Ok(0)
}

/// Whether a command still runs; one that has ended leaves no zombie.
fn is_running(child: &mut Child) -> bool {
    matches!(child.try_wait(), Ok(None))
}

/// The event's name: `boot`, `panic`, `hang`, `message`, or its number.
fn name(event: Event) -> String {
    match event {
        Event::Boot => "boot".to_owned(),
        Event::Panic => "panic".to_owned(),
        Event::Hang => "hang".to_owned(),
        Event::Message => "message".to_owned(),
        Event::Other(number) => number.to_string(),
    }
}

fn print(heard: &Heard, time: &str, format: Format) -> io::Result<()> {
    let event = name(heard.event);
    match format {
        Format::Json => {
            let line = Line {
                time,
                umid: heard.umid.as_deref(),
                pid: heard.pid,
                event: &event,
                text: &String::from_utf8_lossy(&heard.text),
            };
            let line = serde_json::to_string(&line).map_err(io::Error::other)?;
            show::output(format!("{line}\n").as_bytes())
        }
        Format::Text => {
            let umid = heard.umid.as_deref().unwrap_or("-");
            // One line a notification, whatever its text or its sender's name holds.
            let text = visible_line(heard.text.trim_ascii_end());
            let line = format!("{time} {} {event} {text}", visible_line(umid.as_bytes()));
            show::output(format!("{}\n", line.trim_end()).as_bytes())
        }
    }
}

/// The command with the notification in its environment: what a guest sends is never part of a
/// command line.
fn command(exec: &OsStr, heard: &Heard, time: &str) -> Command {
    let mut command = Command::new("/bin/sh");
    command
        .arg("-c")
        .arg(exec)
        .env("UML_TIME", time)
        .env("UML_EVENT", name(heard.event))
        .env("UML_TEXT", OsStr::from_bytes(&heard.text))
        .env("UML_UMID", heard.umid.as_deref().unwrap_or_default())
        .env(
            "UML_PID",
            heard.pid.map(|pid| pid.to_string()).unwrap_or_default(),
        )
        .stdin(Stdio::null());
    command
}
