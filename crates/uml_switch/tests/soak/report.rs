//! What the switch tells of itself: its log, its memory, its descriptors.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::Read as _,
    path::Path,
};

use nix::sys::signal::Signal;
use testkit::{switch::Switch, until};

/// Counts of frames, as a line of the log has them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) received: u64,
    pub(crate) copies: u64,
    pub(crate) sent: u64,
    pub(crate) dropped: u64,
    reasons: HashMap<String, u64>,
}

impl Counts {
    /// From `12 in, 3 copies, 14 out, 1 dropped (1 queue full)`.
    fn parse(text: &str) -> Self {
        let (counts, reasons) = text.split_once(" (").unwrap_or((text, ""));
        let mut words = counts
            .split(", ")
            .zip([" in", " copies", " out", " dropped"]);
        let mut next = || {
            let (word, unit) = words.next().unwrap();
            let number = word.strip_suffix(unit);
            number
                .unwrap_or_else(|| panic!("no '{unit}' in '{text}'"))
                .parse()
                .unwrap()
        };
        let [received, copies, sent, dropped] = [next(), next(), next(), next()];
        let reasons = reasons.trim_end_matches(')');
        let reasons = reasons.split(", ").filter(|reason| !reason.is_empty());
        let counts = Self {
            received,
            copies,
            sent,
            dropped,
            reasons: reasons
                .map(|reason| {
                    let (count, name) = reason.split_once(' ').unwrap();
                    (name.to_owned(), count.parse().unwrap())
                })
                .collect(),
        };
        assert_eq!(counts.reasons.values().sum::<u64>(), dropped, "{text}");
        counts
    }

    /// How many were dropped for this reason.
    pub(crate) fn of(&self, reason: &str) -> u64 {
        self.reasons.get(reason).copied().unwrap_or(0)
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.received += other.received;
        self.copies += other.copies;
        self.sent += other.sent;
        self.dropped += other.dropped;
        for (reason, count) in &other.reasons {
            *self.reasons.entry(reason.clone()).or_default() += count;
        }
    }
}

/// The counts at one moment.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) ports: usize,
    pub(crate) total: Counts,
    pub(crate) waiting: u64,
    /// By the name of the port.
    pub(crate) each: HashMap<String, Counts>,
}

/// A switch whose log is read as it is written.
pub(crate) struct Watched {
    pub(crate) switch: Switch,
    log: File,
    unread: String,
    /// The ports that are gone: their names and last counts, in the order in which they went.
    pub(crate) gone: Vec<(String, Counts)>,
}

/// The name of a port without the process behind it.
fn name_and_counts(line: &str) -> (String, Counts) {
    let (_, line) = line.split_once(" (").unwrap();
    let (name, counts) = line.split_once("): ").unwrap();
    let (name, _) = name.split_once(", ").unwrap_or((name, ""));
    (name.to_owned(), Counts::parse(counts))
}

impl Watched {
    /// Watches a switch that writes its log to this file.
    pub(crate) fn new(switch: Switch, log: &Path) -> Self {
        Self {
            switch,
            log: File::open(log).unwrap(),
            unread: String::new(),
            gone: Vec::new(),
        }
    }

    /// The next line of the log, when it is whole.
    fn line(&mut self) -> Option<String> {
        if !self.unread.contains('\n') {
            self.log.read_to_string(&mut self.unread).unwrap();
        }
        let end = self.unread.find('\n')?;
        let rest = self.unread.split_off(end + 1);
        let mut line = std::mem::replace(&mut self.unread, rest);
        line.pop();
        Some(line)
    }

    /// Asks for the counts.
    pub(crate) fn report(&mut self) -> Report {
        self.switch.signal(Signal::SIGUSR1);
        let mut report = None::<Report>;
        until("the switch's counts", || {
            while let Some(line) = self.line() {
                if line.starts_with("Port ") && line.contains("): ") {
                    self.gone.push(name_and_counts(&line));
                } else if let Some((ports, rest)) = line.split_once(" ports, ") {
                    let (_, counts) = rest.split_once("frames: ").unwrap();
                    let (counts, waiting) = counts.rsplit_once(", ").unwrap();
                    report = Some(Report {
                        ports: ports.parse().unwrap(),
                        total: Counts::parse(counts),
                        waiting: waiting.strip_suffix(" waiting").unwrap().parse().unwrap(),
                        each: HashMap::new(),
                    });
                } else if let (Some(report), true) = (&mut report, line.starts_with("port ")) {
                    let (name, counts) = name_and_counts(&line);
                    let before = report.each.insert(name, counts);
                    assert!(before.is_none(), "two ports of one name: {line}");
                }
                // What stands behind it happened later.
                if let Some(report) = report.take_if(|report| report.each.len() == report.ports) {
                    return Some(report);
                }
            }
            let ended = self.switch.try_wait();
            assert!(ended.is_none(), "{ended:?}: {}", self.switch.errors());
            None
        })
    }

    /// How many descriptors the switch has open.
    pub(crate) fn descriptors(&self) -> usize {
        let open = fs::read_dir(format!("/proc/{}/fd", self.switch.pid()));
        open.unwrap().count()
    }

    /// A size from the switch's status, in KiB.
    pub(crate) fn memory(&self, what: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.switch.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(what));
        let size = line.and_then(|line| line.trim_start_matches(':').trim().strip_suffix(" kB"));
        size.unwrap().parse().unwrap()
    }
}
