//! Progress on a terminal.

use std::{
    io::{self, IsTerminal as _},
    sync::OnceLock,
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
    bar: OnceLock<ProgressBar>,
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
            bar: OnceLock::new(),
            doing: "merging",
        }
    }

    /// Begins again with another step over the same bytes.
    pub(crate) fn step(&mut self, doing: &'static str) {
        self.doing = doing;
        if let Some(bar) = self.bar.get() {
            bar.set_message(doing);
            bar.reset();
        }
    }

    /// Everything before this byte of the image is done, or nearly.
    pub(crate) fn at(&self, byte: u64) {
        if self.wanted && self.started.elapsed() >= PATIENCE {
            let bar = self.bar.get_or_init(|| self.new_bar());
            bar.set_position(bar.position().max(byte));
        }
    }

    fn new_bar(&self) -> ProgressBar {
        let bar = ProgressBar::with_draw_target(Some(self.total), ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
            bar.set_style(style);
        }
        bar.set_message(self.doing);
        bar
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = self.bar.get() {
            bar.finish_and_clear();
        }
    }
}
