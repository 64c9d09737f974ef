//! The bitmap of a COW file: which sectors changed.
//!
//! Bit N is bit N % 8 (least significant first) of byte N / 8. It is read in windows of 64 KiB, and
//! the holes of a sparse bitmap are skipped, so that the 4 GiB of bitmap of a 16 TiB image cost
//! neither memory nor time. It isn't mapped: the locks on a COW file are advisory, a process that
//! knows nothing of them could cut the file at any time, and a mapping would then kill the tool
//! with SIGBUS where a read is merely short.

use std::{fs::File, ops::Range, path::Path};

use super::{file::CowError, geometry::Geometry};
use crate::{
    error::IoError,
    sparse::{self, index},
};

const WINDOW_BYTES: u64 = 64 << 10;

/// The runs of set bits in some bytes, found a 64-bit word at a time.
#[derive(Debug, Clone)]
struct Runs<'a> {
    bytes: &'a [u8],
    next: usize,
}

impl<'a> Runs<'a> {
    /// Bit 0 is the least significant bit of the first byte.
    const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, next: 0 }
    }

    /// The first bit from `from` on that is set (or, with `flip` all ones, clear).
    fn seek(&self, from: usize, flip: u64) -> usize {
        let bits = self.bytes.len() * 8;
        let mut word = from / 64;
        let mut keep = u64::MAX << (from % 64);
        while word * 64 < bits {
            let found = (self.word(word) ^ flip) & keep;
            if found != 0 {
                return (word * 64 + found.trailing_zeros() as usize).min(bits);
            }
            keep = u64::MAX;
            word += 1;
        }
        bits
    }

    fn word(&self, index: usize) -> u64 {
        let rest = &self.bytes[index * 8..];
        if let Some(word) = rest.first_chunk() {
            return u64::from_le_bytes(*word);
        }
        let mut word = [0; 8];
        word[..rest.len()].copy_from_slice(rest);
        u64::from_le_bytes(word)
    }
}

impl Iterator for Runs<'_> {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        let start = self.seek(self.next, 0);
        if start == self.bytes.len() * 8 {
            return None;
        }
        let end = self.seek(start, u64::MAX);
        self.next = end;
        Some(start..end)
    }
}

/// What a walk over the whole bitmap found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Survey {
    /// Runs of neighbouring changed sectors.
    pub runs: u64,
    /// Changed sectors.
    pub sectors: u64,
    /// Bytes of the image that changed; the last sector may be short.
    pub bytes: u64,
    /// The last changed sector.
    pub last: Option<u64>,
}

/// A walk over the bitmap of an open COW file.
#[derive(Debug)]
pub struct Bitmap<'f> {
    file: &'f File,
    path: &'f Path,
    geometry: Geometry,
    window: Vec<u8>,
    /// The bitmap's byte at which `window` begins.
    start: u64,
}

impl<'f> Bitmap<'f> {
    pub(super) const fn new(file: &'f File, path: &'f Path, geometry: Geometry) -> Self {
        Self {
            file,
            path,
            geometry,
            window: Vec::new(),
            start: 0,
        }
    }

    /// Appends the runs of changed sectors within `sectors`, cut at its ends, in ascending order.
    ///
    /// # Errors
    /// The bitmap can't be read, or the file was cut meanwhile.
    pub fn runs_in(
        &mut self,
        sectors: &Range<u64>,
        into: &mut Vec<Range<u64>>,
    ) -> Result<(), CowError> {
        let end = sectors.end.min(self.geometry.sectors());
        let mut from = sectors.start;
        while from < end {
            self.load(from / 8)?;
            let until = end.min(self.window_end());
            for run in self.window_runs(from, until) {
                match into.last_mut() {
                    Some(previous) if previous.end == run.start => previous.end = run.end,
                    _ => into.push(run),
                }
            }
            from = until;
        }
        Ok(())
    }

    /// The first changed sector from `from` on.
    ///
    /// # Errors
    /// As [`runs_in`](Self::runs_in).
    pub fn next_changed(&mut self, mut from: u64) -> Result<Option<u64>, CowError> {
        let sectors = self.geometry.sectors();
        while from < sectors {
            if !self.holds(from / 8) {
                let at = self.geometry.bitmap_offset() + from / 8;
                let end = self.geometry.bitmap_offset() + self.geometry.bit_bytes();
                let data = sparse::next_data(self.file, at..end)
                    .map_err(IoError::at("reading the bitmap of", self.path))?;
                let Some(data) = data else { return Ok(None) };
                from = from.max((data.start - self.geometry.bitmap_offset()) * 8);
                self.load(from / 8)?;
            }
            let until = sectors.min(self.window_end());
            if let Some(run) = self.window_runs(from, until).next() {
                return Ok(Some(run.start));
            }
            from = until;
        }
        Ok(None)
    }

    /// The first unchanged sector from the changed sector `first` on, or `first + most` if all
    /// before that changed.
    ///
    /// # Errors
    /// As [`runs_in`](Self::runs_in).
    pub fn run_end(&mut self, first: u64, most: u64) -> Result<u64, CowError> {
        let sectors = self.geometry.sectors().min(first.saturating_add(most));
        let mut from = first;
        while from < sectors {
            self.load(from / 8)?;
            let until = sectors.min(self.window_end());
            match self.window_runs(from, until).next() {
                Some(run) if run.start == from && run.end == until => from = until,
                Some(run) if run.start == from => return Ok(run.end),
                _ => return Ok(from),
            }
        }
        Ok(from)
    }

    /// Walks the whole bitmap once.
    ///
    /// # Errors
    /// As [`runs_in`](Self::runs_in).
    pub fn survey(&mut self) -> Result<Survey, CowError> {
        let mut survey = Survey::default();
        let mut from = 0;
        while let Some(first) = self.next_changed(from)? {
            let until = self.geometry.sectors().min(self.window_end());
            for run in self.window_runs(first, until) {
                let joined = survey.last.is_some_and(|last| last + 1 == run.start);
                survey.runs += u64::from(!joined);
                survey.sectors += run.end - run.start;
                let image = self.geometry.image_range(&run);
                survey.bytes += image.end - image.start;
                survey.last = Some(run.end - 1);
            }
            from = until;
        }
        Ok(survey)
    }

    /// The first sector whose bit lies behind the window.
    fn window_end(&self) -> u64 {
        (self.start + self.window.len() as u64) * 8
    }

    /// The runs within `from..until`, all of which lies in the window.
    fn window_runs(&self, from: u64, until: u64) -> impl Iterator<Item = Range<u64>> + use<'_> {
        let first = index(from / 8 - self.start);
        let last = index(until.div_ceil(8) - self.start);
        let base = from / 8 * 8;
        Runs::new(&self.window[first..last])
            .map(move |run| (base + run.start as u64).max(from)..(base + run.end as u64).min(until))
            .filter(|run| !run.is_empty())
    }

    fn holds(&self, byte: u64) -> bool {
        (self.start..self.start + self.window.len() as u64).contains(&byte)
    }

    /// Moves the window so that it holds `byte`, which is one of the bitmap's.
    fn load(&mut self, byte: u64) -> Result<(), CowError> {
        if self.holds(byte) {
            return Ok(());
        }
        let start = byte / WINDOW_BYTES * WINDOW_BYTES;
        let length = WINDOW_BYTES.min(self.geometry.bit_bytes() - start);
        self.window.clear();
        self.window.resize(index(length), 0);
        let got = sparse::read_up_to(
            self.file,
            &mut self.window,
            self.geometry.bitmap_offset() + start,
        )
        .map_err(IoError::at("reading the bitmap of", self.path))?;
        // The last byte of an old version lies behind the bitmap proper and may not be there.
        let need = index(length.min(self.geometry.bitmap_bytes().saturating_sub(start)));
        if got < need {
            self.window.clear();
            return Err(CowError::Shrunk {
                path: self.path.to_path_buf(),
            });
        }
        self.start = start;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn naive(bytes: &[u8]) -> Vec<Range<usize>> {
        let mut runs: Vec<Range<usize>> = Vec::new();
        for bit in (0..bytes.len() * 8).filter(|bit| bytes[bit / 8] >> (bit % 8) & 1 == 1) {
            match runs.last_mut() {
                Some(run) if run.end == bit => run.end += 1,
                _ => runs.push(bit..bit + 1),
            }
        }
        runs
    }

    #[test]
    fn runs_cross_bytes_and_words() {
        assert_eq!(Runs::new(&[]).next(), None);
        assert_eq!(Runs::new(&[0; 9]).next(), None);
        let mut ones = Runs::new(&[0xff; 9]);
        assert_eq!((ones.next(), ones.next()), (Some(0..72), None));
        let mut bytes = [0; 17];
        bytes[7] = 0x80;
        bytes[8] = 0x01;
        bytes[16] = 0x80;
        assert_eq!(Runs::new(&bytes).collect::<Vec<_>>(), [63..65, 135..136]);
    }

    proptest! {
        #[test]
        fn runs_are_those_of_a_bit_by_bit_walk(
            bytes in prop::collection::vec(prop_oneof![Just(0u8), Just(0xff), any::<u8>()], 0..50)
        ) {
            prop_assert_eq!(Runs::new(&bytes).collect::<Vec<_>>(), naive(&bytes));
        }
    }
}
