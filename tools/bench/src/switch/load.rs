//! Pairs of ports at work: one thread sends, one receives.

use std::{
    os::fd::AsFd as _,
    sync::{
        Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, poll},
};

use crate::{
    error::Error,
    switch::{
        batch::{BATCH, Receiver, Sender},
        frame::{Mac, frame, number, renumber},
        port::Port,
        process::Switch,
    },
};

/// How long the receiver waits for stragglers once nothing is sent any more.
const STRAGGLERS: Duration = Duration::from_millis(100);
/// How long a sender with a full window waits before it takes what is missing for lost.
const LOST_AFTER: Duration = Duration::from_micros(500);

/// What the pairs do.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Length of a frame in bytes.
    pub length: usize,
    /// One frame a call, as a guest's kernel does, or batches.
    pub calls: Calls,
    /// Most frames in flight; none: as fast as the sockets take them.
    pub window: Option<u64>,
    /// One broadcast of 1514 bytes after so many frames; none: no broadcasts.
    pub broadcast_every: Option<u64>,
    /// For how long frames are sent.
    pub time: Duration,
}

/// How frames go through the system-call interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Calls {
    /// One frame a call.
    Single,
    /// Up to [`BATCH`] frames a call.
    Batched,
}

/// What a load came to.
#[derive(Debug, Clone, Copy)]
pub struct Outcome {
    /// Frames that were sent.
    pub sent: u64,
    /// Frames that arrived.
    pub delivered: u64,
    /// From the first send to the last arrival.
    pub span: Duration,
    /// The switch's CPU time.
    pub cpu: Duration,
}

impl Outcome {
    /// CPU nanoseconds of the switch for each frame that arrived.
    #[must_use]
    pub fn cpu_nanoseconds(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e9 / count(self.delivered)
    }

    /// Frames that arrived in a second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        count(self.delivered) / self.span.as_secs_f64()
    }

    /// Share of the frames that did not arrive, in percent.
    #[must_use]
    pub fn loss(&self) -> f64 {
        100.0 * (1.0 - count(self.delivered) / count(self.sent))
    }
}

/// A count as a figure (exact below 2^52).
#[must_use]
pub fn count(count: u64) -> f64 {
    let high = u32::try_from(count >> 32).unwrap_or(u32::MAX);
    let low = u32::try_from(count & 0xffff_ffff).unwrap_or(u32::MAX);
    f64::from(high) * 4_294_967_296.0 + f64::from(low)
}

/// A sender and a receiver of frames.
#[derive(Debug)]
pub struct Pair {
    /// Sends.
    pub from: Port,
    /// Receives.
    pub to: Port,
}

impl Pair {
    /// Plugs two ports in and lets the switch learn their addresses.
    ///
    /// # Errors
    /// The switch refuses, or doesn't pass frames on.
    pub fn plug(switch: &Switch) -> Result<Self, Error> {
        let pair = Self {
            from: switch.plug()?,
            to: switch.plug()?,
        };
        greet(&pair.to, &pair.from)?;
        greet(&pair.from, &pair.to)?;
        pair.to.drain();
        Ok(pair)
    }
}

/// Sends one frame and waits for it, so that the switch knows where `from` is.
///
/// # Errors
/// It doesn't arrive.
pub fn greet(from: &Port, to: &Port) -> Result<(), Error> {
    let hello = frame(to.mac, from.mac, u64::MAX, 64);
    from.send(&hello)
        .map_err(Error::system("sending a frame"))?;
    let mut room = [0; 2048];
    let deadline = Instant::now() + Duration::from_secs(5);
    while Instant::now() < deadline {
        match to.receive(&mut room) {
            Ok(Some(length)) if room.get(..length) == Some(&hello) => return Ok(()),
            Ok(_) => {}
            Err(errno) => return Err(Error::system("receiving a frame")(errno)),
        }
    }
    Err(Error::Unsupported("the switch passes no frames on".into()))
}

/// Throws away what arrives, until nothing does.
///
/// # Errors
/// The socket fails.
pub fn quiet(port: &Port) -> Result<(), Error> {
    port.receive_within(STRAGGLERS)?;
    let mut room = [0; 2048];
    while port
        .receive(&mut room)
        .map_err(Error::system("receiving a frame"))?
        .is_some()
    {}
    Ok(())
}

/// Lets all pairs work at once: one thread sends for all of them in turn, one receives.
///
/// `cpu` tells the CPU time of whoever passes the frames on.
///
/// # Errors
/// A socket or the switch fails.
pub fn run(
    cpu: impl Fn() -> Result<Duration, Error>,
    pairs: &[Pair],
    load: Load,
) -> Result<Outcome, Error> {
    let lanes: Vec<Lane> = pairs
        .iter()
        .map(|pair| Lane::new(&pair.from, &pair.to, load))
        .collect();
    let ears: Vec<&Port> = pairs.iter().map(|pair| &pair.to).collect();
    run_lanes(cpu, lanes, &ears, load)
}

/// Lets senders work that all have the same target.
///
/// # Errors
/// A socket or the switch fails.
pub fn run_crowd(
    cpu: impl Fn() -> Result<Duration, Error>,
    senders: &[&Port],
    target: &Port,
    load: Load,
) -> Result<Outcome, Error> {
    let lanes = senders.iter().map(|port| Lane::new(port, target, load));
    run_lanes(cpu, lanes.collect(), &[target], load)
}

fn run_lanes(
    cpu: impl Fn() -> Result<Duration, Error>,
    lanes: Vec<Lane>,
    ears: &[&Port],
    load: Load,
) -> Result<Outcome, Error> {
    for port in ears {
        port.receive_within(STRAGGLERS)?;
    }
    let window = load.window.map(Window::new);
    let finished = AtomicBool::new(false);
    let before = cpu()?;
    let start = Instant::now();
    let (sent, received) = thread::scope(|scope| {
        let receiver = scope.spawn(|| receive(ears, load.calls, window.as_ref(), &finished));
        let sent = send(lanes, load, window.as_ref());
        finished.store(true, Ordering::Release);
        (sent, receiver.join())
    });
    let sent = sent.map_err(Error::system("sending frames"))?;
    let (delivered, last) = received
        .unwrap_or(Err(Errno::EIO))
        .map_err(Error::system("receiving frames"))?;
    Ok(Outcome {
        sent,
        delivered,
        span: last.saturating_duration_since(start),
        cpu: cpu()?.saturating_sub(before),
    })
}

fn send(mut lanes: Vec<Lane>, load: Load, window: Option<&Window>) -> Result<u64, Errno> {
    let start = Instant::now();
    let mut sent = 0;
    let mut next_broadcast = load.broadcast_every;
    while start.elapsed() < load.time {
        for lane in &mut lanes {
            if let Some(window) = window {
                window.wait(lane.next, lane.step());
            }
            sent += lane.send()?;
            if next_broadcast.is_some_and(|at| sent >= at) {
                lane.broadcast()?;
                next_broadcast = load.broadcast_every.map(|every| sent + every);
            }
        }
    }
    Ok(sent)
}

/// One sender.
struct Lane<'a> {
    port: &'a Port,
    frame: Vec<u8>,
    batch: Option<Sender>,
    next: u64,
}

impl<'a> Lane<'a> {
    fn new(port: &'a Port, target: &Port, load: Load) -> Self {
        let frame = frame(target.mac, port.mac, 0, load.length);
        Self {
            port,
            batch: (load.calls == Calls::Batched).then(|| Sender::new(&frame)),
            frame,
            next: 0,
        }
    }

    fn step(&self) -> u64 {
        match self.batch {
            Some(_) => u64::try_from(BATCH).unwrap_or(1),
            None => 1,
        }
    }

    fn send(&mut self) -> Result<u64, Errno> {
        let sent = if let Some(batch) = &mut self.batch {
            batch.send(self.port, self.next, BATCH)?
        } else {
            renumber(&mut self.frame, self.next);
            self.port.send(&self.frame)?;
            1
        };
        self.next += sent;
        Ok(sent)
    }

    /// Sends a frame to everybody that isn't counted.
    fn broadcast(&self) -> Result<(), Errno> {
        let mut noise = frame(Mac::BROADCAST, self.port.mac, 0, 1514);
        // Not the load's ethertype.
        noise.iter_mut().skip(12).take(1).for_each(|byte| *byte = 0);
        self.port.send(&noise)
    }
}

fn receive(
    ears: &[&Port],
    calls: Calls,
    window: Option<&Window>,
    finished: &AtomicBool,
) -> Result<(u64, Instant), Errno> {
    let mut batch = Receiver::default();
    let mut delivered = 0;
    let mut last = Instant::now();
    let mut fds: Vec<PollFd> = ears
        .iter()
        .map(|port| PollFd::new(port.socket.as_fd(), PollFlags::POLLIN))
        .collect();
    let alone = ears.len() == 1;
    loop {
        if !alone {
            let limit = u16::try_from(STRAGGLERS.as_millis()).unwrap_or(u16::MAX);
            match poll(&mut fds, limit) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        let mut round = 0;
        for port in ears {
            let (count, newest) = match calls {
                Calls::Batched => batch.receive(port, alone)?,
                Calls::Single => receive_some(port, alone)?,
            };
            round += count;
            if let (Some(window), Some(newest)) = (window, newest) {
                window.arrived(newest);
            }
        }
        delivered += round;
        if round > 0 {
            last = Instant::now();
        } else if finished.load(Ordering::Acquire) && last.elapsed() >= STRAGGLERS {
            return Ok((delivered, last));
        }
    }
}

/// One frame, waited for; or all that are there.
fn receive_some(port: &Port, wait: bool) -> Result<(u64, Option<u64>), Errno> {
    let mut room = [0; 2048];
    if wait {
        let length = port.receive(&mut room)?;
        let found = length.and_then(|length| number(room.get(..length)?, port.mac));
        return Ok((u64::from(found.is_some()), found));
    }
    let mut count = 0;
    let mut newest = None;
    while let Some(length) = port.receive_ready(&mut room)? {
        if let Some(found) = room.get(..length).and_then(|frame| number(frame, port.mac)) {
            count += 1;
            newest = Some(found);
        }
    }
    Ok((count, newest))
}

/// Bounds the frames in flight of one pair.
#[derive(Debug)]
pub struct Window {
    size: u64,
    state: Mutex<WindowState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct WindowState {
    /// Frames that have arrived, or are taken for lost.
    settled: u64,
    waiting: bool,
}

impl Window {
    /// A window of so many frames.
    #[must_use]
    pub fn new(size: u64) -> Self {
        Self {
            size,
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// Waits until `more` frames may follow the `sent` ones.
    pub fn wait(&self, sent: u64, more: u64) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        while sent + more > state.settled + self.size {
            state.waiting = true;
            let waited = self.changed.wait_timeout(state, LOST_AFTER);
            let (woken, result) = waited.unwrap_or_else(PoisonError::into_inner);
            state = woken;
            state.waiting = false;
            if result.timed_out() {
                state.settled = sent;
            }
        }
    }

    /// Frame `number` has arrived: all up to it are on no way any more.
    pub fn arrived(&self, number: u64) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.settled = state.settled.max(number + 1);
        if state.waiting {
            self.changed.notify_one();
        }
    }
}
