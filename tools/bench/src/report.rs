//! Figures as they are measured, and the targets beside them.

use uml_core::{console, error::IoError};

use crate::{
    error::Error,
    record::{Contender, Figure, Record, Row, Verdict},
};

/// A kind of figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
#[derive(Debug, Clone)]
pub struct Series {
    /// The contender.
    pub who: &'static str,
    /// The figures of each run.
    pub runs: Vec<Figures>,
    /// Why there are none, or no more.
    pub failure: Option<String>,
}

impl Series {
    /// A contender that has not run yet.
    #[must_use]
    pub const fn new(who: &'static str) -> Self {
        Self {
            who,
            runs: Vec::new(),
            failure: None,
        }
    }

    fn record(self) -> Contender {
        let first = self.runs.first().cloned().unwrap_or_default();
        let figures = first.iter().filter_map(|(metric, _)| {
            let all = self.runs.iter().flatten();
            // Nothing came through: a cost for each frame is no number then.
            let all = all.filter(|(found, value)| found == metric && value.is_finite());
            let mut values: Vec<f64> = all.map(|(_, value)| *value).collect();
            values.sort_by(f64::total_cmp);
            (!values.is_empty()).then(|| Figure {
                name: metric.name.to_owned(),
                unit: metric.unit.to_owned(),
                digits: metric.digits,
                values,
            })
        });
        Contender {
            who: self.who.to_owned(),
            figures: figures.collect(),
            failure: self.failure,
        }
    }
}

/// What ours must reach.
#[derive(Debug, Clone, Copy)]
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
#[derive(Debug, Clone, Copy)]
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

    /// The target in words: `≥ 12 × as fast as 2007`.
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

    fn verdict(&self, row: &Row) -> Verdict {
        let median = |who| row.median(who, self.metric.name);
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

impl Plan {
    /// A row of that name, with its title and targets.
    #[must_use]
    pub fn new(name: &str, title: &str, targets: &[Target]) -> Self {
        Self {
            name: name.to_owned(),
            title: title.to_owned(),
            targets: targets.to_vec(),
        }
    }
}

/// Everything that is measured in this run.
#[derive(Debug, Default)]
pub struct Report {
    /// The rows, in the order in which they ran.
    pub record: Record,
}

impl Report {
    /// Prints a row that `--list` asked for.
    ///
    /// # Errors
    /// Standard output can't be written.
    pub fn list(plan: &Plan) -> Result<(), Error> {
        say(format!("{:<28} {}", plan.name, plan.title))?;
        for target in &plan.targets {
            say(format!("{:<28}   {}", "", target.text()))?;
        }
        Ok(())
    }

    /// Prints a row and keeps it.
    ///
    /// # Errors
    /// Standard output can't be written.
    pub fn add(&mut self, plan: Plan, series: Vec<Series>) -> Result<(), Error> {
        let row = row(plan, series);
        say(format!("{}: {}", row.name, row.title))?;
        for contender in &row.contenders {
            say(contender.line())?;
        }
        for verdict in &row.verdicts {
            say(verdict.line())?;
        }
        say("")?;
        self.record.rows.push(row);
        Ok(())
    }

    /// Prints how many targets were reached, and which were missed.
    ///
    /// # Errors
    /// Standard output can't be written.
    pub fn summary(&self) -> Result<(), Error> {
        let all = || {
            let rows = self.record.rows.iter();
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
}

fn row(plan: Plan, series: Vec<Series>) -> Row {
    let mut row = Row {
        name: plan.name,
        title: plan.title,
        contenders: series.into_iter().map(Series::record).collect(),
        verdicts: Vec::new(),
    };
    let verdicts = plan.targets.iter().map(|target| target.verdict(&row));
    row.verdicts = verdicts.collect();
    row
}

fn say(text: impl std::fmt::Display) -> Result<(), Error> {
    Ok(console::line(text).map_err(IoError::at("writing to", "stdout"))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: Metric = Metric::new("wall", "s", 3);

    fn series(who: &'static str, values: &[f64]) -> Series {
        Series {
            runs: values.iter().map(|value| vec![(TIME, *value)]).collect(),
            ..Series::new(who)
        }
    }

    fn verdict(target: Target) -> (Option<f64>, Option<bool>) {
        let plan = Plan {
            name: String::new(),
            title: String::new(),
            targets: vec![target],
        };
        let both = vec![
            series(OURS, &[1.0, 9.0, 2.0]),
            series("cp", &[10.0, f64::INFINITY]),
        ];
        let verdict = row(plan, both).verdicts.remove(0);
        (verdict.reached, verdict.ok)
    }

    #[test]
    fn a_target_compares_medians() {
        let faster = Target::new(TIME, Rule::Faster(5.0), "cp");
        assert_eq!(verdict(faster), (Some(5.0), Some(true)));
        let at_most = Target::new(TIME, Rule::AtMost(0.1), "cp");
        assert_eq!(verdict(at_most), (Some(0.2), Some(false)));
        assert_eq!(verdict(Target::within(TIME, 2.0)), (Some(2.0), Some(true)));
        let nobody = Target::new(TIME, Rule::AtMost(1.0), "qemu");
        assert_eq!(verdict(nobody), (None, None));
    }
}
