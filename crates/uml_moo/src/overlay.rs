//! Laying the changed sectors over an image that holds the others: the backing file itself, or a
//! clone of it.

use std::{
    collections::VecDeque,
    fs::File,
    ops::Range,
    os::unix::fs::FileExt as _,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

use uml_core::{
    IoError,
    cow::Bitmap,
    sparse::{self, BLOCK},
};

use crate::{
    compose::{Part, Plan, WINDOW},
    error::MooError,
    head_start::{HeadStart, NEW_BLOCKS, OLD_BLOCKS},
    merge::Durability,
    pipeline,
    progress::Progress,
    source::Source,
    stop::Stop,
};

const BLOCK_BYTES: u64 = BLOCK as u64;

/// A shorter run is written: sharing its blocks would take longer.
const SHARE_FROM: u64 = 128 << 10;

/// The most that is shared at once, so that a signal is soon noticed.
const SHARE_AT_ONCE: u64 = 1 << 30;

/// What of the image is already right, between two changed parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Between {
    /// It shares its blocks with another file and is left alone.
    Shared,
    /// It is the image's own: short stretches are written again, to write in larger pieces.
    Own,
}

impl Between {
    const fn gap(self) -> u64 {
        match self {
            Self::Shared => 0,
            Self::Own => 32 << 10,
        }
    }

    const fn head_start(self) -> u64 {
        match self {
            Self::Shared => NEW_BLOCKS,
            Self::Own => OLD_BLOCKS,
        }
    }
}

/// Lays every changed sector over `target`, whole blocks at a time. Blocks that become zero become
/// holes. Doing it again changes nothing.
pub(crate) fn lay(
    source: &Source,
    target: (&File, &Path),
    between: Between,
    durability: Durability,
    progress: &Progress,
    stop: &Stop,
) -> Result<(), MooError> {
    let (file, path) = target;
    let holes = AtomicBool::new(!source.backing.is_block_device());
    let head_start = HeadStart::new(file, durability, between.head_start());
    let plan = Changes::new(source, target, between, stop);
    pipeline::scatter(source, plan, stop, |piece| {
        for part in &piece.data {
            let at = piece.offset + part.start as u64;
            file.write_all_at(&piece.bytes()[part.clone()], at)
                .map_err(IoError::at("writing", path))?;
        }
        for zeros in piece.zeros() {
            let range = piece.offset + zeros.start as u64..piece.offset + zeros.end as u64;
            if holes.load(Ordering::Relaxed) {
                let punched = sparse::punch_hole(file, &range);
                if punched.map_err(IoError::at("making a hole in", path))? {
                    continue;
                }
                holes.store(false, Ordering::Relaxed);
            }
            file.write_all_at(&piece.bytes()[zeros], range.start)
                .map_err(IoError::at("writing", path))?;
        }
        head_start.wrote(piece);
        progress.at(piece.end());
        Ok(())
    })
}

/// Finds the parts to write, and shares the blocks of long runs on the way.
struct Changes<'s> {
    source: &'s Source,
    target: &'s File,
    path: &'s Path,
    bitmap: Bitmap<'s>,
    between: Between,
    stop: &'s Stop,
    /// Until the file system says that it can't.
    shares: bool,
    parts: VecDeque<Range<u64>>,
    runs: Vec<Range<u64>>,
    /// The first byte that isn't planned yet, a multiple of the block.
    position: u64,
}

impl<'s> Changes<'s> {
    fn new(
        source: &'s Source,
        target: (&'s File, &'s Path),
        between: Between,
        stop: &'s Stop,
    ) -> Self {
        Self {
            source,
            target: target.0,
            path: target.1,
            bitmap: source.cow.bitmap(),
            between,
            stop,
            shares: source.backing.metadata().is_file() && source.cow.metadata().is_file(),
            parts: VecDeque::new(),
            runs: Vec::new(),
            position: 0,
        }
    }

    /// Plans the next window with a change; `false`: there is none.
    fn plan_window(&mut self) -> Result<bool, MooError> {
        let geometry = *self.source.geometry();
        let size = geometry.size();
        if self.position >= size {
            return Ok(false);
        }
        let sector = geometry.sectors_of(&(self.position..size)).start;
        let Some(changed) = self.bitmap.next_changed(sector)? else {
            return Ok(false);
        };
        let changed = geometry
            .image_range(&(changed..changed + 1))
            .start
            .max(self.position);
        let window = changed / WINDOW * WINDOW;
        let window = window.max(self.position)..window.saturating_add(WINDOW).min(size);

        let mut runs = std::mem::take(&mut self.runs);
        runs.clear();
        self.bitmap
            .runs_in(&geometry.sectors_of(&window), &mut runs)?;
        self.position = window.end;
        for run in &runs {
            let mut image = geometry.image_range(run);
            image.start = image.start.max(window.start);
            if self.shares {
                if image.end >= window.end {
                    let most = SHARE_AT_ONCE / u64::from(geometry.sector_size());
                    let end = self.bitmap.run_end(run.start, most)?;
                    image.end = geometry.image_range(&(run.start..end)).end;
                }
                if let Some(shared) = self.share(&image)? {
                    // The block in which the run begins is written; behind what is shared, the
                    // next window begins.
                    self.add_part(image.start..shared.start, window.start);
                    self.position = shared.end;
                    break;
                }
            }
            self.add_part(image.start..image.end.min(window.end), window.start);
        }
        self.runs = runs;
        Ok(true)
    }

    /// Shares the whole blocks of a run that is long enough; returns what is shared then.
    fn share(&mut self, image: &Range<u64>) -> Result<Option<Range<u64>>, MooError> {
        let start = image.start.next_multiple_of(BLOCK_BYTES);
        let end = image.end / BLOCK_BYTES * BLOCK_BYTES;
        if end.saturating_sub(start) < SHARE_FROM {
            return Ok(None);
        }
        let data = self.source.geometry().data_offset();
        let cow = self.source.cow.file();
        self.shares = sparse::clone_range(cow, &(data + start..data + end), self.target, start)
            .map_err(IoError::at("sharing blocks with", self.path))?;
        Ok(self.shares.then_some(start..end))
    }

    /// Adds a part in whole blocks, not before `floor`, joined with the one before it if they are
    /// near.
    fn add_part(&mut self, image: Range<u64>, floor: u64) {
        if image.is_empty() {
            return;
        }
        let size = self.source.size();
        let start = (image.start / BLOCK_BYTES * BLOCK_BYTES).max(floor);
        let end = image.end.next_multiple_of(BLOCK_BYTES).min(size);
        match self.parts.back_mut() {
            Some(part) if start <= part.end + self.between.gap() => part.end = end.max(part.end),
            _ => self.parts.push_back(start..end),
        }
    }
}

impl Plan for Changes<'_> {
    fn next(&mut self, part: &mut Part) -> Result<bool, MooError> {
        while self.parts.is_empty() {
            self.stop.check()?;
            if !self.plan_window()? {
                return Ok(false);
            }
        }
        let Some(range) = self.parts.pop_front() else {
            return Ok(false);
        };
        part.runs.clear();
        self.bitmap
            .runs_in(&self.source.geometry().sectors_of(&range), &mut part.runs)?;
        part.range = range;
        Ok(true)
    }
}
