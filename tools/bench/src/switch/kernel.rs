//! What the kernel alone takes to pass a datagram in and one out: a relay that looks at nothing.

use std::{
    io::{IoSlice, IoSliceMut},
    os::fd::{AsRawFd as _, OwnedFd},
    path::PathBuf,
    sync::mpsc,
    thread,
};

use nix::{
    errno::Errno,
    sys::socket::{
        AddressFamily, ControlMessage, MsgFlags, MultiHeaders, SockFlag, SockType, recvmmsg,
        sendmmsg, socketpair,
    },
    unistd::gettid,
};

use crate::{
    error::Error,
    switch::{
        batch::BATCH,
        load::{self, Load, Outcome, Pair},
        port::Port,
        process,
    },
};

/// Runs a load of one pair through a thread that only receives and sends batches.
///
/// # Errors
/// A socket fails.
pub fn run(load: Load) -> Result<Outcome, Error> {
    let (from, relay_in) = sockets()?;
    let (relay_out, to) = sockets()?;
    let pairs = [Pair {
        from: Port::bare(from),
        to: Port::bare(to),
    }];
    let (tell, told) = mpsc::channel();
    let relay = thread::spawn(move || {
        // The other side waits for it, so it is there.
        let _ = tell.send(gettid());
        relay(&relay_in, &relay_out)
    });
    let thread = told
        .recv()
        .map_err(|_| Error::Unsupported("the relay's thread ended".into()))?;
    let schedstat = PathBuf::from(format!("/proc/self/task/{thread}/schedstat"));
    let outcome = load::run(|| process::thread_cpu(&schedstat), &pairs, load);
    // Its end of the sockets gone, the relay ends.
    drop(pairs);
    let relayed = relay.join().unwrap_or(Err(Errno::EIO));
    relayed.map_err(Error::system("relaying frames"))?;
    outcome
}

/// Two ports with nothing between them.
///
/// # Errors
/// A socket can't be made.
pub fn pair() -> Result<Pair, Error> {
    let (from, to) = sockets()?;
    Ok(Pair {
        from: Port::bare(from),
        to: Port::bare(to),
    })
}

fn sockets() -> Result<(OwnedFd, OwnedFd), Error> {
    // SEQPACKET costs what DGRAM costs, and tells of its end.
    let kind = SockType::SeqPacket;
    socketpair(AddressFamily::Unix, kind, None, SockFlag::SOCK_CLOEXEC)
        .map_err(Error::system("making sockets"))
}

fn relay(from: &OwnedFd, to: &OwnedFd) -> Result<(), Errno> {
    let mut rooms = vec![[0_u8; 2048]; BATCH];
    let mut headers = MultiHeaders::<()>::preallocate(BATCH, None);
    let mut lengths = Vec::with_capacity(BATCH);
    let addresses = [None; BATCH];
    let none: [ControlMessage; 0] = [];
    loop {
        lengths.clear();
        {
            let mut slices: Vec<[IoSliceMut; 1]> = rooms
                .iter_mut()
                .map(|room| [IoSliceMut::new(room)])
                .collect();
            let slices = slices.iter_mut();
            let wait = MsgFlags::MSG_WAITFORONE;
            let received = recvmmsg(from.as_raw_fd(), &mut headers, slices, wait, None)?;
            lengths.extend(received.map(|message| message.bytes));
        }
        if lengths.contains(&0) {
            return Ok(());
        }
        let slices: Vec<[IoSlice; 1]> = rooms
            .iter()
            .zip(&lengths)
            .map(|(room, length)| [IoSlice::new(room.get(..*length).unwrap_or_default())])
            .collect();
        let flags = MsgFlags::MSG_NOSIGNAL;
        sendmmsg(
            to.as_raw_fd(),
            &mut headers,
            &slices,
            addresses,
            none,
            flags,
        )?;
    }
}
