//! The event loop: one thread, one epoll, nothing that blocks.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    rc::Rc,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::{
        epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
        signal::{SigSet, Signal},
        signalfd::{SfdFlags, SignalFd},
    },
    unistd,
};
use uml_core::{
    frame::MAX_LEN,
    sys::{batch::Arena, signals::is_ignored},
    wire::{sockaddr::Sockaddr, switch::Oldest},
};

use crate::{
    callers::Callers,
    exchange::Exchange,
    fabric::{MAX_BATCH, PortId},
    link::Links,
    listen::OwnPath,
    log::{Level, Log},
    token::{Source, Token},
};

mod door;
mod plug;
mod serve;
mod tell;

pub(crate) use door::{Door, Limits};

/// How many events are taken from the system at once.
const EVENTS: usize = 256;

/// How long nobody is let in after descriptors ran out, unless one is freed before.
const DOOR_PAUSE: Duration = Duration::from_secs(1);

/// Why the switch ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// A signal said so.
    Signal(Signal),
    /// Standard input came to its end.
    Input,
}

/// The socket that guests of version 0 share.
#[derive(Debug)]
struct Shared {
    socket: OwnedFd,
    senders: HashMap<Sockaddr, PortId>,
    readable: bool,
    _path: OwnPath,
}

/// The switch.
#[derive(Debug)]
pub(crate) struct Server {
    log: Log,
    exchange: Exchange,
    links: Links,
    arena: Arena,
    epoll: Rc<Epoll>,
    signals: SignalFd,
    doors: Vec<Door>,
    /// When the doors open again, where they are closed.
    closed_until: Option<Duration>,
    callers: Callers,
    shared: Option<Shared>,
    limits: Limits,
    /// The ports that are no guests.
    fixed: Vec<PortId>,
    /// Ports with frames to be read, each once.
    ready: VecDeque<PortId>,
    numbers: BTreeMap<u32, PortId>,
    /// By slot: the number that is shown.
    shown: Vec<u32>,
    spin: Option<Duration>,
    start: Instant,
    now: Duration,
    ending: Option<Ending>,
}

/// The signals that the switch takes.
const SIGNALS: [Signal; 4] = [
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGUSR1,
];

impl Server {
    /// A switch without ports and doors. From now on the signals wait for [`Server::run`].
    ///
    /// # Errors
    /// What the system said.
    pub(crate) fn new(
        log: Log,
        exchange: Exchange,
        limits: Limits,
        spin: Option<Duration>,
    ) -> io::Result<Self> {
        let epoll = Rc::new(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?);
        let mut mask = SigSet::empty();
        for signal in SIGNALS {
            // Under `nohup` SIGHUP is ignored, and stays so. A shell's background jobs have SIGINT
            // ignored; it ends the switch all the same, as ever.
            if signal == Signal::SIGINT || !is_ignored(signal) {
                mask.add(signal);
            }
        }
        mask.thread_block()?;
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        watch(&epoll, signals.as_fd(), Token::new(Source::Signal, 0, 0))?;
        Ok(Self {
            log,
            exchange,
            links: Links::new(Rc::clone(&epoll)),
            arena: Arena::new(MAX_BATCH, MAX_LEN),
            epoll,
            signals,
            doors: Vec::new(),
            closed_until: None,
            callers: Callers::default(),
            shared: None,
            limits,
            fixed: Vec::new(),
            ready: VecDeque::new(),
            numbers: BTreeMap::new(),
            shown: Vec::new(),
            spin,
            start: Instant::now(),
            now: Duration::ZERO,
            ending: None,
        })
    }

    /// The log.
    pub(crate) fn log(&mut self) -> &mut Log {
        &mut self.log
    }

    /// Listens at a door.
    ///
    /// # Errors
    /// What the system said.
    pub(crate) fn open_door(&mut self, door: Door) -> io::Result<()> {
        let slot = u32::try_from(self.doors.len()).unwrap_or(u32::MAX);
        watch(
            &self.epoll,
            door.socket.as_fd(),
            Token::new(Source::Listener, slot, 0),
        )?;
        self.doors.push(door);
        Ok(())
    }

    /// Takes frames of version 0's guests from this socket, and their requests at every door.
    ///
    /// # Errors
    /// What the system said.
    pub(crate) fn share_data_socket(&mut self, socket: OwnedFd, path: OwnPath) -> io::Result<()> {
        let interest = EpollFlags::EPOLLIN | EpollFlags::EPOLLET;
        let token = Token::new(Source::Data, 0, 0);
        self.epoll
            .add(&socket, EpollEvent::new(interest, token.into()))?;
        self.shared = Some(Shared {
            socket,
            senders: HashMap::new(),
            readable: true,
            _path: path,
        });
        Ok(())
    }

    /// Ends when standard input does.
    ///
    /// # Errors
    /// What the system said.
    pub(crate) fn watch_input(&mut self) -> io::Result<()> {
        let input = io::stdin();
        watch(&self.epoll, input.as_fd(), Token::new(Source::Input, 0, 0))
    }

    /// Switches until something ends it.
    ///
    /// # Errors
    /// Where waiting for events fails, which it doesn't.
    pub(crate) fn run(&mut self) -> io::Result<Ending> {
        let mut events = [EpollEvent::empty(); EVENTS];
        loop {
            let count = self.wait(&mut events)?;
            self.now = self.start.elapsed();
            for event in &events[..count] {
                self.handle(Token::from(event.data()), event.events());
            }
            // First: it may find ports that may be read from again, or that are gone.
            self.look_at_the_clock();
            self.serve_all();
            if let Some(ending) = self.ending {
                return Ok(ending);
            }
        }
    }

    fn wait(&mut self, events: &mut [EpollEvent]) -> io::Result<usize> {
        let shared = self.shared.as_ref().is_some_and(|shared| shared.readable);
        if shared || !self.ready.is_empty() {
            return take(&self.epoll, events, EpollTimeout::ZERO);
        }
        let deadline = self.deadline();
        if let Some(spin) = self.spin {
            let until = deadline.map_or(self.now + spin, |at| at.min(self.now + spin));
            loop {
                let count = take(&self.epoll, events, EpollTimeout::ZERO)?;
                if count > 0 || self.start.elapsed() >= until {
                    if count > 0 {
                        return Ok(count);
                    }
                    break;
                }
                std::hint::spin_loop();
            }
        }
        let timeout = deadline.map_or(EpollTimeout::NONE, |at| {
            let left = at.saturating_sub(self.start.elapsed());
            // Rounded up: too early would be a round for nothing.
            let millis = left.as_micros().div_ceil(1000);
            let millis = i32::try_from(millis).unwrap_or(i32::MAX);
            EpollTimeout::try_from(millis).unwrap_or(EpollTimeout::MAX)
        });
        take(&self.epoll, events, timeout)
    }

    fn deadline(&self) -> Option<Duration> {
        [
            self.exchange.deadline(),
            self.callers.deadline(),
            self.closed_until,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn handle(&mut self, token: Token, events: EpollFlags) {
        match token.source() {
            Some(Source::Port) => {
                if let Some(port) = self.links.port(token) {
                    self.handle_port(port, events);
                }
            }
            Some(Source::Data) => {
                if let Some(shared) = &mut self.shared {
                    shared.readable = true;
                }
            }
            Some(Source::Control) => {
                if let Some(port) = self.links.port(token) {
                    self.hear_control(port);
                }
            }
            Some(Source::Listener) => self.let_in(token.slot() as usize),
            Some(Source::Caller) => self.hear_caller(token.slot(), token.generation()),
            Some(Source::Signal) => self.take_signals(),
            Some(Source::Input) => self.read_input(),
            None => {}
        }
    }

    fn handle_port(&mut self, port: PortId, events: EpollFlags) {
        if events.contains(EpollFlags::EPOLLOUT) {
            if self.exchange.is_blocked(port) {
                self.exchange.writable(port, &mut self.links);
            } else {
                self.links.disarm(port);
            }
        }
        let readable = EpollFlags::EPOLLIN
            | EpollFlags::EPOLLRDHUP
            | EpollFlags::EPOLLHUP
            | EpollFlags::EPOLLERR;
        if !events.intersects(readable) {
            return;
        }
        if let Some(link) = self.links.get_mut(port) {
            link.readable = true;
            if self.exchange.may_send(port, self.now) {
                self.make_ready(port);
            } else {
                // What else it sends while it has to wait needn't wake anybody.
                self.links.mute(port, true);
            }
        }
    }

    fn look_at_the_clock(&mut self) {
        let Some(deadline) = self.deadline() else {
            return;
        };
        if deadline > self.now && self.callers.len() <= crate::callers::MAX_CALLERS {
            return;
        }
        self.exchange.expire(self.now);
        self.exchange.sweep(self.now);
        while let Some(port) = self.exchange.take_stuck() {
            // Where it can't take frames for another reason, the try brings that to light.
            self.exchange.writable(port, &mut self.links);
        }
        while let Some(port) = self.exchange.take_resumed() {
            self.make_ready(port);
        }
        while let Some(caller) = self.callers.take_late(self.now) {
            self.log.detail(format_args!(
                "No request came from {}: it is dropped",
                caller.peer
            ));
        }
        if self.closed_until.is_some_and(|until| until <= self.now) {
            self.open_doors();
        }
    }

    fn take_signals(&mut self) {
        while let Ok(Some(info)) = self.signals.read_signal() {
            let number = i32::try_from(info.ssi_signo).unwrap_or_default();
            match Signal::try_from(number) {
                Ok(Signal::SIGUSR1) => self.tell_counts(),
                Ok(signal) => self.end(Ending::Signal(signal)),
                Err(_) => {}
            }
        }
    }

    fn read_input(&mut self) {
        let mut bytes = [0; 256];
        match unistd::read(io::stdin(), &mut bytes) {
            Ok(1..) | Err(Errno::EAGAIN | Errno::EINTR) => {}
            Ok(_) => self.end(Ending::Input),
            Err(error) => {
                self.log
                    .problem(format_args!("Reading from stdin: {}", error.desc()));
                self.end(Ending::Input);
            }
        }
    }

    fn end(&mut self, ending: Ending) {
        match ending {
            Ending::Signal(signal) => self.log.say(format_args!(
                "Caught signal {}, cleaning up and exiting",
                signal as i32
            )),
            Ending::Input => self.log.say("EOF on stdin, cleaning up and exiting"),
        }
        if self.log.shows(Level::Verbose) {
            self.tell_counts();
        }
        self.ending = Some(ending);
    }

    fn oldest(&self) -> Oldest {
        if self.shared.is_some() {
            Oldest::V0
        } else {
            Oldest::V1
        }
    }
}

fn watch(epoll: &Epoll, fd: BorrowedFd<'_>, token: Token) -> io::Result<()> {
    Ok(epoll.add(fd, EpollEvent::new(EpollFlags::EPOLLIN, token.into()))?)
}

fn take(epoll: &Epoll, events: &mut [EpollEvent], timeout: EpollTimeout) -> io::Result<usize> {
    match epoll.wait(events, timeout) {
        Err(Errno::EINTR) => Ok(0),
        result => Ok(result?),
    }
}
