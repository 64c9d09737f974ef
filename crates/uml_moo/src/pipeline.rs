//! Threads that compose pieces of the image and write them.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{channel, sync_channel},
    },
    thread,
};

use crate::{
    compose::{Composer, Part, Piece, Plan},
    error::MooError,
    source::Source,
    stop::Stop,
};

/// Pieces on their way to a stream: enough that neither thread waits for the other's bad moments.
const PIECES: usize = 8;

/// Threads that read and write: while one writes, which the file system lets only one do at a time,
/// another reads. Each keeps its window in its own processor's cache from the reading to the
/// writing.
const THREADS: usize = 2;

/// Composes the parts of `plan` and writes them with `write`, on several threads and so in about
/// ascending order.
///
/// # Errors
/// The first error of any thread, or that a signal came.
pub(crate) fn scatter(
    source: &Source,
    plan: impl Plan,
    stop: &Stop,
    write: impl Fn(&Piece) -> Result<(), MooError> + Sync,
) -> Result<(), MooError> {
    let plan = Mutex::new(plan);
    let failed = AtomicBool::new(false);
    let work = || {
        let mut composer = Composer::new(source);
        let (mut part, mut piece) = (Part::new(), Piece::default());
        while !failed.load(Ordering::Relaxed) {
            stop.check()?;
            // A thread that died with the plan in its hands is reported by its end.
            if !plan
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .next(&mut part)?
            {
                break;
            }
            composer.compose(&part, &mut piece)?;
            write(&piece)?;
        }
        Ok(())
    };
    let work = || {
        let done = work();
        failed.fetch_or(done.is_err(), Ordering::Relaxed);
        done
    };
    thread::scope(|scope| {
        let others: Vec<_> = (1..THREADS).map(|_| scope.spawn(work)).collect();
        let mut done = work();
        for other in others {
            done = done.and(other.join().unwrap_or(Err(MooError::Thread)));
        }
        done
    })
}

/// Composes the parts of `plan` on a thread of its own and writes them with `write` in ascending
/// order.
///
/// # Errors
/// The first error of either, or that a signal came.
pub(crate) fn in_order(
    source: &Source,
    mut plan: impl Plan,
    stop: &Stop,
    mut write: impl FnMut(&Piece) -> Result<(), MooError>,
) -> Result<(), MooError> {
    let (give, pieces) = sync_channel(PIECES);
    let (give_back, empty) = channel();
    for _ in 0..PIECES {
        // The receiver lives in this function.
        let _ = give_back.send(Piece::default());
    }
    thread::scope(|scope| {
        let reader = scope.spawn(move || {
            let mut composer = Composer::new(source);
            let mut part = Part::new();
            // Either channel is closed when the writer has failed.
            while let Ok(mut piece) = empty.recv() {
                stop.check()?;
                if !plan.next(&mut part)? {
                    break;
                }
                composer.compose(&part, &mut piece)?;
                if give.send(piece).is_err() {
                    break;
                }
            }
            Ok(())
        });
        let written = (|| {
            for piece in pieces {
                write(&piece)?;
                let _ = give_back.send(piece);
            }
            Ok(())
        })();
        drop(give_back);
        let read = reader.join().unwrap_or(Err(MooError::Thread));
        written.and(read)
    })
}
