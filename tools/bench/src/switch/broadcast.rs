//! One port talks to all others.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
};

use crate::{
    error::Error,
    switch::{
        batch::Receiver,
        frame::{Mac, frame, renumber},
        load::{Outcome, Window},
        port::Port,
        process::Switch,
    },
};

/// How long the receiver waits for stragglers once nothing is sent any more.
const STRAGGLERS: Duration = Duration::from_millis(200);

/// Sends 64-byte broadcasts to `listeners` ports for a time. The outcome counts copies.
///
/// # Errors
/// A socket or the switch fails.
pub fn run(
    switch: &Switch,
    listeners: usize,
    window: Option<u64>,
    time: Duration,
) -> Result<Outcome, Error> {
    let talker = switch.plug()?;
    let ports = (0..listeners)
        .map(|_| switch.plug())
        .collect::<Result<Vec<_>, _>>()?;
    let listeners = u64::try_from(listeners).unwrap_or(u64::MAX);
    let window = window.map(|broadcasts| Window::new(broadcasts * listeners));
    let finished = AtomicBool::new(false);
    let before = switch.cpu()?;
    let start = Instant::now();
    let (sent, received) = thread::scope(|scope| {
        let receiver = scope.spawn(|| receive(&ports, window.as_ref(), &finished));
        let sent = send(&talker, listeners, window.as_ref(), time);
        finished.store(true, Ordering::Release);
        (sent, receiver.join())
    });
    let sent = sent.map_err(Error::system("sending broadcasts"))?;
    let (delivered, last) = received
        .unwrap_or(Err(Errno::EIO))
        .map_err(Error::system("receiving broadcasts"))?;
    Ok(Outcome {
        sent: sent * listeners,
        delivered,
        span: last.saturating_duration_since(start),
        cpu: switch.cpu()?.saturating_sub(before),
    })
}

fn send(
    talker: &Port,
    listeners: u64,
    window: Option<&Window>,
    time: Duration,
) -> Result<u64, Errno> {
    let mut out = frame(Mac::BROADCAST, talker.mac, 0, 64);
    let start = Instant::now();
    let mut sent = 0;
    while start.elapsed() < time {
        if let Some(window) = window {
            window.wait(sent * listeners, listeners);
        }
        renumber(&mut out, sent);
        talker.send(&out)?;
        sent += 1;
    }
    Ok(sent)
}

fn receive(
    ports: &[Port],
    window: Option<&Window>,
    finished: &AtomicBool,
) -> Result<(u64, Instant), Errno> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    for (index, port) in (0_u64..).zip(ports) {
        epoll.add(&port.socket, EpollEvent::new(EpollFlags::EPOLLIN, index))?;
    }
    let mut events = vec![EpollEvent::empty(); 256];
    let mut batch = Receiver::default();
    let mut delivered = 0;
    let mut last = Instant::now();
    let limit = EpollTimeout::try_from(STRAGGLERS).unwrap_or(EpollTimeout::NONE);
    loop {
        let ready = match epoll.wait(&mut events, limit) {
            Err(Errno::EINTR) => 0,
            other => other?,
        };
        let mut round = 0;
        for event in events.iter().take(ready) {
            let index = usize::try_from(event.data()).unwrap_or(usize::MAX);
            if let Some(port) = ports.get(index) {
                round += batch.receive(port, false)?.0;
            }
        }
        delivered += round;
        if round > 0 {
            last = Instant::now();
            if let Some(window) = window {
                window.arrived(delivered - 1);
            }
        } else if finished.load(Ordering::Acquire) && last.elapsed() >= STRAGGLERS {
            return Ok((delivered, last));
        }
    }
}
