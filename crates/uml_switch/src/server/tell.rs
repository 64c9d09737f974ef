//! What the log says of frames.

use std::time::Duration;

use uml_core::frame::{Addresses, MacAddr};

use super::Server;
use crate::{
    exchange::Watcher,
    fabric::{Learned, PortId},
    log::{Level, Log},
};

impl Server {
    /// Logs what became of the frames.
    pub(super) fn tell_counts(&mut self) {
        let total = self.exchange.total();
        self.log.say(format_args!(
            "{} ports, {} addresses, frames: {total}, {} waiting",
            self.exchange.fabric().ports().len(),
            self.exchange.fabric().table().len(),
            self.exchange.waiting(),
        ));
        for (port, link) in self.links.iter() {
            self.log.say(format_args!(
                "port {} ({}): {}",
                link.number,
                link.name,
                self.exchange.tally(port)
            ));
        }
    }
}

/// Writes what the exchange tells to the log.
pub(super) struct Watch<'a> {
    pub(super) log: &'a mut Log,
    pub(super) shown: &'a [u32],
    pub(super) now: Duration,
}

impl Watch<'_> {
    fn shown(&self, port: PortId) -> u32 {
        self.shown.get(port.index()).copied().unwrap_or_default()
    }
}

impl Watcher for Watch<'_> {
    fn learned(&mut self, port: PortId, mac: MacAddr, news: Learned) {
        if !self.log.shows(Level::Normal) {
            return;
        }
        let new = self.shown(port);
        if let Learned::Moved(old) = news {
            let old = self.shown(old);
            self.log.address(
                self.now,
                format_args!(" Addr: {mac} New port {new} old port {old}"),
            );
        } else {
            self.log
                .address(self.now, format_args!(" Addr: {mac} New port {new}"));
        }
    }

    fn flooded(&mut self, port: PortId, frame: &[u8]) {
        if !self.log.shows(Level::Frames) {
            return;
        }
        match Addresses::of(frame) {
            Some(Addresses { destination, .. }) if !destination.is_group() => {
                let number = self.shown(port);
                self.log.frame(
                    self.now,
                    format_args!("unknown Addr: {destination} from port {number}"),
                );
            }
            _ => {}
        }
    }
}
