//! Operations on ranges of files: sharing blocks, early write-back.
#![expect(
    unsafe_code,
    reason = "FICLONE, FICLONERANGE and sync_file_range have no safe wrapper"
)]

use std::{fs::File, io, ops::Range, os::fd::AsRawFd as _};

use super::check;

/// `FICLONE`: `target` shares all blocks of `source` and gets its length.
///
/// # Errors
/// `EOPNOTSUPP`, `EXDEV`, `EINVAL` and others where the file system can't.
pub fn clone_file(source: &File, target: &File) -> io::Result<()> {
    // SAFETY: both descriptors are open while the borrows last; the kernel takes the source as a
    // number and touches no memory of ours. On failure the target is unchanged.
    check(unsafe { libc::ioctl(target.as_raw_fd(), libc::FICLONE, source.as_raw_fd()) })
}

/// `FICLONERANGE`: a range of `target` shares blocks with a range of `source`. `length` 0 would
/// mean up to the source's end and is refused.
///
/// # Errors
/// As [`clone_file`]; `EINVAL` also where the range doesn't begin and end at blocks.
pub fn clone_range(
    source: &File,
    source_offset: u64,
    length: u64,
    target: &File,
    target_offset: u64,
) -> io::Result<()> {
    if length == 0 {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    let request = libc::file_clone_range {
        src_fd: i64::from(source.as_raw_fd()),
        src_offset: source_offset,
        src_length: length,
        dest_offset: target_offset,
    };
    let request: *const libc::file_clone_range = &raw const request;
    // SAFETY: both descriptors are open while the borrows last; the kernel only reads the request,
    // which lives until the call is over. On failure a part of the range may be shared already.
    check(unsafe { libc::ioctl(target.as_raw_fd(), libc::FICLONERANGE, request) })
}

/// `sync_file_range` with `SYNC_FILE_RANGE_WRITE`: starts writing a range's dirty pages to the
/// device and doesn't wait for it. No promise of durability: that is `fsync`'s.
///
/// # Errors
/// What the system said, a range beyond 2^63 - 1 included.
pub fn start_write_back(file: &File, range: &Range<u64>) -> io::Result<()> {
    let overflow = |_| io::Error::from_raw_os_error(libc::EOVERFLOW);
    let offset = i64::try_from(range.start).map_err(overflow)?;
    let length = i64::try_from(range.end.saturating_sub(range.start)).map_err(overflow)?;
    // SAFETY: the descriptor is open while the borrow lasts; the kernel touches no memory of ours.
    check(unsafe {
        libc::sync_file_range(
            file.as_raw_fd(),
            offset,
            length,
            libc::SYNC_FILE_RANGE_WRITE,
        )
    })
}

/// `FS_XFLAG_COWEXTSIZE`: the hint counts.
const COW_EXTENT_SIZE_SET: u32 = 0x0001_0000;

/// `struct fsxattr`: 28 bytes, the host's byte order.
#[repr(C)]
#[derive(Debug, Default)]
struct ExtendedAttributes {
    flags: u32,
    extent_size: u32,
    extents: u32,
    project: u32,
    /// In bytes.
    cow_extent_size: u32,
    padding: [u8; 8],
}

const FS_IOC_FSGETXATTR: libc::Ioctl =
    nix::request_code_read!(b'X', 31, size_of::<ExtendedAttributes>());
const FS_IOC_FSSETXATTR: libc::Ioctl =
    nix::request_code_write!(b'X', 32, size_of::<ExtendedAttributes>());

/// Sets how much new space xfs takes for a changed block of a file that shares its blocks, in
/// bytes; `None`: the usual 32 blocks, which scattered changes waste for some minutes.
///
/// # Errors
/// `EOPNOTSUPP`, `ENOTTY`, `EINVAL` and others: a file system without such a hint.
pub fn hint_cow_extent_size(file: &File, bytes: Option<u32>) -> io::Result<()> {
    let mut attributes = ExtendedAttributes::default();
    // SAFETY: the descriptor is open while the borrow lasts; the kernel writes no more than the
    // struct, which is ours alone during the call. On failure it stays as it is.
    check(unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_FSGETXATTR, &raw mut attributes) })?;
    attributes.cow_extent_size = bytes.unwrap_or(0);
    match bytes {
        Some(_) => attributes.flags |= COW_EXTENT_SIZE_SET,
        None => attributes.flags &= !COW_EXTENT_SIZE_SET,
    }
    // SAFETY: the descriptor is open while the borrow lasts; the kernel only reads the struct,
    // which lives until the call is over. On failure the file stays as it is.
    check(unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_FSSETXATTR, &raw const attributes) })
}
