#![expect(
    unsafe_code,
    reason = "batches without an allocation a frame need recvmmsg and sendmmsg themselves"
)]
//! Many datagrams a call: `recvmmsg` into one arena, `sendmmsg` out of it.

use std::{
    fmt, io, mem,
    os::fd::{AsRawFd as _, BorrowedFd},
    ptr,
};

use crate::wire::sockaddr::{self, Sockaddr};

/// Memory for a batch of frames, each in a slot of its own.
pub struct Arena {
    bytes: Vec<u8>,
    slot_len: usize,
    vectors: Vec<libc::iovec>,
    headers: Vec<libc::mmsghdr>,
    names: Vec<libc::sockaddr_un>,
    named: bool,
}

/// Slots start at different places within a page: the heads of frames that were all at the same
/// place would compete for the same few lines of the processor's caches.
const STAGGER: usize = 64 * 37;

impl Arena {
    /// An arena of that many slots of that many bytes. Memory that was never used costs none.
    #[must_use]
    pub fn new(slots: usize, slot_len: usize) -> Self {
        // SAFETY: an mmsghdr is plain numbers and pointers, for which zeros are valid values.
        let header: libc::mmsghdr = unsafe { mem::zeroed() };
        // SAFETY: a sockaddr_un is plain numbers, for which zeros are valid values.
        let name: libc::sockaddr_un = unsafe { mem::zeroed() };
        let vector = libc::iovec {
            iov_base: ptr::null_mut(),
            iov_len: 0,
        };
        Self {
            bytes: vec![0; slots * (slot_len + STAGGER)],
            slot_len,
            vectors: vec![vector; slots],
            headers: vec![header; slots],
            names: vec![name; slots],
            named: false,
        }
    }

    /// How many slots there are.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.headers.len()
    }

    /// Receives what is there, at most `limit` datagrams or packets, without waiting.
    ///
    /// Returns how many; fewer than `limit` means that no more were there. At the end of a
    /// connection the packets are empty, as many as were asked for.
    ///
    /// # Errors
    /// `EAGAIN` where nothing is there, and whatever else the socket has to say.
    pub fn receive(&mut self, socket: BorrowedFd<'_>, limit: usize) -> io::Result<usize> {
        self.receive_into(socket, limit, false)
    }

    /// As [`Arena::receive`], and keeps the senders' names for [`Arena::sender`].
    ///
    /// # Errors
    /// As [`Arena::receive`].
    pub fn receive_with_senders(
        &mut self,
        socket: BorrowedFd<'_>,
        limit: usize,
    ) -> io::Result<usize> {
        self.receive_into(socket, limit, true)
    }

    fn receive_into(
        &mut self,
        socket: BorrowedFd<'_>,
        limit: usize,
        named: bool,
    ) -> io::Result<usize> {
        let count = limit.min(self.headers.len());
        self.named = named;
        let slots = self.bytes.chunks_exact_mut(self.slot_len + STAGGER);
        for (((slot, vector), entry), name) in slots
            .zip(&mut self.vectors)
            .zip(&mut self.headers)
            .zip(&mut self.names)
            .take(count)
        {
            vector.iov_base = slot.as_mut_ptr().cast();
            vector.iov_len = self.slot_len;
            let header = &mut entry.msg_hdr;
            header.msg_iov = ptr::from_mut(vector);
            header.msg_iovlen = 1;
            if named {
                header.msg_name = ptr::from_mut(name).cast();
                header.msg_namelen = socklen(size_of::<libc::sockaddr_un>());
            } else {
                header.msg_name = ptr::null_mut();
                header.msg_namelen = 0;
            }
        }
        let headers = self.headers.as_mut_ptr();
        // SAFETY: `socket` is borrowed, so it stays open. `headers` points to `count` headers, each
        // with one vector that describes a slot of `bytes` of its own and at most one name of its
        // own; all are owned by `self`, which is borrowed mutably. On failure nothing is read back.
        let result = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers,
                length(count),
                libc::MSG_DONTWAIT,
                ptr::null_mut(),
            )
        };
        usize::try_from(result).map_err(|_| io::Error::last_os_error())
    }

    /// Puts what `read` brings into the slot: for devices, which know no batches.
    ///
    /// # Errors
    /// Whatever `read` answers.
    pub fn fill(
        &mut self,
        index: usize,
        read: impl FnOnce(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<()> {
        let start = index * (self.slot_len + STAGGER);
        let length = read(&mut self.bytes[start..start + self.slot_len])?;
        self.headers[index].msg_len = self::length(length.min(self.slot_len));
        self.headers[index].msg_hdr.msg_flags = 0;
        Ok(())
    }

    /// What stands in a slot since it was received.
    #[must_use]
    pub fn frame(&self, index: usize) -> &[u8] {
        let start = index * (self.slot_len + STAGGER);
        let length = self.headers[index].msg_len as usize;
        &self.bytes[start..start + length.min(self.slot_len)]
    }

    /// Whether the datagram was longer than its slot: its end is lost.
    #[must_use]
    pub fn is_cut(&self, index: usize) -> bool {
        self.headers[index].msg_hdr.msg_flags & libc::MSG_TRUNC != 0
    }

    /// Whom the datagram came from, where [`Arena::receive_with_senders`] asked and it has a name.
    #[must_use]
    pub fn sender(&self, index: usize) -> Option<Sockaddr> {
        if !self.named {
            return None;
        }
        let given = self.headers[index].msg_hdr.msg_namelen as usize;
        let length = given.checked_sub(size_of::<libc::sa_family_t>())?;
        let mut path = [0; sockaddr::PATH_LEN];
        for (to, from) in path.iter_mut().zip(&self.names[index].sun_path) {
            [*to] = from.to_ne_bytes();
        }
        Sockaddr::from_sun_path(path.get(..length.min(sockaddr::PATH_LEN))?)
    }
}

impl fmt::Debug for Arena {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arena")
            .field("slots", &self.slots())
            .field("slot_len", &self.slot_len)
            .finish_non_exhaustive()
    }
}

/// What a batch on its way out is described with.
pub struct Outbox {
    vectors: Vec<libc::iovec>,
    headers: Vec<libc::mmsghdr>,
}

impl Outbox {
    /// Room for that many frames a call.
    #[must_use]
    pub fn new(slots: usize) -> Self {
        // SAFETY: an mmsghdr is plain numbers and pointers, for which zeros are valid values.
        let header: libc::mmsghdr = unsafe { mem::zeroed() };
        let vector = libc::iovec {
            iov_base: ptr::null_mut(),
            iov_len: 0,
        };
        Self {
            vectors: vec![vector; slots],
            headers: vec![header; slots],
        }
    }

    /// Sends frames on a connected socket, in order, one datagram or packet each, without waiting.
    ///
    /// Returns how many went out: the next one was refused where those are fewer than the frames
    /// and fewer than the slots.
    ///
    /// # Errors
    /// What the first frame was refused with: `EAGAIN` where the peer has no room.
    pub fn send(&mut self, socket: BorrowedFd<'_>, frames: &[&[u8]]) -> io::Result<usize> {
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        let result = if let [frame] = frames {
            // SAFETY: `socket` is borrowed, so it stays open; the kernel reads the bytes of
            // `frame`, which is a slice, and keeps nothing of it. On failure nothing went out.
            let result = unsafe {
                libc::send(
                    socket.as_raw_fd(),
                    frame.as_ptr().cast(),
                    frame.len(),
                    flags,
                )
            };
            if result < 0 { -1 } else { 1 }
        } else {
            let mut count = 0;
            for ((frame, vector), entry) in
                frames.iter().zip(&mut self.vectors).zip(&mut self.headers)
            {
                vector.iov_base = frame.as_ptr().cast_mut().cast();
                vector.iov_len = frame.len();
                entry.msg_hdr.msg_iov = ptr::from_mut(vector);
                entry.msg_hdr.msg_iovlen = 1;
                count += 1;
            }
            let headers = self.headers.as_mut_ptr();
            // SAFETY: `socket` is borrowed, so it stays open. `headers` points to at least `count`
            // headers, each with one vector that describes one of `frames`; the kernel only reads
            // what the vectors point to, and writes a length into each header, which `self` owns
            // and is borrowed mutably. On failure nothing went out.
            unsafe { libc::sendmmsg(socket.as_raw_fd(), headers, length(count), flags) }
        };
        usize::try_from(result).map_err(|_| io::Error::last_os_error())
    }
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox")
            .field("slots", &self.headers.len())
            .finish_non_exhaustive()
    }
}

fn length(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn socklen(count: usize) -> libc::socklen_t {
    length(count)
}

#[cfg(test)]
mod tests {
    use std::os::{fd::AsFd as _, unix::net::UnixDatagram};

    use super::*;

    #[test]
    fn batches_keep_their_order_and_their_borders() {
        let (one, other) = UnixDatagram::pair().unwrap();
        let mut outbox = Outbox::new(4);
        let long = vec![7; 65_535];
        let frames: [&[u8]; 3] = [b"first", &long, b"third"];
        assert_eq!(outbox.send(one.as_fd(), &frames).unwrap(), 3);
        assert_eq!(outbox.send(one.as_fd(), &[b"alone"]).unwrap(), 1);

        let mut arena = Arena::new(8, 65_536);
        assert_eq!(arena.receive(other.as_fd(), 3).unwrap(), 3);
        assert_eq!(arena.frame(0), b"first");
        assert_eq!(arena.frame(1), long);
        assert_eq!(arena.frame(2), b"third");
        assert_eq!(arena.receive(other.as_fd(), 8).unwrap(), 1);
        assert_eq!(arena.frame(0), b"alone");
        let empty = arena.receive(other.as_fd(), 8).unwrap_err();
        assert_eq!(empty.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn what_is_longer_than_its_slot_is_told() {
        let (one, other) = UnixDatagram::pair().unwrap();
        one.send(&[1; 33]).unwrap();
        one.send(&[1; 32]).unwrap();
        let mut arena = Arena::new(2, 32);
        assert_eq!(arena.receive(other.as_fd(), 2).unwrap(), 2);
        assert!(arena.is_cut(0));
        assert!(!arena.is_cut(1));
        assert_eq!(arena.frame(1), [1; 32]);
    }

    #[test]
    fn senders_have_names() {
        let dir = tempfile::tempdir().unwrap();
        let (here, there) = (dir.path().join("here"), dir.path().join("there"));
        let receiver = UnixDatagram::bind(&here).unwrap();
        let sender = UnixDatagram::bind(&there).unwrap();
        sender.send_to(b"named", &here).unwrap();
        UnixDatagram::unbound()
            .unwrap()
            .send_to(b"nameless", &here)
            .unwrap();
        let mut arena = Arena::new(2, 32);
        assert_eq!(arena.receive_with_senders(receiver.as_fd(), 2).unwrap(), 2);
        assert_eq!(arena.sender(0), Some(Sockaddr::from_path(&there).unwrap()));
        assert_eq!(arena.sender(1), None);
    }

    #[test]
    fn devices_fill_slots_one_by_one() {
        let mut arena = Arena::new(2, 32);
        arena
            .fill(1, |slot| {
                slot[..3].copy_from_slice(b"abc");
                Ok(3)
            })
            .unwrap();
        assert_eq!(arena.frame(1), b"abc");
        assert!(
            arena
                .fill(0, |_| Err(io::ErrorKind::WouldBlock.into()))
                .is_err()
        );
    }
}
