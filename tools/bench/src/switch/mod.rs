//! `uml_switch` against the 2007 switch and `vde_switch`.

pub mod batch;
pub mod broadcast;
pub mod frame;
pub mod guests;
pub mod kernel;
pub mod load;
pub mod port;
pub mod process;
mod queues;
mod rows;
pub mod tcp;
pub mod trips;

use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::{
    cli::{self, Options},
    contest::{Contender, interleave, seconds},
    error::Error,
    report::{Figures, Metric, OURS, Report, Series},
    switch::{
        frame::{Mac, frame},
        load::{Calls, Load, Outcome, Pair},
        process::{OLD, Recipe, Switch, VDE},
        rows::{
            BESS, BUSY, BY_VDE, COPIES, CPU, DIRECT, FULL, KEPT, KERNEL, LOSS, Measure, OPENED,
            RATE, RESIDENT, RETRANSMITS, Row, SPIN, THROUGHPUT, TRANSFER, TRIP,
        },
        tcp::FarEnd,
    },
};

/// Runs the rows that were asked for.
///
/// # Errors
/// A program is missing.
pub fn run(options: &Options, switch: &cli::Switch, report: &mut Report) -> Result<(), Error> {
    let time = Duration::from_millis(switch.time);
    let rows = rows::all(time).into_iter();
    let rows: Vec<Row> = rows.filter(|row| options.wants(&row.plan.name)).collect();
    if options.list {
        return rows.iter().try_for_each(|row| Report::list(&row.plan));
    }
    raise_descriptors()?;
    let recipes = Recipe::all(options)?;
    for row in rows {
        let runs = options.runs.unwrap_or(row.runs);
        let run = || measure(&recipes, row.measure, time, runs);
        let series = match row.queue {
            Some(frames) => queues::with(frames, run)?,
            None => run(),
        };
        report.add(row.plan, series)?;
    }
    Ok(())
}

fn measure(recipes: &[Recipe], measure: Measure, time: Duration, runs: usize) -> Vec<Series> {
    let mut contenders: Vec<Contender> = contenders(recipes, measure)
        .into_iter()
        .map(|recipe| Contender::new(recipe.who, move |_| run_one(&recipe, measure, time)))
        .collect();
    if let Measure::Pairs {
        load, floor: true, ..
    } = measure
    {
        let load = Load {
            calls: Calls::Batched,
            ..load
        };
        contenders.push(Contender::new(KERNEL, move |_| {
            Ok(figures(RATE, &kernel::run(load)?))
        }));
    }
    if let Measure::Trips(count) = measure {
        contenders.push(Contender::new(DIRECT, move |_| {
            Ok(vec![trip(&kernel::pair()?, count)?])
        }));
    }
    interleave(contenders, runs)
}

/// Who takes part in a row.
fn contenders(recipes: &[Recipe], measure: Measure) -> Vec<Recipe> {
    let mut recipes = recipes.to_vec();
    let ours = recipes.iter().find(|recipe| recipe.who == OURS).cloned();
    match measure {
        Measure::Trips(_) => recipes.extend(ours.map(|ours| ours.with(SPIN, &["--spin"]))),
        // It takes half a minute, and there is no target.
        Measure::Ports(_) => recipes.retain(|recipe| recipe.who != VDE),
        Measure::Tcp {
            far: FarEnd::Tap, ..
        } => recipes.retain(|recipe| recipe.who != OLD),
        Measure::Guests => {
            recipes.retain(|recipe| recipe.who != VDE);
            recipes.extend(ours.map(|ours| ours.by_bess(BESS)));
        }
        // What the other protocols cost; a connected pair of sockets has a longer queue.
        Measure::Pairs { .. } => {
            recipes.extend(ours.as_ref().map(|ours| ours.by_bess(BESS)));
            recipes.extend(ours.map(|ours| ours.by_vde(BY_VDE)));
        }
        _ => {}
    }
    recipes
}

fn run_one(recipe: &Recipe, measure: Measure, time: Duration) -> Result<Figures, Error> {
    if let Measure::Tcp { far, way } = measure {
        let found = tcp::run(recipe, far, way, time)?;
        return Ok(vec![
            (THROUGHPUT, found.bits_per_second / 1e9),
            (RETRANSMITS, found.retransmits),
        ]);
    }
    let switch = recipe.start()?;
    match measure {
        Measure::Pairs { pairs, load, .. } => run_pairs(&switch, pairs, load),
        Measure::Crowd { senders, load } => run_crowd(&switch, senders, load),
        Measure::Trips(count) => Ok(vec![trip(&Pair::plug(&switch)?, count)?]),
        Measure::Broadcast { ports, window } => {
            let outcome = broadcast::run(&switch, ports, window, time)?;
            Ok(figures(COPIES, &outcome))
        }
        Measure::Deaf { ports, load } => run_deaf(&switch, ports, load),
        Measure::Ports(count) => open_ports(&switch, count),
        Measure::Idle { ports, load } => run_beside_idle(&switch, ports, load),
        Measure::Guests => {
            let (before, start) = (switch.cpu()?, Instant::now());
            let rate = guests::transfer(&switch)?;
            let cpu = switch.cpu()?.saturating_sub(before);
            let busy = 100.0 * seconds(cpu) / seconds(start.elapsed());
            Ok(vec![(TRANSFER, rate), (BUSY, busy)])
        }
        Measure::Tcp { .. } => Ok(Vec::new()),
    }
}

fn run_pairs(switch: &Switch, pairs: usize, load: Load) -> Result<Figures, Error> {
    let pairs = (0..pairs)
        .map(|_| Pair::plug(switch))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(figures(RATE, &load::run(|| switch.cpu(), &pairs, load)?))
}

/// Senders that all have one target.
fn run_crowd(switch: &Switch, senders: usize, load: Load) -> Result<Figures, Error> {
    let target = Pair::plug(switch)?;
    let mut others = Vec::new();
    for _ in 1..senders {
        let port = switch.plug()?;
        load::greet(&port, &target.to)?;
        others.push(port);
    }
    let senders = std::iter::once(&target.from)
        .chain(&others)
        .collect::<Vec<_>>();
    let outcome = load::run_crowd(|| switch.cpu(), &senders, &target.to, load)?;
    Ok(figures(RATE, &outcome))
}

fn run_deaf(switch: &Switch, ports: usize, load: Load) -> Result<Figures, Error> {
    let pair = [Pair::plug(switch)?];
    let before = load::run(|| switch.cpu(), &pair, load)?;
    let deaf = (0..ports)
        .map(|_| switch.plug())
        .collect::<Result<Vec<_>, _>>()?;
    let [Pair { from, to }] = &pair;
    let noise = frame(Mac::BROADCAST, from.mac, 0, FULL);
    for _ in 0..300 {
        from.send(&noise)
            .map_err(Error::system("sending a broadcast"))?;
        to.drain();
    }
    // What is still on its way to those who read must not count as the load's.
    load::quiet(to)?;
    let beside = load::run(|| switch.cpu(), &pair, load)?;
    drop(deaf);
    let mut figures = figures(RATE, &beside);
    figures.insert(0, (KEPT, 100.0 * beside.rate() / before.rate()));
    Ok(figures)
}

fn run_beside_idle(switch: &Switch, ports: usize, load: Load) -> Result<Figures, Error> {
    // The pair is there first: what it says before the switch knows it goes to nobody else.
    let pair = [Pair::plug(switch)?];
    let idle = (2..ports)
        .map(|_| switch.plug())
        .collect::<Result<Vec<_>, _>>()?;
    let mut figures = figures(RATE, &load::run(|| switch.cpu(), &pair, load)?);
    let [pair] = &pair;
    figures.push(trip(pair, 1000)?);
    drop(idle);
    Ok(figures)
}

fn trip(pair: &Pair, count: u64) -> Result<(Metric, f64), Error> {
    Ok((TRIP, seconds(trips::median(pair, count)?) * 1e6))
}

fn open_ports(switch: &Switch, count: usize) -> Result<Figures, Error> {
    let start = Instant::now();
    let ports = (0..count)
        .map(|_| switch.plug())
        .collect::<Result<Vec<_>, _>>()?;
    let opened = start.elapsed();
    let resident = load::count(switch.resident()?) / f64::from(1 << 20);
    drop(ports);
    Ok(vec![(OPENED, seconds(opened)), (RESIDENT, resident)])
}

fn figures(rate: Metric, outcome: &Outcome) -> Figures {
    vec![
        (CPU, outcome.cpu_nanoseconds()),
        (rate, outcome.rate()),
        (LOSS, outcome.loss()),
    ]
}

/// Thousands of ports need thousands of descriptors, here and in the switches.
fn raise_descriptors() -> Result<(), Error> {
    let limit = Resource::RLIMIT_NOFILE;
    let (_, hard) = getrlimit(limit).map_err(Error::system("reading the descriptor limit"))?;
    setrlimit(limit, hard, hard).map_err(Error::system("raising the descriptor limit"))
}
