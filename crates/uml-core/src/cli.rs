//! Command lines: old spellings, usage texts, exit codes.
//!
//! Each tool's command line is one clap declaration. The words that scripts have used for twenty
//! years are spelled into it here, and a wrong command line gets the tool's old usage text on
//! standard error and its old exit code.

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use clap::{
    Arg, ArgAction, Command, CommandFactory, Parser,
    builder::{OsStringValueParser, TypedValueParser},
    error::ErrorKind,
};

use crate::console;

/// What a tool does with a wrong command line.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    /// The old usage text, without a last newline.
    pub text: &'static str,
    /// The old exit code.
    pub status: u8,
}

/// The declaration of a tool's command line, from which parser, man page and completions come.
///
/// `--help` and `--version` have no short forms: `-h` and `-V` were wrong command lines, and stay so.
#[must_use]
pub fn command<T: CommandFactory>() -> Command {
    let word = |name: &'static str, action| Arg::new(name).long(name).action(action);
    T::command()
        .disable_help_flag(true)
        .disable_version_flag(true)
        .arg(word("help", ArgAction::Help).help("Print help, and exit"))
        .arg(word("version", ArgAction::Version).help("Print the version, and exit"))
}

/// A path as the system would take it: an empty one too, which the system then refuses by itself.
#[must_use]
pub fn any_path() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}

/// Parses a command line that [`respell`] has been over, `args[0]` being the program's name.
///
/// # Errors
/// The exit code to end with: 0 after `--help` and `--version` (printed to standard output), the
/// old one after a wrong command line (one line that says what is wrong, then the old usage text,
/// both on standard error).
pub fn parse<T: Parser>(
    args: impl IntoIterator<Item = OsString>,
    usage: Usage,
) -> Result<T, ExitCode> {
    let matched = command::<T>()
        .try_get_matches_from(args)
        .and_then(|matches| T::from_arg_matches(&matches));
    matched.map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            match console::raw(error.render().to_string().as_bytes()) {
                Ok(()) => ExitCode::SUCCESS,
                Err(_) => ExitCode::FAILURE,
            }
        }
        _ => wrong(&first_line(&error), usage),
    })
}

/// Says what is wrong with a command line, then the old usage text; returns the old exit code.
#[must_use]
pub fn wrong(what: &str, usage: Usage) -> ExitCode {
    if !what.is_empty() {
        console::note(what);
    }
    console::note(usage.text);
    ExitCode::from(usage.status)
}

/// clap's own sentence without the hints and the usage that follow it.
fn first_line(error: &clap::Error) -> String {
    if matches!(
        error.kind(),
        ErrorKind::MissingRequiredArgument | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    ) {
        // The usage text says what is missing, as it always did.
        return String::new();
    }
    let text = error.render().to_string();
    let line = text.lines().next().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

/// Spells the old single-dash words (`-unix`) into clap's (`--unix`), up to `--`.
///
/// `words` are without dashes. The program's name, values and everything else stay as they are.
pub fn respell(args: impl IntoIterator<Item = OsString>, words: &[&str]) -> Vec<OsString> {
    let mut rest_as_is = false;
    args.into_iter()
        .enumerate()
        .map(|(index, arg)| {
            rest_as_is |= arg == "--";
            let word = arg.to_str().and_then(|text| text.strip_prefix('-'));
            match word {
                Some(word) if index > 0 && !rest_as_is && words.contains(&word) => {
                    OsString::from(format!("--{word}"))
                }
                _ => arg,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn respelled(args: &[&str]) -> Vec<OsString> {
        respell(args.iter().map(OsString::from), &["unix", "hub"])
    }

    #[test]
    fn respell_touches_only_the_words_it_knows() {
        assert_eq!(
            respelled(&["-hub", "-unix", "/tmp/-hub", "-hubs", "--hub", "-u"]),
            ["-hub", "--unix", "/tmp/-hub", "-hubs", "--hub", "-u"]
        );
    }

    #[test]
    fn respell_stops_at_two_dashes() {
        assert_eq!(
            respelled(&["x", "-hub", "--", "-hub"]),
            ["x", "--hub", "--", "-hub"]
        );
    }
}
