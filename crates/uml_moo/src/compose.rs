//! Composing the image in memory, a window at a time.

use std::{ops::Range, os::unix::fs::FileExt as _};

use uml_core::{
    IoError,
    cow::Bitmap,
    sparse::{self, BLOCK, index, non_zero_parts},
};

use crate::{error::MooError, source::Source};

/// Bytes of the image that are composed at once: they fit the processor's second-level cache.
pub(crate) const WINDOW: u64 = 256 << 10;

const BLOCK_BYTES: u64 = BLOCK as u64;

/// Runs on the COW side that are nearer to each other are read at once and picked out: a call takes
/// as long as copying about so many bytes.
const READ_TOGETHER: usize = 4096;

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

/// A part of the image to compose.
#[derive(Debug)]
pub(crate) struct Part {
    /// Its bytes, [`WINDOW`] at most.
    pub(crate) range: Range<u64>,
    /// The runs of sectors that changed in it; the first and the last may reach beyond it.
    pub(crate) runs: Vec<Range<u64>>,
    /// The backing file has nothing but a hole there.
    pub(crate) hole: bool,
}

impl Part {
    pub(crate) const fn new() -> Self {
        Self {
            range: 0..0,
            runs: Vec::new(),
            hole: false,
        }
    }
}

/// Says which parts of the image there are to compose, in ascending order.
pub(crate) trait Plan: Send {
    /// The next part; `false`: there is none.
    fn next(&mut self, part: &mut Part) -> Result<bool, MooError>;
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

    /// Composes a part of the image.
    pub(crate) fn compose(&mut self, part: &Part, piece: &mut Piece) -> Result<(), MooError> {
        let Part { range, runs, hole } = part;
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
        if *hole {
            bytes.fill(0);
        } else if changed < length {
            let backing = &self.source.backing;
            backing
                .file()
                .read_exact_at(bytes, range.start)
                .map_err(IoError::at("reading backing file", backing.path()))?;
        }
        let mut rest = runs.as_slice();
        while let [first, ..] = rest {
            let mut together = in_buffer(first);
            let mut count = 1;
            while let Some(next) = rest.get(count).map(in_buffer) {
                if next.start - together.end >= READ_TOGETHER {
                    break;
                }
                together.end = next.end;
                count += 1;
            }
            let (group, behind) = rest.split_at(count);
            rest = behind;
            let at = range.start + together.start as u64;
            if count == 1 {
                cow.read_data(&mut bytes[together], at)?;
                continue;
            }
            cow.read_data(&mut self.scratch[together], at)?;
            for run in group.iter().map(in_buffer) {
                bytes[run.clone()].copy_from_slice(&self.scratch[run]);
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
    bitmap: Bitmap<'s>,
    /// The first byte that hasn't been composed.
    position: u64,
    /// The backing file's next data; none: no more.
    data: Option<Range<u64>>,
}

impl<'s> Image<'s> {
    pub(crate) fn new(source: &'s Source) -> Self {
        Self {
            source,
            bitmap: source.cow.bitmap(),
            position: 0,
            data: Some(0..0),
        }
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

impl Plan for Image<'_> {
    fn next(&mut self, part: &mut Part) -> Result<bool, MooError> {
        let size = self.source.size();
        let Some(interesting) = self.next_interesting()? else {
            return Ok(false);
        };
        let geometry = self.source.geometry();
        let window = interesting / WINDOW * WINDOW;
        let range = window.max(self.position)..window.saturating_add(WINDOW).min(size);
        part.runs.clear();
        self.bitmap
            .runs_in(&geometry.sectors_of(&range), &mut part.runs)?;
        self.position = range.end;
        let data = self
            .data
            .as_ref()
            .is_some_and(|data| data.start < range.end);
        part.hole = !data;
        part.range = match part.runs.as_slice() {
            // Of a window in a hole, only the blocks that changed.
            [first, ..] if part.hole => {
                let last = part.runs.last().unwrap_or(first);
                let changed = geometry.image_range(&(first.start..last.end));
                let start = changed.start / BLOCK_BYTES * BLOCK_BYTES;
                let end = changed.end.next_multiple_of(BLOCK_BYTES);
                start.max(range.start)..end.min(range.end)
            }
            _ => range,
        };
        Ok(true)
    }
}
