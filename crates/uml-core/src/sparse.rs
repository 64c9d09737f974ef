//! Sparse-file I/O: data and holes, zeros, copies that keep holes or share blocks.

use std::{fs::File, io, ops::Range, os::unix::fs::FileExt as _};

use nix::{
    errno::Errno,
    fcntl::{FallocateFlags, PosixFadviseAdvice, copy_file_range, fallocate, posix_fadvise},
    unistd::{Whence, lseek64},
};

use crate::sys::file_range;

/// The block in which zeros are looked for and holes are made, in bytes.
pub const BLOCK: usize = 4096;

const COPY_WINDOW: usize = 256 << 10;

/// A `u64` that is known to be small as an index; the largest index where it isn't.
#[must_use]
pub fn index(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

/// The first range of data within `within`, cut at its end; none if all of it is a hole.
///
/// Where the file system or device knows no holes, everything is data. Nothing behind the end of
/// the file is data.
///
/// # Errors
/// What the system said.
pub fn next_data(file: &File, within: Range<u64>) -> io::Result<Option<Range<u64>>> {
    if within.is_empty() {
        return Ok(None);
    }
    let seek = |from: u64, whence| {
        let from = i64::try_from(from).map_err(|_| Errno::EOVERFLOW)?;
        lseek64(file, from, whence).map(i64::unsigned_abs)
    };
    let start = match seek(within.start, Whence::SeekData) {
        Ok(start) => start.max(within.start),
        Err(Errno::ENXIO) => return Ok(None),
        Err(Errno::EINVAL | Errno::EOPNOTSUPP) => return Ok(Some(within)),
        Err(errno) => return Err(errno.into()),
    };
    if start >= within.end {
        return Ok(None);
    }
    let end = match seek(start, Whence::SeekHole) {
        Ok(end) if end > start => end.min(within.end),
        // Not before the start: the file changes under our hands. Reading tells.
        Ok(_) | Err(Errno::ENXIO) => within.end,
        Err(errno) => return Err(errno.into()),
    };
    Ok(Some(start..end))
}

/// Reads until `buffer` is full or the file ends; returns the bytes read.
///
/// # Errors
/// What the system said.
pub fn read_up_to(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut got = 0;
    while got < buffer.len() {
        match file.read_at(&mut buffer[got..], offset + got as u64) {
            Ok(0) => break,
            Ok(more) => got += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(got)
}

/// Whether all bytes are zero. Data that isn't is mostly told by its first bytes.
#[must_use]
pub fn is_zero(bytes: &[u8]) -> bool {
    let mut chunks = bytes.chunks_exact(64);
    // Without an early way out inside, the compiler makes vector code of the inner fold.
    chunks
        .by_ref()
        .all(|chunk| chunk.iter().fold(0, |any, byte| any | byte) == 0)
        && chunks.remainder().iter().all(|&byte| byte == 0)
}

/// The parts of `bytes` that aren't zero, in whole blocks of [`BLOCK`] bytes counted from the
/// first byte, neighbours joined; the last block may be short.
pub fn non_zero_parts(bytes: &[u8]) -> impl Iterator<Item = Range<usize>> + use<'_> {
    let mut next = 0;
    std::iter::from_fn(move || {
        let block = |at: usize| &bytes[at..bytes.len().min(at + BLOCK)];
        while next < bytes.len() && is_zero(block(next)) {
            next += BLOCK;
        }
        let start = next;
        while next < bytes.len() && !is_zero(block(next)) {
            next += BLOCK;
        }
        (start < bytes.len()).then(|| start..next.min(bytes.len()))
    })
}

/// Makes a range read as zeros and gives its blocks back. `Ok(false)`: the file system or device
/// can't.
///
/// # Errors
/// What the system said.
pub fn punch_hole(file: &File, range: &Range<u64>) -> io::Result<bool> {
    let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    allocate(file, flags, range)
}

/// Makes a range read as zeros, by the device itself where it can. `Ok(false)`: it can't.
///
/// # Errors
/// What the system said.
pub fn zero_range(file: &File, range: &Range<u64>) -> io::Result<bool> {
    let flags = FallocateFlags::FALLOC_FL_ZERO_RANGE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    allocate(file, flags, range)
}

fn allocate(file: &File, flags: FallocateFlags, range: &Range<u64>) -> io::Result<bool> {
    let (Ok(start), Ok(length)) = (
        i64::try_from(range.start),
        i64::try_from(range.end - range.start),
    ) else {
        return Err(Errno::EOVERFLOW.into());
    };
    match fallocate(file, flags, start, length) {
        Ok(()) => Ok(true),
        Err(Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::EINVAL | Errno::ENODEV | Errno::EPERM) => {
            Ok(false)
        }
        Err(errno) => Err(errno.into()),
    }
}

/// Asks the kernel to forget what it holds of a file in memory, so that the next read is one of
/// the disk. What isn't on the disk yet stays in memory.
pub fn forget(file: &File) {
    // Advice: nothing is lost where it isn't taken.
    let _ = posix_fadvise(file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
}

/// Makes `target` share all blocks of `source`, and as long as it. `Ok(false)`: the file system
/// can't, or they lie on two of them.
///
/// # Errors
/// What the system said.
pub fn clone_file(source: &File, target: &File) -> io::Result<bool> {
    cloned(file_range::clone_file(source, target))
}

/// Makes a range of `target` share the blocks of a range of `source`. Both begin and end at block
/// boundaries of the file system. `Ok(false)`: the file system can't.
///
/// # Errors
/// What the system said.
pub fn clone_range(
    source: &File,
    range: &Range<u64>,
    target: &File,
    target_offset: u64,
) -> io::Result<bool> {
    cloned(file_range::clone_range(
        source,
        range.start,
        range.end - range.start,
        target,
        target_offset,
    ))
}

fn cloned(answer: io::Result<()>) -> io::Result<bool> {
    let Err(error) = answer else { return Ok(true) };
    match error.raw_os_error() {
        Some(
            libc::EOPNOTSUPP
            | libc::ENOTTY
            | libc::EXDEV
            | libc::EINVAL
            | libc::ENOSYS
            | libc::EPERM
            | libc::ETXTBSY
            | libc::EISDIR
            | libc::EBADF,
        ) => Ok(false),
        _ => Err(error),
    }
}

/// Copies a range: blocks are shared where the file system can, else copied inside the kernel,
/// else read and written. The source's holes in the range become zeros.
///
/// # Errors
/// What the system said; `UnexpectedEof` where the source ends early.
pub fn copy_range(
    source: &File,
    range: Range<u64>,
    target: &File,
    target_offset: u64,
) -> io::Result<()> {
    if range.is_empty() || clone_range(source, &range, target, target_offset)? {
        return Ok(());
    }
    let copied = copy_inside_kernel(source, &range, target, target_offset)?;
    copy_by_hand(
        source,
        range.start + copied..range.end,
        target,
        target_offset + copied,
    )
}

/// Copies as much as `copy_file_range` will; returns the bytes copied.
fn copy_inside_kernel(
    source: &File,
    range: &Range<u64>,
    target: &File,
    target_offset: u64,
) -> io::Result<u64> {
    let signed = |value: u64| i64::try_from(value).map_err(|_| io::Error::from(Errno::EOVERFLOW));
    let mut from = signed(range.start)?;
    let mut to = signed(target_offset)?;
    let end = signed(range.end)?;
    while from < end {
        let length = usize::try_from(end - from)
            .unwrap_or(usize::MAX)
            .min(1 << 30);
        match copy_file_range(source, Some(&mut from), target, Some(&mut to), length) {
            Ok(0)
            | Err(
                Errno::EXDEV
                | Errno::EINVAL
                | Errno::ENOSYS
                | Errno::EOPNOTSUPP
                | Errno::EPERM
                | Errno::EBADF
                | Errno::ETXTBSY,
            ) => break,
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(from.unsigned_abs() - range.start)
}

fn copy_by_hand(source: &File, range: Range<u64>, target: &File, mut to: u64) -> io::Result<()> {
    let mut buffer = vec![0; COPY_WINDOW.min(index(range.end - range.start))];
    let mut from = range.start;
    while from < range.end {
        let length = buffer.len().min(index(range.end - from));
        let part = &mut buffer[..length];
        source.read_exact_at(part, from)?;
        target.write_all_at(part, to)?;
        from += length as u64;
        to += length as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
