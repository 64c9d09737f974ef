//! Figures that are kept: printed, written to a file, read again for the report.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path};

use serde::{Deserialize, Serialize};
use uml_core::error::IoError;

use crate::error::Error;

/// What was measured on one machine.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Record {
    /// What the machine is, and the versions of what was measured: name and value.
    pub machine: BTreeMap<String, String>,
    /// The rows.
    pub rows: Vec<Row>,
}

/// One row.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Row {
    /// Its short name.
    pub name: String,
    /// What was measured, in words.
    pub title: String,
    /// Those who were measured.
    pub contenders: Vec<Contender>,
    /// What became of the targets.
    pub verdicts: Vec<Verdict>,
}

/// The figures of one of those who were measured.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Contender {
    /// Its name.
    pub who: String,
    /// Its figures.
    pub figures: Vec<Figure>,
    /// Why there are none, or no more.
    pub failure: Option<String>,
}

/// One kind of figure over all runs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Figure {
    /// What it is.
    pub name: String,
    /// Its unit; empty if it has none.
    pub unit: String,
    /// Decimals in tables.
    pub digits: usize,
    /// The values of all runs, in ascending order. There is one at least.
    pub values: Vec<f64>,
}

/// What became of a target.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Verdict {
    /// The target in words.
    pub target: String,
    /// The ratio, or the figure itself.
    pub reached: Option<f64>,
    /// Whether that is enough; none without figures.
    pub ok: Option<bool>,
}

impl Record {
    /// Reads a file that [`Record::add_to`] wrote.
    ///
    /// # Errors
    /// It can't be read.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = fs::read_to_string(path).map_err(IoError::at("reading", path))?;
        Ok(serde_json::from_str(&text)?)
    }

    /// Writes the figures to a file. Other rows that it holds stay there.
    ///
    /// # Errors
    /// The file can't be written, or holds something else.
    pub fn add_to(&self, path: &Path) -> Result<(), Error> {
        let exists = fs::exists(path).map_err(IoError::at("looking for", path))?;
        let mut all = if exists {
            Self::read(path)?
        } else {
            Self::default()
        };
        all.machine.clone_from(&self.machine);
        for row in &self.rows {
            match all.rows.iter_mut().find(|old| old.name == row.name) {
                Some(old) => old.clone_from(row),
                None => all.rows.push(row.clone()),
            }
        }
        let text = serde_json::to_string_pretty(&all)? + "\n";
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir).map_err(IoError::at("creating", dir))?;
        }
        fs::write(path, text).map_err(IoError::at("writing", path))?;
        Ok(())
    }
}

impl Row {
    /// The median of a contender's figure.
    #[must_use]
    pub fn median(&self, who: &str, figure: &str) -> Option<f64> {
        let contender = self.contenders.iter().find(|found| found.who == who)?;
        let figure = contender
            .figures
            .iter()
            .find(|found| found.name == figure)?;
        Some(figure.median())
    }
}

impl Figure {
    /// The middle value, or the mean of the two in the middle.
    #[must_use]
    pub fn median(&self) -> f64 {
        let at = |index: usize| self.values.get(index).copied().unwrap_or(f64::NAN);
        let middle = self.values.len() / 2;
        match self.values.len() % 2 {
            1 => at(middle),
            _ => f64::midpoint(at(middle.wrapping_sub(1)), at(middle)),
        }
    }

    /// The median with its unit.
    #[must_use]
    pub fn text(&self) -> String {
        let Self { unit, digits, .. } = self;
        let space = if unit.is_empty() { "" } else { " " };
        format!("{:.digits$}{space}{unit}", self.median())
    }

    /// The least and the greatest value.
    #[must_use]
    pub fn range(&self) -> String {
        let digits = self.digits;
        match self.values.as_slice() {
            [least, .., most] => format!("{least:.digits$}–{most:.digits$}"),
            [only] => format!("{only:.digits$}"),
            [] => String::new(),
        }
    }
}

impl Contender {
    /// The line of the printed table.
    #[must_use]
    pub fn line(&self) -> String {
        let mut text = format!("  {:<12}", self.who);
        for figure in &self.figures {
            // Writing to a String can't fail.
            let _ = write!(
                text,
                " {} {} ({})",
                figure.name,
                figure.text(),
                figure.range()
            );
        }
        if let Some(failure) = &self.failure {
            text += " failed: ";
            text += failure;
        }
        text
    }
}

impl Verdict {
    /// `ok`, `missed`, or that there is nothing to tell.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self.ok {
            Some(true) => "ok",
            Some(false) => "missed",
            None => "no figure",
        }
    }

    /// The line of the printed table.
    #[must_use]
    pub fn line(&self) -> String {
        let (target, word) = (&self.target, self.word());
        match self.reached {
            Some(reached) => format!("  {target}: {reached:.3} {word}"),
            None => format!("  {target}: {word}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(values: &[f64]) -> Figure {
        Figure {
            name: "wall".into(),
            unit: "s".into(),
            digits: 1,
            values: values.to_vec(),
        }
    }

    #[test]
    fn the_median_is_the_middle_value_or_the_mean_of_two() {
        assert_eq!(figure(&[1.0, 2.0, 9.0]).text(), "2.0 s");
        assert_eq!(figure(&[1.0, 2.0, 3.0, 9.0]).text(), "2.5 s");
        assert_eq!(figure(&[1.0, 2.0, 9.0]).range(), "1.0–9.0");
    }

    #[test]
    fn rows_of_another_run_stay_in_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new").join("figures.json");
        let record = |name: &str, title: &str| Record {
            rows: vec![Row {
                name: name.into(),
                title: title.into(),
                contenders: Vec::new(),
                verdicts: Vec::new(),
            }],
            ..Record::default()
        };
        record("a", "first").add_to(&path).unwrap();
        record("b", "second").add_to(&path).unwrap();
        record("a", "third").add_to(&path).unwrap();
        let titles: Vec<String> = Record::read(&path)
            .unwrap()
            .rows
            .into_iter()
            .map(|row| row.title)
            .collect();
        assert_eq!(titles, ["third", "second"]);
    }
}
