//! Round trips of one frame.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use nix::errno::Errno;

use crate::{
    error::Error,
    switch::{
        frame::{frame, number, renumber},
        load::Pair,
        port::Port,
    },
};

/// How long a lost frame is waited for.
const LOST_AFTER: Duration = Duration::from_millis(100);

/// The median of `trips` round trips of a 64-byte frame between a pair's ports.
///
/// # Errors
/// A socket fails, or most trips are lost.
pub fn median(pair: &Pair, trips: u64) -> Result<Duration, Error> {
    pair.from.receive_within(LOST_AFTER)?;
    pair.to.receive_within(LOST_AFTER)?;
    let finished = AtomicBool::new(false);
    let times = thread::scope(|scope| {
        let echo = scope.spawn(|| echo(&pair.to, &pair.from, &finished));
        let times = go(pair, trips);
        finished.store(true, Ordering::Release);
        echo.join().unwrap_or(Err(Errno::EIO)).and(times)
    });
    let mut times = times.map_err(Error::system("sending frames to and fro"))?;
    times.sort_unstable();
    match times.get(times.len() / 2) {
        Some(median) if u64::try_from(times.len()).unwrap_or(0) > trips / 2 => Ok(*median),
        _ => Err(Error::Unsupported("most round trips were lost".into())),
    }
}

fn go(pair: &Pair, trips: u64) -> Result<Vec<Duration>, Errno> {
    let mut out = frame(pair.to.mac, pair.from.mac, 0, 64);
    let mut room = [0; 2048];
    let mut times = Vec::new();
    for trip in 0..trips {
        renumber(&mut out, trip);
        let start = Instant::now();
        pair.from.send(&out)?;
        while let Some(length) = pair.from.receive(&mut room)? {
            let found = room.get(..length);
            if found.and_then(|frame| number(frame, pair.from.mac)) == Some(trip) {
                times.push(start.elapsed());
                break;
            }
        }
    }
    Ok(times)
}

fn echo(port: &Port, back_to: &Port, finished: &AtomicBool) -> Result<(), Errno> {
    let mut back = frame(back_to.mac, port.mac, 0, 64);
    let mut room = [0; 2048];
    while !finished.load(Ordering::Acquire) {
        let Some(length) = port.receive(&mut room)? else {
            continue;
        };
        let found = room.get(..length);
        if let Some(number) = found.and_then(|frame| number(frame, port.mac)) {
            renumber(&mut back, number);
            port.send(&back)?;
        }
    }
    Ok(())
}
