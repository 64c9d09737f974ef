//! Man pages: options from the command-line declarations, the rest written by hand in
//! `crates/TOOL/man/*.md`.
//!
//! A file of hand-written sections is Markdown as [`markdown`] reads it, each `# HEADING` being a
//! section of the page. SYNOPSIS replaces the generated one, DESCRIPTION goes on where the generated one
//! ends, and the others follow the options. They come in the usual order of man pages, whatever the files' names are.

mod lines;
mod markdown;

use std::{error::Error, fs, io, path::Path};

use crate::tools::{self, Tool};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// Sections that close a page, in this order; others come before them.
const LAST: [&str; 7] = [
    "EXIT STATUS",
    "ENVIRONMENT",
    "FILES",
    "EXAMPLES",
    "NOTES",
    "BUGS",
    "SEE ALSO",
];

/// Writes every tool's page to `dir/NAME.SECTION`.
///
/// # Errors
/// A hand-written section that can't be read or isn't the Markdown that is understood; a page that
/// can't be written.
pub(crate) fn run(dir: &Path) -> Outcome {
    fs::create_dir_all(dir).map_err(|error| format!("making {}: {error}", dir.display()))?;
    let changelog = fs::read_to_string(tools::workspace().join("tools/packaging/CHANGELOG.md"))?;
    let date = release_date(&changelog).ok_or("CHANGELOG.md: no '## VERSION (YYYY-MM-DD)' line")?;
    for tool in &tools::ALL {
        let file = dir.join(format!("{}.{}", tool.name, tool.section));
        let page = page(tool, date).map_err(|error| format!("{}: {error}", tool.name))?;
        fs::write(&file, page).map_err(|error| format!("writing {}: {error}", file.display()))?;
    }
    Ok(())
}

/// The date of the newest release in the change log.
fn release_date(changelog: &str) -> Option<&str> {
    changelog.lines().find_map(|line| {
        let (_, date) = line.strip_prefix("## ")?.split_once(" (")?;
        date.strip_suffix(')')
    })
}

/// One page.
fn page(tool: &Tool, date: &str) -> Outcome<String> {
    let mut sections = sections(&tool.man_dir())?;
    // A page has room for what --help leaves out.
    let command = (tool.command)().mut_args(|arg| arg.hide_short_help(false));
    let man = clap_mangen::Man::new(command)
        .title(tool.name.to_uppercase())
        .section(tool.section)
        .date(date)
        .source(concat!("uml-utilities-rs ", env!("CARGO_PKG_VERSION")))
        .manual("User-Mode Linux");

    let mut page = Vec::new();
    man.render_title(&mut page)?;
    let mut page = String::from_utf8(page)?;
    let summary = markdown::escape(tool.summary);
    page.extend([".SH NAME\n", tool.name, " \\- ", &summary, "\n"]);
    match take(&mut sections, "SYNOPSIS") {
        Some(synopsis) => page.extend([".SH SYNOPSIS\n", &synopsis.roff]),
        None => page.push_str(&rendered(|out| man.render_synopsis_section(out))?),
    }
    page.push_str(&rendered(|out| man.render_description_section(out))?);
    if let Some(more) = take(&mut sections, "DESCRIPTION") {
        page.push_str(&more.roff);
    }
    page.push_str(&rendered(|out| man.render_options_section(out))?);
    for section in sections {
        page.extend([".SH ", &section.heading, "\n", &section.roff]);
    }
    Ok(lines::tidy(&page))
}

/// What one of `clap_mangen`'s functions writes, without the prologue that each repeats.
fn rendered(render: impl FnOnce(&mut dyn io::Write) -> io::Result<()>) -> Outcome<String> {
    let mut bytes = Vec::new();
    render(&mut bytes)?;
    let text = String::from_utf8(bytes)?;
    let start = text.find(".SH").unwrap_or_default();
    Ok(lines::code_in_bold(&text[start..]))
}

/// A hand-written section.
struct Section {
    heading: String,
    roff: String,
}

/// Takes the section of that name out.
fn take(sections: &mut Vec<Section>, heading: &str) -> Option<Section> {
    let index = sections.iter().position(|s| s.heading == heading)?;
    Some(sections.remove(index))
}

/// The hand-written sections of a page, in order.
fn sections(dir: &Path) -> Outcome<Vec<Section>> {
    let mut files = match fs::read_dir(dir) {
        Ok(entries) => entries
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<Result<Vec<_>, _>>()?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(format!("reading {}: {error}", dir.display()).into()),
    };
    files.retain(|file| file.extension().is_some_and(|extension| extension == "md"));
    files.sort();
    let mut sections = Vec::new();
    for file in files {
        let name = file.display().to_string();
        let text = fs::read_to_string(&file).map_err(|error| format!("reading {name}: {error}"))?;
        for (heading, roff) in
            markdown::sections(&text).map_err(|error| format!("{name}: {error}"))?
        {
            if sections.iter().any(|s: &Section| s.heading == heading) {
                return Err(format!("{name}: there are two sections {heading}").into());
            }
            sections.push(Section { heading, roff });
        }
    }
    sections.sort_by_key(|section| LAST.iter().position(|last| *last == section.heading));
    Ok(sections)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_release_dates_the_pages() {
        let changelog = "# Changes\n\n## 1.2.0 (2027-01-31)\n\n## 1.1.0 (2026-12-01)\n";
        assert_eq!(release_date(changelog), Some("2027-01-31"));
        assert_eq!(release_date("# Changes\n"), None);
    }

    #[test]
    fn sections_come_in_the_order_of_man_pages() {
        let dir = tempfile::tempdir().unwrap();
        let text = "# SEE ALSO\n\nx\n\n# EXIT STATUS\n\ny\n\n# ANSWERS\n\nz\n";
        fs::write(dir.path().join("a.md"), text).unwrap();
        fs::write(dir.path().join("b.md"), "# EXAMPLES\n\nx\n").unwrap();
        let headings: Vec<_> = sections(dir.path()).unwrap();
        let headings: Vec<_> = headings.iter().map(|s| s.heading.as_str()).collect();
        assert_eq!(headings, ["ANSWERS", "EXIT STATUS", "EXAMPLES", "SEE ALSO"]);
    }
}
