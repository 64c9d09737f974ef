//! The man pages and completions: complete, and as the linters want them.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use testkit::{
    bins::{installed, ours},
    cmd::run,
};

/// What xtask generates, in a folder.
fn generated(task: &str, dir: &Path) {
    let mut xtask = Command::new(env!("CARGO_BIN_EXE_xtask"));
    let made = run(xtask.args([task, "--out"]).arg(dir)).success();
    assert_eq!(made.err(), "");
}

/// The pages, sorted.
fn pages(dir: &Path) -> Vec<PathBuf> {
    generated("man", dir);
    let mut pages: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    pages.sort();
    pages
}

/// The options that are explained in a text: the words with dashes that start its lines.
fn options(text: &str) -> BTreeSet<String> {
    let mut options = BTreeSet::new();
    for line in text.lines() {
        // `-f, --force <NAME>  Some text`: words up to the first that is none.
        for word in line.split_whitespace() {
            let bare = word.trim_end_matches(',');
            let name = bare.split(['=', '[', '.']).next().unwrap_or(bare);
            if !name.starts_with('-') || name.len() < 2 {
                break;
            }
            options.insert(name.to_owned());
            if bare == word {
                break;
            }
        }
    }
    options
}

/// The section OPTIONS of a page, as plain text.
fn options_section(page: &Path) -> String {
    let mut mandoc = Command::new(installed("mandoc", "mandoc"));
    let formatted = run(mandoc.args(["-T", "utf8", "-O", "width=200"]).arg(page));
    let formatted = formatted.success().out();
    // A letter, a backspace and the letter again is a bold one; _ and a backspace underline.
    let mut plain = String::new();
    let mut characters = formatted.chars().peekable();
    while let Some(character) = characters.next() {
        if characters.peek() == Some(&'\u{8}') {
            characters.next();
        } else {
            plain.push(character);
        }
    }
    let section = plain.lines().skip_while(|line| *line != "OPTIONS").skip(1);
    let lines = section.take_while(|line| line.is_empty() || line.starts_with(' '));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn options_are_found_at_the_starts_of_lines() {
    let text = "usage: x -n\n  -f, --force  Do --it\n      --out[=DIR]\n  -d <DEV>\n - \n";
    let expected = ["--force", "--out", "-d", "-f"];
    assert_eq!(options(text).iter().collect::<Vec<_>>(), expected);
}

#[test]
fn mandoc_finds_nothing_to_say() {
    let dir = tempfile::tempdir().unwrap();
    let pages = pages(dir.path());
    assert!(!pages.is_empty());
    let mut mandoc = Command::new(installed("mandoc", "mandoc"));
    let lint = run(mandoc.args(["-T", "lint"]).args(&pages));
    assert_eq!((lint.out(), lint.err()), (String::new(), String::new()));
}

#[test]
fn each_page_has_its_sections() {
    let dir = tempfile::tempdir().unwrap();
    for page in pages(dir.path()) {
        let text = fs::read_to_string(&page).unwrap();
        for section in [
            "NAME",
            "SYNOPSIS",
            "DESCRIPTION",
            "OPTIONS",
            "EXIT STATUS",
            "EXAMPLES",
            "SEE ALSO",
        ] {
            let heading = format!(".SH {section}");
            assert!(
                text.lines().any(|line| line == heading),
                "{}: no {section}",
                page.display()
            );
        }
    }
}

#[test]
fn each_page_explains_the_options_that_help_explains() {
    let dir = tempfile::tempdir().unwrap();
    for page in pages(dir.path()) {
        let tool = page.file_stem().unwrap().to_str().unwrap();
        let help = run(Command::new(ours(tool)).arg("--help")).success().out();
        let in_help = options(&help);
        assert!(in_help.contains("--help"), "{tool} --help says\n{help}");
        assert_eq!(
            in_help,
            options(&options_section(&page)),
            "--help and page of {tool}"
        );
    }
}

#[test]
fn bash_takes_its_completions() {
    let dir = tempfile::tempdir().unwrap();
    generated("completions", dir.path());
    let scripts: Vec<_> = fs::read_dir(dir.path().join("bash")).unwrap().collect();
    assert!(!scripts.is_empty());
    for script in scripts {
        let script = script.unwrap();
        let check = run(Command::new("bash").arg("-n").arg(script.path()));
        assert_eq!((check.code(), check.err()), (0, String::new()));
        let tool = script.file_name().into_string().unwrap();
        let asked = "source \"$1\"; COMP_WORDS=(\"$2\" --v); COMP_CWORD=1; \"_$2\" \"$2\" --v \"$2\"; \
                     printf '%s\\n' \"${COMPREPLY[@]}\"";
        let mut bash = Command::new("bash");
        let answer = run(bash
            .args(["-c", asked, "bash"])
            .arg(script.path())
            .arg(&tool));
        let answer = answer.success().out();
        assert!(
            answer.lines().any(|word| word == "--version"),
            "{tool}: {answer}"
        );
    }
}
