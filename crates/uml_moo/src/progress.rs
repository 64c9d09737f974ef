//! Progress on a terminal.

use std::{
    io::{self, IsTerminal as _},
    sync::Once,
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
    started: Instant,
    shown: Once,
    /// Counts from the start, so that it knows the speed when it is shown.
    bar: Option<ProgressBar>,
}

impl Progress {
    /// `total`: the image's bytes.
    pub(crate) fn new(total: u64, talk: Talk) -> Self {
        let wanted = talk == Talk::Notes && io::stderr().is_terminal();
        let bar = wanted.then(|| {
            let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::hidden());
            if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
                bar.set_style(style);
            }
            bar.set_message("merging");
            bar
        });
        Self {
            started: Instant::now(),
            shown: Once::new(),
            bar,
        }
    }

    /// Begins again with another step over the same bytes.
    pub(crate) fn step(&self, doing: &'static str) {
        if let Some(bar) = &self.bar {
            bar.set_message(doing);
            bar.reset();
        }
    }

    /// Everything before this byte of the image is done, or nearly.
    pub(crate) fn at(&self, byte: u64) {
        let Some(bar) = &self.bar else { return };
        if self.started.elapsed() >= PATIENCE {
            self.shown
                .call_once(|| bar.set_draw_target(ProgressDrawTarget::stderr()));
        }
        bar.set_position(bar.position().max(byte));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
