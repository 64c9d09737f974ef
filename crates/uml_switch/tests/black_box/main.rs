//! The switch from outside: clients written from the protocol's description, hostile ones included.
#![expect(clippy::unwrap_used, reason = "tests")]

mod ends;
mod faults;
mod flow;
mod hostile;
mod lifecycle;
mod links;
mod names;
mod options;
mod start;
mod tap;

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicU8, Ordering},
};

use tempfile::TempDir;
use testkit::switch::{BROADCAST, Plug, Switch, Version, frame, station};

const BINARY: &str = env!("CARGO_BIN_EXE_uml_switch");

/// A folder with a switch in it.
struct Lab {
    // Stopped before its folder goes.
    switch: Switch,
    dir: TempDir,
}

impl Lab {
    #[track_caller]
    fn new(args: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let args: Vec<_> = ["-unix", "ctl"].iter().chain(args).copied().collect();
        let switch = Switch::start(Path::new(BINARY), dir.path(), &args);
        Self { switch, dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn control(&self) -> PathBuf {
        self.path("ctl")
    }

    #[track_caller]
    fn plug(&self) -> Plug {
        Plug::new(&self.control(), Version::V3)
    }

    /// Two new guests reach each other: the switch is as well as ever.
    #[track_caller]
    fn works(&self) {
        static NEXT: AtomicU8 = AtomicU8::new(0);
        // Others each time: a child of another test may keep the last ones plugged in for a moment.
        let first = 128 | NEXT.fetch_add(2, Ordering::Relaxed);
        let second = first | 1;
        let (one, other) = (self.plug(), self.plug());
        say_hello(&one, first);
        say_hello(&other, second);
        exchange(&one, first, &other, second, b"still here");
        exchange(&other, second, &one, first, b"and back");
    }
}

/// Tells the switch where that station is, by a frame that nobody gets.
#[track_caller]
fn say_hello(guest: &Plug, number: u8) {
    guest.send(&frame(station(number), station(number), b""));
}

/// A frame from one station to another, of which others' frames are skipped.
#[track_caller]
fn exchange(from: &Plug, source: u8, to: &Plug, destination: u8, payload: &[u8]) {
    let sent = frame(station(destination), station(source), payload);
    from.send(&sent);
    while to.recv() != sent {}
}

/// A frame for all.
fn broadcast(source: u8, payload: &[u8]) -> Vec<u8> {
    frame(BROADCAST, station(source), payload)
}
