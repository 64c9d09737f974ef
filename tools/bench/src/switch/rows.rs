//! The rows of the table, and their targets.

use std::time::Duration;

use crate::{
    report::{Metric, OURS, Plan, Rule, Target},
    switch::{
        load::{Calls, Load},
        process::{OLD, VDE},
        tcp::{FarEnd, Way},
    },
};

pub(super) const CPU: Metric = Metric::new("cpu", "ns/frame", 0);
pub(super) const RATE: Metric = Metric::new("frames", "/s", 0);
pub(super) const COPIES: Metric = Metric::new("copies", "/s", 0);
pub(super) const LOSS: Metric = Metric::new("loss", "%", 2);
pub(super) const TRIP: Metric = Metric::new("round trip", "µs", 1);
pub(super) const KEPT: Metric = Metric::new("speed kept", "%", 1);
pub(super) const OPENED: Metric = Metric::new("opened in", "s", 3);
pub(super) const RESIDENT: Metric = Metric::new("resident", "MiB", 1);

pub(super) const THROUGHPUT: Metric = Metric::new("throughput", "Gb/s", 3);
pub(super) const RETRANSMITS: Metric = Metric::new("retransmits", "", 0);
pub(super) const TRANSFER: Metric = Metric::new("transfer", "MiB/s", 1);
/// How much of one processor the switch took meanwhile.
pub(super) const BUSY: Metric = Metric::new("switch busy", "%", 1);

/// The relay's name in the tables.
pub(super) const KERNEL: &str = "kernel";
/// Two ends of one pair of sockets, nothing between them: the least that a round trip can take.
pub(super) const DIRECT: &str = "no switch";
/// Ours with a busy poll.
pub(super) const SPIN: &str = "ours --spin";

/// Ours, its ports plugged in by VDE's protocol, as `vde_switch`'s are.
pub(super) const BY_VDE: &str = "ours vde";
/// Ours, its guests plugged in by BESS.
pub(super) const BESS: &str = "ours bess";

/// The longest frame without a VLAN tag, in bytes.
pub(super) const FULL: usize = 1514;

pub(super) struct Row {
    pub(super) plan: Plan,
    pub(super) runs: usize,
    /// How many frames the kernel queues towards a socket that isn't connected; none: as it is.
    pub(super) queue: Option<u32>,
    pub(super) measure: Measure,
}

/// What one run of a row does.
#[derive(Clone, Copy)]
pub(super) enum Measure {
    /// Pairs at work, each contender's switch started anew.
    Pairs {
        pairs: usize,
        load: Load,
        floor: bool,
    },
    /// Several senders, one receiver.
    Crowd { senders: usize, load: Load },
    /// Round trips.
    Trips(u64),
    /// Broadcasts to so many ports.
    Broadcast { ports: usize, window: Option<u64> },
    /// A pair beside ports that never read.
    Deaf { ports: usize, load: Load },
    /// So many ports plugged in.
    Ports(usize),
    /// A pair beside idle ports: throughput, then round trips.
    Idle { ports: usize, load: Load },
    /// TCP between two namespaces.
    Tcp { far: FarEnd, way: Way },
    /// TCP between two real guests.
    Guests,
}

const NO_LOSS: Target = Target::within(LOSS, 0.0);

const fn at_most(metric: Metric, most: f64, whom: &'static str) -> Target {
    Target::new(metric, Rule::AtMost(most), whom)
}

const fn at_least(metric: Metric, least: f64, whom: &'static str) -> Target {
    Target::new(metric, Rule::AtLeast(least), whom)
}

fn row(name: &str, title: &str, measure: Measure, targets: &[Target]) -> Row {
    Row {
        plan: Plan::new(name, title, targets),
        runs: 5,
        queue: None,
        measure,
    }
}

/// All rows; each load lasts for `time`.
pub(super) fn all(time: Duration) -> Vec<Row> {
    let plain = Load {
        length: 64,
        calls: Calls::Single,
        window: None,
        broadcast_every: None,
        time,
    };
    let mut rows = pairs(plain);
    rows.extend(pairs(plain).into_iter().map(with_long_queues));
    rows.extend(broadcasts());
    rows.extend(deaf(plain));
    rows.push(row(
        "switch-4000-ports",
        "4000 ports plugged in, one after the other",
        Measure::Ports(4000),
        &[Target::within(OPENED, 1.0), Target::within(RESIDENT, 16.0)],
    ));
    rows.extend(tcp());
    rows.extend(tcp().into_iter().take(2).map(with_long_queues));
    rows.extend(idle(plain));
    rows
}

fn idle(load: Load) -> impl Iterator<Item = Row> {
    [2, 8, 32, 128, 512, 1000]
        .into_iter()
        .map(move |ports| Row {
            runs: 3,
            ..row(
                &format!("plot-ports-{ports}"),
                &format!("one pair, 64-byte frames, {ports} ports in all, the others idle"),
                Measure::Idle { ports, load },
                &[],
            )
        })
}

fn tcp() -> Vec<Row> {
    let mut rows = Vec::new();
    for (far, far_name, far_title) in [
        (FarEnd::Relay, "tcp", "tap – switch – port – relay – tap"),
        (FarEnd::Tap, "taps", "tap – switch – tap"),
    ] {
        for (way, way_name, way_title) in [
            (Way::Out, "out", "from the switch's tap"),
            (Way::Back, "back", "to the switch's tap"),
        ] {
            let mut targets = vec![at_least(THROUGHPUT, 1.0, VDE)];
            if far == FarEnd::Relay {
                // The 2007 switch has one tap device only.
                targets.insert(0, at_least(THROUGHPUT, 2.5, OLD));
            }
            rows.push(row(
                &format!("switch-{far_name}-{way_name}"),
                &format!("TCP through {far_title}, {way_title}"),
                Measure::Tcp { far, way },
                &targets,
            ));
        }
    }
    rows.push(row(
        "switch-guests",
        "256 MiB by TCP from one real guest to another",
        Measure::Guests,
        &[
            at_least(TRANSFER, 1.2, OLD),
            at_least(TRANSFER, 1.0, OURS).of(BESS),
        ],
    ));
    rows
}

/// The row on a host whose queues are as long as systemd makes them.
fn with_long_queues(mut row: Row) -> Row {
    row.plan.name = row.plan.name.replacen("switch-", "switch-512-", 1);
    row.plan.title += ", net.unix.max_dgram_qlen = 512";
    row.queue = Some(512);
    row
}

fn pairs(plain: Load) -> Vec<Row> {
    let long = Load {
        length: 1500,
        ..plain
    };
    let batched = Load {
        calls: Calls::Batched,
        ..plain
    };
    let windowed = Load {
        window: Some(64),
        ..batched
    };
    let cpu = |old| {
        [
            at_most(CPU, old, OLD),
            at_most(CPU, 0.75, VDE),
            at_most(CPU, 1.6, KERNEL),
            NO_LOSS,
        ]
    };
    let pairs = |pairs, load: Load| Measure::Pairs {
        pairs,
        load,
        floor: load.window.is_none(),
    };
    vec![
        row(
            "switch-64",
            "one pair, 64-byte frames",
            pairs(1, plain),
            &cpu(0.6),
        ),
        row(
            "switch-1500",
            "one pair, 1500-byte frames",
            pairs(1, long),
            &cpu(0.5),
        ),
        row(
            "switch-two-pairs",
            "two pairs, 64-byte frames",
            pairs(2, plain),
            &cpu(0.5),
        ),
        row(
            "switch-batched",
            "one pair, 64-byte frames in batches of 32",
            pairs(1, batched),
            &cpu(0.55),
        ),
        row(
            "switch-window",
            "one pair, 64-byte frames in batches, at most 64 in flight",
            pairs(1, windowed),
            &[at_least(RATE, 1.5, OLD), at_least(RATE, 1.35, VDE), NO_LOSS],
        ),
        row(
            "switch-crowd",
            "four flooding senders, one receiver, 64-byte frames in batches",
            Measure::Crowd {
                senders: 4,
                load: batched,
            },
            &[NO_LOSS],
        ),
        row(
            "switch-trip",
            "round trips of a 64-byte frame, median",
            Measure::Trips(5000),
            &[at_most(TRIP, 1.0, OLD), at_most(TRIP, 0.35, OLD).of(SPIN)],
        ),
    ]
}

fn broadcasts() -> Vec<Row> {
    let flood = |ports, against_old| {
        row(
            &format!("switch-broadcast-{ports}"),
            &format!("64-byte broadcasts to {ports} ports, as fast as they are taken"),
            Measure::Broadcast {
                ports,
                window: None,
            },
            &[
                at_least(COPIES, against_old, OLD),
                at_least(COPIES, 1.0, VDE),
                NO_LOSS,
            ],
        )
    };
    let windowed = |ports| {
        row(
            &format!("switch-broadcast-{ports}-window"),
            &format!("64-byte broadcasts to {ports} ports, at most 8 in flight"),
            Measure::Broadcast {
                ports,
                window: Some(8),
            },
            &[],
        )
    };
    vec![
        flood(16, 1.15),
        flood(64, 1.15),
        flood(256, 1.15),
        flood(1000, 1.0),
        windowed(16),
        windowed(1000),
    ]
}

fn deaf(plain: Load) -> Vec<Row> {
    let mut rows = Vec::new();
    for ports in [1, 9, 16, 64] {
        rows.push(row(
            &format!("switch-deaf-{ports}"),
            &format!("one pair beside {ports} deaf ports, their queues full of long broadcasts"),
            Measure::Deaf { ports, load: plain },
            &[Target::new(KEPT, Rule::Reach(95.0), ""), NO_LOSS],
        ));
    }
    let load = Load {
        broadcast_every: Some(100),
        ..plain
    };
    rows.push(row(
        "switch-deaf-16-noise",
        "as switch-deaf-16, every 100th frame followed by a long broadcast",
        Measure::Deaf { ports: 16, load },
        &[],
    ));
    rows
}
