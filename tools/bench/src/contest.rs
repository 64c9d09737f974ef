//! Runs contenders in turn.

use std::time::Duration;

use uml_core::error::chain;

use crate::{
    error::Error,
    report::{Figures, Series},
};

/// One of those who are measured in a row.
pub struct Contender<'a> {
    /// Its name in the table.
    pub who: &'static str,
    /// One run, with its preparation (not part of the figures) and its figures.
    ///
    /// The argument is true in the round that isn't counted, where results may be checked.
    pub run: Box<dyn FnMut(bool) -> Result<Figures, Error> + 'a>,
}

impl<'a> Contender<'a> {
    /// A contender.
    pub fn new(who: &'static str, run: impl FnMut(bool) -> Result<Figures, Error> + 'a) -> Self {
        Self {
            who,
            run: Box::new(run),
        }
    }
}

/// Runs every contender once uncounted, then `runs` times in turn.
///
/// A contender that fails is out, with its words in [`Series::failure`]; the others go on.
#[must_use]
pub fn interleave(mut contenders: Vec<Contender<'_>>, runs: usize) -> Vec<Series> {
    let mut series: Vec<Series> = contenders
        .iter()
        .map(|contender| Series::new(contender.who))
        .collect();
    for round in 0..=runs {
        for (contender, series) in contenders.iter_mut().zip(&mut series) {
            if series.failure.is_some() {
                continue;
            }
            match (contender.run)(round == 0) {
                Ok(figures) if round > 0 => series.runs.push(figures),
                Ok(_) => {}
                Err(error) => series.failure = Some(chain(&error)),
            }
        }
    }
    series
}

/// Seconds as a figure.
#[must_use]
pub fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}
