//! Rows, medians, targets.

use std::{collections::BTreeMap, fmt::Write as _, fs::File, io::Write as _, path::Path};

use serde::Serialize;
use uml_core::{console, error::IoError};

use crate::error::Error;

/// A kind of figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Metric {
    /// Its name in tables and files.
    pub name: &'static str,
    /// Its unit; empty if it has none.
    pub unit: &'static str,
    /// Decimals in tables.
    pub digits: usize,
}

impl Metric {
    /// Declares a kind of figure.
    #[must_use]
    pub const fn new(name: &'static str, unit: &'static str, digits: usize) -> Self {
        Self { name, unit, digits }
    }
}

/// The figures of one run.
pub type Figures = Vec<(Metric, f64)>;

/// All runs of one contender in one row.
#[derive(Debug, Clone, Serialize)]
pub struct Series {
    /// The contender.
    pub who: String,
    /// The figures of each run.
    #[serde(serialize_with = "by_metric")]
    pub runs: Vec<Figures>,
    /// Why there are none, or no more.
    pub failure: Option<String>,
}

impl Series {
    /// A contender that has not run yet.
    #[must_use]
    pub fn new(who: &str) -> Self {
        Self {
            who: who.to_owned(),
            runs: Vec::new(),
            failure: None,
        }
    }

    /// The kinds of figures there are, in the order of the first run.
    #[must_use]
    pub fn metrics(&self) -> Vec<Metric> {
        let first = self.runs.first();
        first.map_or_else(Vec::new, |run| {
            run.iter().map(|(metric, _)| *metric).collect()
        })
    }

    /// All values of a kind of figure, sorted.
    #[must_use]
    pub fn values(&self, metric: Metric) -> Vec<f64> {
        let all = self.runs.iter().flatten();
        let mut values: Vec<f64> = all
            .filter(|(found, _)| *found == metric)
            .map(|(_, value)| *value)
            .collect();
        values.sort_by(f64::total_cmp);
        values
    }

    /// The median of a kind of figure.
    #[must_use]
    pub fn median(&self, metric: Metric) -> Option<f64> {
        let values = self.values(metric);
        let upper = *values.get(values.len() / 2)?;
        if values.len() % 2 == 1 {
            return Some(upper);
        }
        let lower = *values.get(values.len() / 2 - 1)?;
        Some(f64::midpoint(lower, upper))
    }

    fn print(&self) -> std::io::Result<()> {
        let mut text = format!("  {:<12}", self.who);
        for metric in self.metrics() {
            let values = self.values(metric);
            let (Some(median), Some(least), Some(most)) =
                (self.median(metric), values.first(), values.last())
            else {
                continue;
            };
            let Metric { name, unit, digits } = metric;
            // Writing to a String can't fail.
            let _ = write!(
                text,
                " {name} {median:.digits$}{space}{unit} ({least:.digits$}–{most:.digits$})",
                space = if unit.is_empty() { "" } else { " " },
            );
        }
        if let Some(failure) = &self.failure {
            text += " failed: ";
            text += failure;
        }
        console::line(text)
    }
}

/// What ours must reach.
#[derive(Debug, Clone, Copy, Serialize)]
pub enum Rule {
    /// The other's time divided by ours is at least this.
    Faster(f64),
    /// Ours divided by the other's is at most this.
    AtMost(f64),
    /// Ours divided by the other's is at least this.
    AtLeast(f64),
    /// Ours itself is at most this.
    Within(f64),
    /// Ours itself is at least this.
    Reach(f64),
}

/// One target of a row.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Target {
    /// The kind of figure.
    pub metric: Metric,
    /// What ours must reach.
    pub rule: Rule,
    /// Against whom (nobody: [`Rule::Within`], [`Rule::Reach`]).
    pub against: &'static str,
    /// Whose figure: [`OURS`], or ours in another mode.
    pub subject: &'static str,
}

impl Target {
    /// A target against another contender.
    #[must_use]
    pub const fn new(metric: Metric, rule: Rule, against: &'static str) -> Self {
        Self {
            metric,
            rule,
            against,
            subject: OURS,
        }
    }

    /// A target that ours has to reach without comparison.
    #[must_use]
    pub const fn within(metric: Metric, most: f64) -> Self {
        Self::new(metric, Rule::Within(most), "")
    }

    /// The same target for ours in another mode.
    #[must_use]
    pub const fn of(mut self, subject: &'static str) -> Self {
        self.subject = subject;
        self
    }

    /// The target in words: `seconds ≥ 12 × 2007`.
    #[must_use]
    pub fn text(&self) -> String {
        let Metric { name, unit, .. } = self.metric;
        let Self {
            against, subject, ..
        } = self;
        let text = match self.rule {
            Rule::Faster(times) => format!("≥ {times} × as fast as {against}"),
            Rule::AtMost(times) => format!("{name} ≤ {times} × {against}"),
            Rule::AtLeast(times) => format!("{name} ≥ {times} × {against}"),
            Rule::Within(most) => format!("{name} ≤ {most} {unit}"),
            Rule::Reach(least) => format!("{name} ≥ {least} {unit}"),
        };
        if *subject == OURS {
            text.trim_end().to_owned()
        } else {
            format!("{subject}: {}", text.trim_end())
        }
    }

    fn verdict(&self, series: &[Series]) -> Verdict {
        let median = |who: &str| {
            let found = series.iter().find(|series| series.who == who);
            found.and_then(|series| series.median(self.metric))
        };
        let reached = median(self.subject).and_then(|ours| match self.rule {
            Rule::Faster(_) => Some(median(self.against)? / ours),
            Rule::AtMost(_) | Rule::AtLeast(_) => Some(ours / median(self.against)?),
            Rule::Within(_) | Rule::Reach(_) => Some(ours),
        });
        Verdict {
            target: self.text(),
            ok: reached.map(|reached| match self.rule {
                Rule::Faster(least) | Rule::AtLeast(least) | Rule::Reach(least) => reached >= least,
                Rule::AtMost(most) | Rule::Within(most) => reached <= most,
            }),
            reached,
        }
    }
}

/// What became of a target.
#[derive(Debug, Clone, Serialize)]
pub struct Verdict {
    /// The target in words.
    pub target: String,
    /// The ratio, or ours.
    pub reached: Option<f64>,
    /// Whether it was reached; none without figures.
    pub ok: Option<bool>,
}

/// The name of ours in every table.
pub const OURS: &str = "ours";

/// What is measured in a row, before it is.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The row's short name, for `--only`.
    pub name: String,
    /// What is measured, in words.
    pub title: String,
    /// What ours must reach.
    pub targets: Vec<Target>,
}

/// One row with its figures.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// The row's short name.
    pub name: String,
    /// What was measured, in words.
    pub title: String,
    /// All contenders.
    pub series: Vec<Series>,
    /// What became of the targets.
    pub verdicts: Vec<Verdict>,
}

/// Everything that was measured in this run.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// The rows, in the order in which they ran.
    pub rows: Vec<Row>,
}

impl Report {
    /// Prints a row that `--list` asked for.
    ///
    /// # Errors
    /// Standard output can't be written.
    pub fn list(plan: &Plan) -> Result<(), Error> {
        say(format!("{:<24} {}", plan.name, plan.title))?;
        for target in &plan.targets {
            say(format!("{:<24}   {}", "", target.text()))?;
        }
        Ok(())
    }

    /// Prints a row and keeps it.
    ///
    /// # Errors
    /// Standard output can't be written.
    pub fn add(&mut self, plan: Plan, series: Vec<Series>) -> Result<(), Error> {
        let verdicts: Vec<Verdict> = plan
            .targets
            .iter()
            .map(|target| target.verdict(&series))
            .collect();
        say(format!("{}: {}", plan.name, plan.title))?;
        for series in &series {
            series
                .print()
                .map_err(IoError::at("writing to", "stdout"))?;
        }
        for verdict in &verdicts {
            say(verdict.line())?;
        }
        say("")?;
        self.rows.push(Row {
            name: plan.name,
            title: plan.title,
            series,
            verdicts,
        });
        Ok(())
    }

    /// Prints how many targets were reached, and which were missed.
    ///
    /// # Errors
    /// Standard output can't be written.
    pub fn summary(&self) -> Result<(), Error> {
        let all = || {
            let rows = self.rows.iter();
            rows.flat_map(|row| row.verdicts.iter().map(move |verdict| (row, verdict)))
        };
        let reached = all()
            .filter(|(_, verdict)| verdict.ok == Some(true))
            .count();
        if all().next().is_none() {
            return Ok(());
        }
        say(format!("{reached} of {} targets reached", all().count()))?;
        for (row, verdict) in all().filter(|(_, verdict)| verdict.ok != Some(true)) {
            say(format!("  {}: {}", row.name, verdict.line().trim_start()))?;
        }
        Ok(())
    }

    /// Writes all figures as JSON.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn write_json(&self, path: &Path) -> Result<(), Error> {
        let mut file = File::create(path).map_err(IoError::at("creating", path))?;
        serde_json::to_writer_pretty(&mut file, self)?;
        file.write_all(b"\n")
            .map_err(IoError::at("writing", path))?;
        Ok(())
    }
}

impl Verdict {
    fn line(&self) -> String {
        let word = match self.ok {
            Some(true) => "ok",
            Some(false) => "missed",
            None => "no figure",
        };
        match self.reached {
            Some(reached) => format!("  {}: {reached:.3} {word}", self.target),
            None => format!("  {}: {word}", self.target),
        }
    }
}

fn say(text: impl std::fmt::Display) -> Result<(), Error> {
    Ok(console::line(text).map_err(IoError::at("writing to", "stdout"))?)
}

fn by_metric<S: serde::Serializer>(runs: &[Figures], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(runs.iter().map(|run| {
        let run = run.iter();
        run.map(|(metric, value)| (metric.name, *value))
            .collect::<BTreeMap<_, _>>()
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: Metric = Metric::new("wall", "s", 3);

    fn series(who: &str, values: &[f64]) -> Series {
        Series {
            runs: values.iter().map(|value| vec![(TIME, *value)]).collect(),
            ..Series::new(who)
        }
    }

    #[test]
    fn the_median_is_the_middle_value_or_the_mean_of_two() {
        assert_eq!(series("a", &[3.0, 1.0, 2.0]).median(TIME), Some(2.0));
        assert_eq!(series("a", &[4.0, 1.0, 2.0, 3.0]).median(TIME), Some(2.5));
        assert_eq!(series("a", &[]).median(TIME), None);
    }

    #[test]
    fn a_target_compares_medians() {
        let both = [series(OURS, &[1.0, 9.0, 2.0]), series("cp", &[10.0])];
        let faster = Target::new(TIME, Rule::Faster(5.0), "cp").verdict(&both);
        assert_eq!((faster.reached, faster.ok), (Some(5.0), Some(true)));
        let at_most = Target::new(TIME, Rule::AtMost(0.1), "cp").verdict(&both);
        assert_eq!((at_most.reached, at_most.ok), (Some(0.2), Some(false)));
        let within = Target::within(TIME, 2.0).verdict(&both);
        assert_eq!((within.reached, within.ok), (Some(2.0), Some(true)));
        let nobody = Target::new(TIME, Rule::AtMost(1.0), "qemu").verdict(&both);
        assert_eq!((nobody.reached, nobody.ok), (None, None));
    }
}
