//! Reading a finished image back.

use std::{fs::File, ops::Range, os::unix::fs::FileExt as _, path::Path};

use crc32fast::Hasher;
use uml_core::{
    IoError,
    sparse::{self, index},
};

use crate::{
    compose::{Composer, Image, Part, Piece, Plan as _, WINDOW},
    error::MooError,
    progress::Progress,
    source::Source,
    stop::Stop,
};

/// Composes the image once more, a window at a time, and compares the crc32 of each window with
/// that of what `target` holds there; returns the crc32 of the whole image.
///
/// What is on the disk is read, not what the kernel remembers, where the kernel can be told to
/// forget.
pub(crate) fn image(
    source: &Source,
    (file, path): (&File, &Path),
    progress: &Progress,
    stop: &Stop,
) -> Result<u32, MooError> {
    progress.step("verifying");
    sparse::forget(file);
    let mut check = Check {
        file,
        path,
        buffer: vec![0; index(WINDOW)],
        whole: Hasher::new(),
    };
    let mut image = Image::new(source);
    let mut composer = Composer::new(source);
    let (mut part, mut piece) = (Part::new(), Piece::default());
    let mut position = 0;
    while image.next(&mut part)? {
        stop.check()?;
        composer.compose(&part, &mut piece)?;
        check.zeros(position..piece.offset)?;
        let mut hasher = Hasher::new();
        hasher.update(piece.bytes());
        check.window(&(piece.offset..piece.end()), &hasher)?;
        position = piece.end();
        progress.at(position);
    }
    check.zeros(position..source.size())?;
    Ok(check.whole.finalize())
}

struct Check<'f> {
    file: &'f File,
    path: &'f Path,
    buffer: Vec<u8>,
    /// Of everything so far.
    whole: Hasher,
}

impl Check<'_> {
    fn window(&mut self, range: &Range<u64>, expected: &Hasher) -> Result<(), MooError> {
        let bytes = &mut self.buffer[..index(range.end - range.start)];
        self.file
            .read_exact_at(bytes, range.start)
            .map_err(IoError::at("reading", self.path))?;
        let mut found = Hasher::new();
        found.update(bytes);
        let (expected_sum, found_sum) = (expected.clone().finalize(), found.finalize());
        if expected_sum != found_sum {
            return Err(MooError::Verify {
                path: self.path.to_path_buf(),
                offset: range.start,
                end: range.end,
                found: found_sum,
                expected: expected_sum,
            });
        }
        self.whole.combine(expected);
        Ok(())
    }

    /// Checks a range that must be zero, which mostly is a hole.
    fn zeros(&mut self, range: Range<u64>) -> Result<(), MooError> {
        let mut position = range.start;
        while position < range.end {
            let data = sparse::next_data(self.file, position..range.end)
                .map_err(IoError::at("reading", self.path))?;
            let data = data.unwrap_or(range.end..range.end);
            self.whole.combine(&of_zeros(data.start - position));
            position = data.start;
            while position < data.end {
                let window = position..data.end.min(position + WINDOW);
                position = window.end;
                self.window(&window, &of_zeros(window.end - window.start))?;
            }
        }
        Ok(())
    }
}

/// The crc32 of many zero bytes, in a step for each bit of their number.
fn of_zeros(mut count: u64) -> Hasher {
    let mut sum = Hasher::new();
    let mut power = Hasher::new();
    power.update(&[0]);
    while count > 0 {
        if count % 2 == 1 {
            sum.combine(&power);
        }
        count /= 2;
        if count > 0 {
            let twice = power.clone();
            power.combine(&twice);
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_of_zeros_needs_no_zeros() {
        for count in [0, 1, 2, 3, 4095, 4096, 100_001] {
            let expected = crc32fast::hash(&vec![0; count]);
            assert_eq!(of_zeros(count as u64).finalize(), expected, "{count}");
        }
        let _ = of_zeros(16 << 40).finalize();
    }
}
