//! The one table of known differences between the reference tools and ours.

use serde::Deserialize;

/// One known difference.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Difference {
    /// A short name, unique in the table, by which scenarios refer to it.
    pub id: String,
    /// The tool, or `all`.
    pub tool: String,
    /// What is done.
    pub what: String,
    /// What the reference tool does then.
    pub original: String,
    /// What ours does.
    pub ours: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    difference: Vec<Difference>,
}

/// The whole table, in the order of the file. Panics when the file is no valid table.
#[must_use]
pub fn all() -> Vec<Difference> {
    let table: Table =
        toml::from_str(include_str!("../differences.toml")).expect("differences.toml is valid");
    table.difference
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    #[test]
    fn names_are_unique() {
        let mut seen = HashSet::new();
        for difference in super::all() {
            assert!(
                seen.insert(difference.id.clone()),
                "{} stands twice",
                difference.id
            );
        }
    }
}
