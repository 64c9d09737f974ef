//! Two threads: one composes pieces of the image, the other writes them.

use std::{
    sync::mpsc::{channel, sync_channel},
    thread,
};

use crate::{compose::Piece, error::MooError, stop::Stop};

/// Pieces on their way: enough that neither thread waits for the other's bad moments.
const PIECES: usize = 8;

/// Composes pieces with `fill`, on a thread of its own, until it says that there is none, and
/// writes them with `write` in the same order.
///
/// # Errors
/// The first error of either, or that a signal came.
pub(crate) fn run(
    stop: &Stop,
    mut fill: impl FnMut(&mut Piece) -> Result<bool, MooError> + Send,
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
            // Either channel is closed when the writer has failed.
            while let Ok(mut piece) = empty.recv() {
                stop.check()?;
                if !fill(&mut piece)? || give.send(piece).is_err() {
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
