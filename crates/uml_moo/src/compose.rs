//! Composing the image in memory, a window at a time.

use std::{ops::Range, os::unix::fs::FileExt as _};

use uml_core::{
    IoError,
    cow::Bitmap,
    sparse::{self, index, non_zero_parts},
};

use crate::{error::MooError, source::Source};

/// Bytes of the image that are composed at once: they fit the processor's second-level cache.
pub(crate) const WINDOW: u64 = 256 << 10;

/// From that many runs in a window on, the COW side is read at once and the runs are picked out.
const BULK_READ_FROM: usize = 8;

/// A part of the merged image.
#[derive(Debug, Default)]
pub(crate) struct Piece {
    /// Where it begins.
    pub(crate) offset: u64,
    /// What of it isn't zero, in whole blocks where the image has whole blocks.
    pub(crate) data: Vec<Range<usize>>,
    buffer: Vec<u8>,
    length: usize,
}

impl Piece {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.buffer[..self.length]
    }

    pub(crate) const fn end(&self) -> u64 {
        self.offset + self.length as u64
    }

    /// What of it is zero: the gaps between [`data`](Self::data).
    pub(crate) fn zeros(&self) -> impl Iterator<Item = Range<usize>> + use<'_> {
        let starts = self.data.iter().map(|part| part.start).chain([self.length]);
        let ends = [0].into_iter().chain(self.data.iter().map(|part| part.end));
        ends.zip(starts)
            .map(|(start, end)| start..end)
            .filter(|gap| !gap.is_empty())
    }
}

/// Reads both sides and lays one over the other.
#[derive(Debug)]
pub(crate) struct Composer<'s> {
    source: &'s Source,
    scratch: Vec<u8>,
}

impl<'s> Composer<'s> {
    pub(crate) fn new(source: &'s Source) -> Self {
        Self {
            source,
            scratch: vec![0; index(WINDOW)],
        }
    }

    /// Composes a range of the image, [`WINDOW`] bytes at most, in which these runs of sectors
    /// changed.
    pub(crate) fn compose(
        &mut self,
        range: &Range<u64>,
        runs: &[Range<u64>],
        piece: &mut Piece,
    ) -> Result<(), MooError> {
        let cow = &self.source.cow;
        let length = index(range.end - range.start);
        // Grows to a window once and is never cleared.
        piece.buffer.resize(piece.buffer.len().max(length), 0);
        piece.offset = range.start;
        piece.length = length;
        let bytes = &mut piece.buffer[..length];
        // A run may begin before a range that isn't cut at sectors, and end behind it.
        let in_image = |run: &Range<u64>| {
            let run = self.source.geometry().image_range(run);
            run.start.max(range.start)..run.end.min(range.end)
        };
        let in_buffer = |run: &Range<u64>| {
            let run = in_image(run);
            index(run.start - range.start)..index(run.end - range.start)
        };
        let changed: usize = runs.iter().map(|run| in_buffer(run).len()).sum();
        if changed < length {
            let backing = &self.source.backing;
            backing
                .file()
                .read_exact_at(bytes, range.start)
                .map_err(IoError::at("reading backing file", backing.path()))?;
        }
        match runs {
            [first, .., last] if runs.len() >= BULK_READ_FROM => {
                let all = in_buffer(first).start..in_buffer(last).end;
                let scratch = &mut self.scratch[all.clone()];
                cow.read_data(scratch, range.start + all.start as u64)?;
                for run in runs.iter().map(in_buffer) {
                    bytes[run.clone()].copy_from_slice(&self.scratch[run]);
                }
            }
            _ => {
                for run in runs {
                    cow.read_data(&mut bytes[in_buffer(run)], in_image(run).start)?;
                }
            }
        }
        piece.data.clear();
        piece.data.extend(non_zero_parts(&piece.buffer[..length]));
        Ok(())
    }
}

/// The whole image: every window in which the backing file has data or a sector changed, in
/// ascending order. What it leaves out is zero.
#[derive(Debug)]
pub(crate) struct Image<'s> {
    source: &'s Source,
    composer: Composer<'s>,
    bitmap: Bitmap<'s>,
    runs: Vec<Range<u64>>,
    /// The first byte that hasn't been composed.
    position: u64,
    /// The backing file's next data; none: no more.
    data: Option<Range<u64>>,
}

impl<'s> Image<'s> {
    pub(crate) fn new(source: &'s Source) -> Self {
        Self {
            source,
            composer: Composer::new(source),
            bitmap: source.cow.bitmap(),
            runs: Vec::new(),
            position: 0,
            data: Some(0..0),
        }
    }

    /// Composes the next window; `false`: there is none.
    pub(crate) fn next(&mut self, piece: &mut Piece) -> Result<bool, MooError> {
        let size = self.source.size();
        let Some(interesting) = self.next_interesting()? else {
            return Ok(false);
        };
        let start = (interesting / WINDOW * WINDOW).max(self.position);
        let end = (interesting / WINDOW * WINDOW)
            .saturating_add(WINDOW)
            .min(size);
        self.runs.clear();
        self.bitmap.runs_in(
            &self.source.geometry().sectors_of(&(start..end)),
            &mut self.runs,
        )?;
        self.composer.compose(&(start..end), &self.runs, piece)?;
        self.position = end;
        Ok(true)
    }

    /// The first byte from the position on that may not be zero.
    fn next_interesting(&mut self) -> Result<Option<u64>, MooError> {
        let size = self.source.size();
        if self.position >= size {
            return Ok(None);
        }
        if let Some(data) = &self.data {
            if data.end <= self.position {
                let backing = &self.source.backing;
                self.data = sparse::next_data(backing.file(), self.position..size)
                    .map_err(IoError::at("reading backing file", backing.path()))?;
            }
        }
        let data = self.data.as_ref().map(|data| data.start.max(self.position));
        if data == Some(self.position) {
            return Ok(data);
        }
        let geometry = self.source.geometry();
        let sector = geometry.sectors_of(&(self.position..size)).start;
        let changed = self.bitmap.next_changed(sector)?;
        let changed = changed.map(|sector| geometry.image_range(&(sector..sector + 1)).start);
        Ok([data, changed.map(|start| start.max(self.position))]
            .into_iter()
            .flatten()
            .min())
    }
}
