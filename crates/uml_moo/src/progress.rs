//! Progress on a terminal.

use std::{
    io::{self, IsTerminal as _},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::merge::Talk;

/// A merge that is over by then shows nothing.
const PATIENCE: Duration = Duration::from_millis(500);
const TEMPLATE: &str = "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}";

/// A bar on standard error, if that is a terminal, half a second after the start.
#[derive(Debug)]
pub(crate) struct Progress {
    total: u64,
    started: Instant,
    wanted: bool,
    bar: Option<ProgressBar>,
    doing: &'static str,
}

impl Progress {
    /// `total`: the image's bytes.
    pub(crate) fn new(total: u64, talk: Talk) -> Self {
        let wanted = talk == Talk::Notes && io::stderr().is_terminal();
        Self {
            total,
            started: Instant::now(),
            wanted,
            bar: None,
            doing: "merging",
        }
    }

    /// Begins again with another step over the same bytes.
    pub(crate) fn step(&mut self, doing: &'static str) {
        self.doing = doing;
        if let Some(bar) = &self.bar {
            bar.set_message(doing);
            bar.reset();
        }
    }

    /// Everything before this byte of the image is done.
    pub(crate) fn at(&mut self, byte: u64) {
        if !self.wanted {
            return;
        }
        if let Some(bar) = &self.bar {
            bar.set_position(byte);
        } else if self.started.elapsed() >= PATIENCE {
            let target = ProgressDrawTarget::stderr();
            let bar = ProgressBar::with_draw_target(Some(self.total), target);
            if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
                bar.set_style(style);
            }
            bar.set_message(self.doing);
            bar.set_position(byte);
            self.bar = Some(bar);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
