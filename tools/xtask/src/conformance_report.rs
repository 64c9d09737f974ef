//! What ran on both, what was equal, and what is known to differ, with the reasons.

use std::{collections::BTreeMap, error::Error, fs, io, path::Path};

use conformance::differences;
use testkit::bins;
use uml_core::console;

/// The tools that have a reference to be compared with.
const TOOLS: [&str; 6] = [
    "tunctl",
    "uml_mconsole",
    "uml_mkcow",
    "uml_moo",
    "uml_net",
    "uml_switch",
];

const START: &str = "<!-- differences -->\n";
const END: &str = "<!-- end of differences -->";

/// Prints the report.
///
/// # Errors
/// With `require_all`: a tool without scenarios, or a difference that no scenario asserted.
pub(crate) fn run(require_all: bool) -> Result<(), Box<dyn Error>> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut missing = Vec::new();
    console::line("tool           run  equal  known differences")?;
    for tool in TOOLS {
        let outcomes = outcomes(tool)?;
        let equal = outcomes
            .iter()
            .filter(|(outcome, _)| outcome == "equal")
            .count();
        let differing = outcomes.len() - equal;
        console::line(format_args!(
            "{tool:12} {:5} {equal:6} {differing:6}",
            outcomes.len()
        ))?;
        if outcomes.is_empty() {
            missing.push(format!("{tool} has no scenario"));
        }
        for (outcome, _) in outcomes {
            *seen.entry(outcome).or_default() += 1;
        }
    }
    console::line("")?;
    for known in differences::all() {
        let count = seen.get(&known.id).copied().unwrap_or_default();
        console::line(format_args!(
            "{:4} x {} ({}): {}",
            count, known.id, known.tool, known.what
        ))?;
        console::line(format_args!("       original: {}", known.original))?;
        console::line(format_args!("       ours:     {}", known.ours))?;
        if count == 0 {
            missing.push(format!("no scenario asserted difference '{}'", known.id));
        }
    }
    console::line("skipped: 0 (a scenario that can't run fails)")?;
    if require_all && !missing.is_empty() {
        return Err(missing.join("; ").into());
    }
    Ok(())
}

/// The table of differences as Markdown, as the README has it.
#[must_use]
pub(crate) fn markdown() -> String {
    let head = "| tool | what | the original | here |\n| --- | --- | --- | --- |\n";
    differences::all()
        .iter()
        .fold(head.to_owned(), |table, known| {
            let (tool, what) = (&known.tool, &known.what);
            table
                + &format!(
                    "| {tool} | {what} | {} | {} |\n",
                    known.original, known.ours
                )
        })
}

/// Puts the table of differences into the README, between its two marks.
///
/// # Errors
/// The README can't be read or written, or has no marks.
pub(crate) fn write_readme(readme: &Path) -> Result<(), Box<dyn Error>> {
    let text = fs::read_to_string(readme)?;
    let (before, rest) = text
        .split_once(START)
        .ok_or("the README has no mark of the table")?;
    let (_, after) = rest
        .split_once(END)
        .ok_or("the README has no mark of the table's end")?;
    fs::write(readme, format!("{before}{START}{}{END}{after}", markdown()))?;
    Ok(())
}

/// Outcome (`equal`, or the name of a difference) and name of each scenario that was run.
fn outcomes(tool: &str) -> io::Result<Vec<(String, String)>> {
    let dir = bins::target_dir().join("conformance").join(tool);
    let entries = match fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut outcomes = Vec::new();
    for entry in entries {
        let text = fs::read_to_string(entry?.path())?;
        if let Some((outcome, name)) = text.trim_end().split_once('\t') {
            outcomes.push((outcome.to_owned(), name.to_owned()));
        }
    }
    outcomes.sort();
    Ok(outcomes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_readme_has_the_current_table() {
        let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md");
        let text = fs::read_to_string(readme).unwrap();
        assert!(
            text.contains(&format!("{START}{}{END}", markdown())),
            "run: cargo run -p xtask -- conformance --write-readme"
        );
    }
}
