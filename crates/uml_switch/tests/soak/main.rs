//! A long time of guests that come, talk, fall silent and die, under a check: no frame changes, is
//! doubled or goes to a wrong port, the counts add up per port and in all, and neither memory nor
//! descriptors grow.
//!
//! It takes ten seconds; `UML_SOAK_SECONDS=600` makes it ten minutes.
#![expect(clippy::unwrap_used, reason = "a test")]

mod book;
mod guest;
mod letter;
mod report;

use std::{
    collections::HashMap,
    env,
    os::unix::net::UnixStream,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::sys::{
    resource::{Resource, getrlimit, setrlimit},
    signal::Signal,
};
use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};
use testkit::{PATIENCE, switch::Switch, until};

use book::Book;
use guest::{Guest, Kind, Life, door, fail};
use letter::{SHORTEST, Station};
use report::{Report, Watched};

/// How many guests there are at once, at most.
const GUESTS: u8 = 200;

/// How many threads move them.
const MOVERS: u8 = 4;

/// How long they are moved between two checks.
const ROUND: Duration = Duration::from_secs(2);

/// By how much memory may be larger at the end than it was at most in the first half, in KiB. The
/// buffers that the switch keeps, its queues and the allocator's gaps come to their full size in
/// some dozens of rounds: until then it is what they may take together.
fn growth(rounds: usize) -> u64 {
    if rounds < 60 { 16 << 10 } else { 4 << 10 }
}

/// Room for one guest at a time.
#[derive(Default)]
struct Slot {
    number: u8,
    lives: u32,
    guest: Option<Guest>,
    /// The connection of a guest whose data socket is gone.
    half: Option<UnixStream>,
    past: Vec<Life>,
}

impl Slot {
    fn kind(&self) -> Kind {
        Kind::of(self.number)
    }

    fn next_station(&mut self) -> Station {
        self.lives += 1;
        Station {
            slot: self.number,
            life: self.lives,
        }
    }

    /// Does one thing or another.
    fn step(&mut self, dir: &Path, book: &Book, dice: &mut SmallRng) {
        self.half = None;
        let Some(guest) = &mut self.guest else {
            let station = self.next_station();
            if dice.random_range(0..8) == 0 {
                self.past.extend(fail(dir, self.kind(), station, dice));
            } else {
                self.guest = Some(Guest::plug(dir, self.kind(), station));
                book.enter(station);
            }
            return;
        };
        match dice.random_range(0..100) {
            0..60 => guest.talk(book, GUESTS, dice),
            60..96 => {
                guest.listen(book, dice.random_range(1..100));
            }
            _ => self.die(book, dice),
        }
    }

    fn die(&mut self, book: &Book, dice: &mut SmallRng) {
        if let Some(guest) = self.guest.take() {
            let (life, half) = guest.die(book, dice);
            self.past.push(life);
            self.half = half;
        }
    }
}

/// A switch, and all its guests.
struct Soak<'a> {
    dir: &'a Path,
    watched: Watched,
    book: Book,
    slots: Vec<Slot>,
    /// Descriptors of the switch without guests.
    base: usize,
}

impl<'a> Soak<'a> {
    fn new(dir: &'a Path) -> Self {
        let slots: Vec<_> = (0..GUESTS)
            .map(|number| Slot {
                number,
                ..Slot::default()
            })
            .collect();
        let log = dir.join("log");
        let mut command = Command::new("sh");
        command.args(["-c", "log=$1; shift; exec \"$@\" >\"$log\"", "sh"]);
        command.arg(&log);
        command.arg(env!("CARGO_BIN_EXE_uml_switch"));
        command.args(["-v", "-unix"]).arg(dir.join("ctl"));
        command.arg("-vde").arg(dir.join("vde"));
        for slot in slots.iter().filter(|slot| slot.kind() == Kind::Bess) {
            command.arg("-bess").arg(door(dir, Kind::Bess, slot.number));
        }
        let mut switch = Switch::launch(dir, command, Stdio::null());
        until("the switch's sockets", || {
            assert!(switch.try_wait().is_none(), "{}", switch.errors());
            std::fs::read_to_string(&log)
                .ok()?
                .contains("attached to unix socket")
                .then_some(())
        });
        let mut watched = Watched::new(switch, &log);
        let report = watched.report();
        assert_eq!(report.ports, 0);
        Self {
            dir,
            base: watched.descriptors(),
            watched,
            book: Book::new(slots.len()),
            slots,
        }
    }

    /// All guests live for a while.
    fn live(&mut self, round: u64) {
        let (dir, book) = (self.dir, &self.book);
        thread::scope(|scope| {
            let share = self.slots.len().div_ceil(usize::from(MOVERS));
            for (mover, slots) in (0_u64..).zip(self.slots.chunks_mut(share)) {
                scope.spawn(move || {
                    let mut dice = SmallRng::seed_from_u64(round * u64::from(MOVERS) + mover);
                    let start = Instant::now();
                    while start.elapsed() < ROUND {
                        let place = dice.random_range(0..slots.len());
                        slots[place].step(dir, book, &mut dice);
                    }
                });
            }
        });
        for slot in &mut self.slots {
            slot.half = None;
        }
    }

    fn guests(&mut self) -> impl Iterator<Item = &mut Guest> {
        self.slots.iter_mut().filter_map(|slot| slot.guest.as_mut())
    }

    /// Waits until every frame has arrived, then checks that the switch counted what its guests
    /// did: each port's frames, and all together.
    fn settle(&mut self) -> Report {
        let start = Instant::now();
        let report = loop {
            let Self {
                slots,
                book,
                watched,
                ..
            } = self;
            let guests = slots.iter_mut().filter_map(|slot| slot.guest.as_mut());
            let mut guests: Vec<_> = guests.collect();
            for guest in &mut guests {
                guest.listen(book, usize::MAX);
            }
            let report = watched.report();
            let wrong: Vec<_> = guests
                .iter()
                .map(|guest| (&guest.life, report.each.get(&guest.life.name)))
                .filter(|(life, counts)| {
                    !counts.is_some_and(|counts| {
                        (counts.received, counts.sent) == (life.sent, life.received)
                    })
                })
                .collect();
            let count = guests.len();
            let settled = report.waiting == 0 && report.ports == count && wrong.is_empty();
            assert!(
                settled || start.elapsed() < PATIENCE,
                "{count} guests, {} ports, {} frames wait, these differ: {wrong:#?}",
                report.ports,
                report.waiting
            );
            self.check_sums(&report);
            if settled {
                break report;
            }
        };
        let descriptors: usize = self
            .guests()
            .map(|guest| guest.life.kind.descriptors())
            .sum();
        until("the switch's descriptors to be those of its guests", || {
            (self.watched.descriptors() == self.base + descriptors).then_some(())
        });
        report
    }

    fn check_sums(&self, report: &Report) {
        let Report { total, waiting, .. } = report;
        assert_eq!(
            total.received + total.copies,
            total.sent + total.dropped + waiting,
            "{total:?}"
        );
        // All ports that are, and all that were, make the total.
        let mut sum = report::Counts::default();
        for (_, counts) in &self.watched.gone {
            sum.add(counts);
        }
        for counts in report.each.values() {
            sum.add(counts);
        }
        let of = |counts: &report::Counts| {
            // What waited for a port that went is counted after its last line.
            let lost = counts.of("unplugged");
            (
                counts.received,
                counts.copies,
                counts.sent,
                counts.dropped - lost,
            )
        };
        assert_eq!(of(total), of(&sum));
    }

    /// Has known frames sent, and checks that each port's add up: what was for it went out or was
    /// dropped.
    fn census(&mut self, dice: &mut SmallRng) {
        // A frame to oneself tells the switch where one is, and goes nowhere.
        for guest in self.guests() {
            let own = guest.station;
            until("room", || {
                guest.write(Some(own), true, SHORTEST).then_some(())
            });
        }
        let before = self.settle();
        let stations: Vec<_> = self.guests().map(|guest| guest.station).collect();
        for station in &stations {
            self.book.settle(*station);
        }
        let mut offered: HashMap<Station, u64> = HashMap::new();
        let mut floods = 0;
        // One doesn't listen, and has more frames than a queue holds.
        let deaf = stations[0];
        for round in 0..12 {
            let Self { slots, book, .. } = self;
            for guest in slots.iter_mut().filter_map(|slot| slot.guest.as_mut()) {
                let from = guest.station;
                let to = match dice.random_range(0..40) {
                    0 => None,
                    1..20 if from != deaf => Some(deaf),
                    _ => Some(stations[dice.random_range(0..stations.len())]),
                };
                let length = dice.random_range(SHORTEST..1514);
                until("room", || guest.write(to, true, length).then_some(()));
                let receivers = match to {
                    Some(to) => vec![to],
                    None => stations.clone(),
                };
                floods += u64::from(to.is_none());
                for to in receivers.into_iter().filter(|to| *to != from) {
                    *offered.entry(to).or_default() += 1;
                }
                if round % 3 == 0 && from != deaf {
                    guest.listen(book, usize::MAX);
                }
            }
        }
        let after = self.settle();
        let others = u64::try_from(stations.len()).unwrap() - 2;
        assert_eq!(
            after.total.copies - before.total.copies,
            floods * others,
            "copies"
        );
        let fared = |report: &Report, name: &str| {
            let counts = &report.each[name];
            counts.sent + counts.of("queue full") + counts.of("refused")
        };
        for guest in self.guests() {
            let name = &guest.life.name;
            assert_eq!(
                fared(&after, name) - fared(&before, name),
                offered.get(&guest.station).copied().unwrap_or(0),
                "frames for {:?}",
                guest.station
            );
        }
    }

    /// All go; checks what the switch counted of each that ever was.
    fn end(mut self) -> Report {
        let mut dice = SmallRng::seed_from_u64(0);
        for slot in &mut self.slots {
            slot.die(&self.book, &mut dice);
            slot.half = None;
        }
        let last = self.settle();
        // The ports of one door's packets have one name, all others have their own.
        let mut lives: HashMap<&str, (usize, u64, u64)> = HashMap::new();
        for life in self.slots.iter().flat_map(|slot| &slot.past) {
            let (count, sent, received) = lives.entry(&life.name).or_default();
            *count += 1;
            *sent += life.sent;
            *received += life.received;
        }
        let mut ports: HashMap<&str, (usize, report::Counts)> = HashMap::new();
        for (name, counts) in &self.watched.gone {
            let (count, sum) = ports.entry(name).or_default();
            *count += 1;
            sum.add(counts);
        }
        for (name, (count, _)) in &ports {
            assert!(
                lives.get(name).is_some_and(|(lives, ..)| count <= lives),
                "{name}"
            );
        }
        for (name, (_, sent, received)) in lives {
            let Some((_, counts)) = ports.get(name) else {
                // It may have gone before it had a port.
                assert_eq!((sent, received), (0, 0), "{name}");
                continue;
            };
            // What was on its way when a guest's socket closed may be lost, never more: when the
            // switch sends to one that has closed, the kernel empties the queue of the switch's.
            assert!(counts.received <= sent, "{sent} sent by {name}: {counts:?}");
            assert!(
                counts.sent >= received,
                "{received} received by {name}: {counts:?}"
            );
        }
        let mut switch = self.watched.switch;
        // Some were gone before the switch looked for their sockets, or before it replied.
        let gone = ["a guest is refused: ", "Sending data socket name: "];
        for error in switch.errors().lines() {
            let known = gone.iter().any(|words| error.starts_with(words));
            assert!(known, "{error}");
        }
        assert_eq!(switch.stop(Signal::SIGTERM), 128 + 15);
        last
    }
}

#[test]
fn guests_come_and_go_and_everything_adds_up() {
    let seconds = env::var("UML_SOAK_SECONDS").map_or(10, |text| text.parse().unwrap());
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut soak = Soak::new(dir.path());
    let mut dice = SmallRng::seed_from_u64(seconds);
    let start = Instant::now();
    let mut memory = Vec::new();
    while start.elapsed() < Duration::from_secs(seconds) {
        soak.live(u64::try_from(memory.len()).unwrap());
        soak.settle();
        soak.census(&mut dice);
        memory.push(soak.watched.memory("VmRSS"));
    }
    let peak = soak.watched.memory("VmHWM");
    let lives: u32 = soak.slots.iter().map(|slot| slot.lives).sum();
    let last = soak.end();
    println!(
        "{} rounds, {lives} guests, frames: {:?}\nmemory in KiB: {memory:?}, at most {peak}",
        memory.len(),
        last.total
    );
    let early = memory[..memory.len().div_ceil(2)].iter().max().unwrap();
    assert!(
        memory.last().unwrap() <= &(early + growth(memory.len())),
        "memory in KiB: {memory:?}"
    );
}
