//! Checking a network file, carrying it out, taking it back.

use std::{fs::File, io::Read as _, path::Path, time::Duration};

use nix::fcntl::Flock;
use uml_core::{IoError, console, hostnet::Host, lock};

use super::{change::Change, file, model::Network, plan, state::State};
use crate::{Failure, cli::Doing};

/// A network file is a page or two: more than this is something else.
const LARGEST_FILE: usize = 1 << 20;

/// The network namespace of this thread, as a file.
const NAMESPACE: &str = "/proc/thread-self/ns/net";

/// How long a run waits for another one: the kernel takes minutes for thousands of devices.
const PATIENCE: Duration = Duration::from_secs(600);

/// Says whether a file is correct.
pub(crate) fn check(path: &Path) -> Result<(), Failure> {
    let network = load(path)?;
    let count = |number: usize, what: &str| match number {
        1 => format!("1 {what}"),
        _ => format!("{number} {what}s"),
    };
    let taps = count(network.taps.len(), "tap");
    let bridges = count(network.bridges.len(), "bridge");
    let vxlans = count(network.vxlans.len(), "VXLAN link");
    let path = path.display();
    Ok(console::line(format_args!(
        "{path}: correct: {taps}, {bridges}, {vxlans}"
    ))?)
}

/// Makes the host as a file describes it.
pub(crate) fn apply(path: &Path, doing: Doing) -> Result<(), Failure> {
    run(path, doing, plan::apply)
}

/// Removes all that a file describes.
pub(crate) fn remove(path: &Path, doing: Doing) -> Result<(), Failure> {
    run(path, doing, plan::remove)
}

fn run(
    path: &Path,
    doing: Doing,
    plan: fn(&Network, State) -> Result<Vec<Change>, Failure>,
) -> Result<(), Failure> {
    let network = load(path)?;
    // Held to the end: two runs at once would each plan from what the other is changing.
    let _lock = wait_for_others()?;
    let mut host = Host::open()?;
    let changes = plan(&network, State::of(&mut host)?)?;
    if changes.is_empty() {
        let path = path.display();
        return Ok(console::line(format_args!("{path}: nothing to change"))?);
    }
    match doing {
        Doing::ForShow => {
            for change in &changes {
                console::line(change)?;
            }
            Ok(())
        }
        Doing::ForReal => carry_out(changes, &mut host),
    }
}

/// Makes the changes one after the other. When one fails, those before it are undone, the last one
/// first.
fn carry_out(changes: Vec<Change>, host: &mut Host) -> Result<(), Failure> {
    let mut made = Vec::new();
    let mut output = Ok(());
    for change in changes {
        if let Err(failure) = change.make(host) {
            let mut lines = vec![format!("tunctl: failed: {change}")];
            lines.extend_from_slice(failure.lines());
            lines.extend(undo(made, host));
            return Err(Failure(lines));
        }
        // Output that nobody can read must not stop the work half-way.
        output = output.and(console::line(&change));
        made.push(change);
    }
    Ok(output?)
}

/// Undoes what was made; returns lines that say how that went.
fn undo(made: Vec<Change>, host: &mut Host) -> Vec<String> {
    if made.is_empty() {
        return vec!["tunctl: nothing was changed".to_owned()];
    }
    let mut lines = Vec::new();
    for change in made.into_iter().rev() {
        let opposite = change.opposite();
        match opposite.make(host) {
            Ok(()) => lines.push(format!("tunctl: undone: {opposite}")),
            Err(failure) => {
                lines.push(format!("tunctl: can't be undone: {opposite}"));
                lines.extend_from_slice(failure.lines());
            }
        }
    }
    lines
}

/// Waits until no other run changes this network namespace, whatever file it was given, and keeps
/// others waiting while the lock is held.
fn wait_for_others() -> Result<Flock<File>, Failure> {
    let fail = |doing| move |error| Failure::new(&IoError::at(doing, NAMESPACE)(error));
    let namespace = File::open(NAMESPACE).map_err(fail("opening network namespace"))?;
    // Whoever is in the namespace can lock it: none may do so in silence, or for good.
    let waiting = || {
        console::note("tunctl: waiting for another run in this network namespace to end");
    };
    lock::within(PATIENCE, namespace, waiting)
        .map_err(fail("locking network namespace"))?
        .ok_or_else(|| {
            let seconds = PATIENCE.as_secs();
            Failure::say(&format!(
                "another run has not ended after {seconds} s: nothing was changed; lslocks shows \
                 who has locked {NAMESPACE}"
            ))
        })
}

/// Opens and reads a network file.
fn load(path: &Path) -> Result<Network, Failure> {
    let fail = |doing| move |error| Failure::new(&IoError::at(doing, path)(error));
    let file = File::open(path).map_err(fail("opening network file"))?;
    let mut text = String::new();
    file.take(LARGEST_FILE as u64 + 1)
        .read_to_string(&mut text)
        .map_err(fail("reading network file"))?;
    if text.len() > LARGEST_FILE {
        let path = path.display();
        return Err(Failure::say(&format!(
            "{path} is larger than {LARGEST_FILE} bytes: it is no network file"
        )));
    }
    file::read(path, &text).map_err(Failure::all)
}
