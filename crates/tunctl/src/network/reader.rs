//! Reading a TOML file so that every error names the line, the key and what is allowed.

use std::{
    fmt::Display,
    net::IpAddr,
    ops::{Range, RangeInclusive},
    path::Path,
    str::FromStr,
};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};
use uml_core::hostnet::BadPrefix;

/// Where something stands in the file: bytes from its beginning.
pub(super) type Place = Range<usize>;

/// A value with its place.
#[derive(Debug, Clone)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) place: Place,
}

/// What is wrong with a file.
#[derive(Debug)]
pub(super) struct Problems<'f> {
    path: &'f Path,
    /// The places of the text's newlines, in order.
    newlines: Vec<usize>,
    found: Vec<(usize, String)>,
}

impl<'f> Problems<'f> {
    pub(super) fn new(path: &'f Path, text: &str) -> Self {
        Self {
            path,
            newlines: text.match_indices('\n').map(|(at, _)| at).collect(),
            found: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, place: &Place, what: impl Display) {
        self.found.push((self.line(place), what.to_string()));
    }

    /// The number of the line that a place begins in, from 1.
    pub(super) fn line(&self, place: &Place) -> usize {
        self.newlines.partition_point(|&at| at < place.start) + 1
    }

    pub(super) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// `FILE:LINE: WHAT`, in the order of the lines.
    pub(super) fn into_lines(mut self) -> Vec<String> {
        self.found.sort_by_key(|(line, _)| *line);
        let path = self.path.display();
        let lines = self.found.iter();
        lines
            .map(|(line, what)| format!("{path}:{line}: {what}"))
            .collect()
    }
}

/// The whole file as a table.
pub(super) fn parse<'i>(
    text: &'i str,
    problems: &mut Problems<'_>,
) -> Option<Spanned<DeTable<'i>>> {
    match DeTable::parse(text) {
        Ok(table) => Some(table),
        Err(error) => {
            let place = error.span().unwrap_or_default();
            // The parser's sentence may go over several lines.
            problems.add(&place, error.message().replace('\n', ": "));
            None
        }
    }
}

/// One table of the file, its keys checked.
pub(super) struct Section<'t, 'i> {
    /// How it is called in the file: `[[tap]]`.
    title: &'static str,
    table: &'t DeTable<'i>,
    pub(super) place: Place,
}

impl<'t, 'i> Section<'t, 'i> {
    pub(super) fn new(
        title: &'static str,
        table: &'t DeTable<'i>,
        place: Place,
        allowed: &[&str],
        problems: &mut Problems<'_>,
    ) -> Self {
        for key in table.keys() {
            let name = key.get_ref();
            if !allowed.contains(&name.as_ref()) {
                problems.add(
                    &key.span(),
                    format_args!(
                        "unknown key '{}' in {title}; allowed: {}",
                        name.escape_debug(),
                        allowed.join(", ")
                    ),
                );
            }
        }
        Self {
            title,
            table,
            place,
        }
    }

    fn find(&self, key: &str) -> Option<&'t Spanned<DeValue<'i>>> {
        self.table.get(key)
    }

    /// The place of a key's value; of the section where the key is missing.
    pub(super) fn place_of(&self, key: &str) -> Place {
        self.find(key)
            .map_or_else(|| self.place.clone(), Spanned::span)
    }

    /// Reports a key whose value isn't allowed.
    pub(super) fn refuse(&self, key: &str, why: impl Display, problems: &mut Problems<'_>) {
        problems.add(
            &self.place_of(key),
            format_args!("{key} in {}: {why}", self.title),
        );
    }

    /// The sections of an array of tables: `[[key]]`.
    pub(super) fn sections(
        &self,
        key: &str,
        title: &'static str,
        allowed: &[&str],
        problems: &mut Problems<'_>,
    ) -> Vec<Section<'t, 'i>> {
        let Some(value) = self.find(key) else {
            return Vec::new();
        };
        let DeValue::Array(array) = value.get_ref() else {
            problems.add(
                &value.span(),
                format_args!("'{key}' is written {title}, as often as there are any"),
            );
            return Vec::new();
        };
        let mut sections = Vec::new();
        for item in array {
            match item.get_ref() {
                DeValue::Table(table) => {
                    sections.push(Section::new(title, table, item.span(), allowed, problems));
                }
                other => problems.add(
                    &item.span(),
                    format_args!("'{key}' is written {title}, found {}", describe(other)),
                ),
            }
        }
        sections
    }

    /// A text.
    pub(super) fn text(&self, key: &str, problems: &mut Problems<'_>) -> Option<&'t str> {
        let value = self.find(key)?;
        match value.get_ref() {
            DeValue::String(text) => Some(text),
            other => {
                let found = describe(other);
                self.refuse(
                    key,
                    format_args!("expected a text, found {found}"),
                    problems,
                );
                None
            }
        }
    }

    /// A text that must be there.
    pub(super) fn needed_text(&self, key: &str, problems: &mut Problems<'_>) -> Option<&'t str> {
        if self.find(key).is_none() {
            problems.add(&self.place, format_args!("{} has no '{key}'", self.title));
        }
        self.text(key, problems)
    }

    /// A text that stands for something: an address, a name.
    pub(super) fn parsed<T: FromStr<Err: Display>>(
        &self,
        key: &str,
        problems: &mut Problems<'_>,
    ) -> Option<T> {
        match self.text(key, problems)?.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                self.refuse(key, error, problems);
                None
            }
        }
    }

    /// An array of texts that stand for something; without the key it is empty. One text alone
    /// is allowed too.
    pub(super) fn list<T: FromStr<Err: Display>>(
        &self,
        key: &str,
        problems: &mut Problems<'_>,
    ) -> Vec<At<T>> {
        let Some(value) = self.find(key) else {
            return Vec::new();
        };
        let mut items = Vec::new();
        let one = std::slice::from_ref(value);
        let all = match value.get_ref() {
            DeValue::Array(array) => array.as_ref(),
            _ => one,
        };
        for item in all {
            let place = item.span();
            let parsed = match item.get_ref() {
                DeValue::String(text) => text.parse().map_err(|error: T::Err| error.to_string()),
                other => Err(format!("expected texts, found {}", describe(other))),
            };
            match parsed {
                Ok(value) => items.push(At { value, place }),
                Err(why) => {
                    problems.add(&place, format_args!("{key} in {}: {why}", self.title));
                }
            }
        }
        items
    }

    /// `true` or `false`.
    pub(super) fn flag(&self, key: &str, problems: &mut Problems<'_>) -> Option<bool> {
        match self.find(key)?.get_ref() {
            DeValue::Boolean(value) => Some(*value),
            other => {
                let found = describe(other);
                self.refuse(
                    key,
                    format_args!("expected true or false, found {found}"),
                    problems,
                );
                None
            }
        }
    }

    /// A whole number of this range.
    pub(super) fn number(
        &self,
        key: &str,
        range: RangeInclusive<u32>,
        problems: &mut Problems<'_>,
    ) -> Option<u32> {
        let value = self.find(key)?.get_ref();
        if let DeValue::Integer(digits) = value {
            let number = u32::from_str_radix(digits.as_str(), digits.radix()).ok();
            if let Some(number) = number.filter(|number| range.contains(number)) {
                return Some(number);
            }
        }
        self.refuse(
            key,
            format_args!(
                "expected a number from {} to {}, found {}",
                range.start(),
                range.end(),
                describe(value)
            ),
            problems,
        );
        None
    }

    /// A user or a group: a number, or a text that `resolve` knows.
    pub(super) fn id(
        &self,
        key: &str,
        resolve: fn(&std::ffi::OsStr) -> Result<u32, String>,
        problems: &mut Problems<'_>,
    ) -> Option<u32> {
        match self.find(key)?.get_ref() {
            DeValue::String(text) => match resolve(std::ffi::OsStr::new(text.as_ref())) {
                Ok(id) => Some(id),
                Err(why) => {
                    self.refuse(key, why, problems);
                    None
                }
            },
            DeValue::Integer(_) => self.number(key, 0..=u32::MAX - 1, problems),
            other => {
                let found = describe(other);
                self.refuse(
                    key,
                    format_args!("expected a name or a number, found {found}"),
                    problems,
                );
                None
            }
        }
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.find(key).is_some()
    }
}

/// An address without a prefix length.
pub(super) struct Lone(pub(super) IpAddr);

impl FromStr for Lone {
    type Err = BadPrefix;

    fn from_str(text: &str) -> Result<Self, BadPrefix> {
        let address = text.parse();
        address
            .map(Self)
            .map_err(|_| BadPrefix::Address(text.to_owned()))
    }
}

fn describe(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("\"{}\"", text.escape_debug()),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(value) => value.to_string(),
        DeValue::Datetime(time) => time.to_string(),
        DeValue::Array(_) => "an array".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}
