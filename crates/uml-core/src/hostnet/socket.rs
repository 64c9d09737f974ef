//! The synchronous rtnetlink socket.

use netlink_packet_core::{
    DecodeError, ErrorMessage, NLM_F_ACK, NLM_F_ACK_TLVS, NLM_F_DUMP, NLM_F_DUMP_INTR,
    NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader, NetlinkMessage, NetlinkPayload,
    NetlinkSerializable, NlasIterator,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use super::error::{HostError, KernelAnswer};

/// How often a listing that the kernel marks as changed meanwhile is asked for again.
const DUMP_TRIES: usize = 16;
/// The attribute of an extended answer that holds its sentence (`NLMSGERR_ATTR_MSG`).
const ANSWER_WORDS: u16 = 1;
/// Room for one datagram of an answer in bytes. The kernel fills 32 KiB at most with a listing; a
/// single device with hundreds of virtual functions may take more.
const ROOM: usize = 256 * 1024;
/// The size of a netlink message's header in bytes.
const HEADER_SIZE: usize = 16;

/// A session with the kernel about the network of the namespace in which it was opened.
#[derive(Debug)]
pub struct Host {
    socket: Socket,
    sequence: u32,
    datagram: Vec<u8>,
}

/// One message of an answer, its payload not yet understood.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) payload: Vec<u8>,
}

impl NetlinkDeserializable for Reply {
    type Error = DecodeError;

    fn deserialize(_: &NetlinkHeader, payload: &[u8]) -> Result<Self, DecodeError> {
        Ok(Self {
            payload: payload.to_vec(),
        })
    }
}

impl NetlinkSerializable for Reply {
    fn message_type(&self) -> u16 {
        0
    }

    fn buffer_len(&self) -> usize {
        self.payload.len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        buffer.copy_from_slice(&self.payload);
    }
}

impl Host {
    /// Opens a session in the calling thread's network namespace.
    ///
    /// # Errors
    /// What the system said to the socket.
    pub fn open() -> Result<Self, HostError> {
        let connect = || {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind_auto()?;
            socket.connect(&SocketAddr::new(0, 0))?;
            // Refusals carry a sentence, without a copy of the question. Kernels before 4.12
            // know neither; then the number alone has to do.
            let _ = socket.set_ext_ack(true);
            let _ = socket.set_cap_ack(true);
            Ok(socket)
        };
        let socket =
            connect().map_err(HostError::at::<std::io::Error>("opening a netlink socket"))?;
        Ok(Self {
            socket,
            sequence: 0,
            datagram: Vec::with_capacity(ROOM),
        })
    }

    /// Asks for one change, and waits until the kernel has made or refused it.
    pub(super) fn change(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<(), KernelAnswer> {
        self.send(message, flags | NLM_F_ACK)?;
        self.receive().map(|_| ())
    }

    /// Asks for one object.
    pub(super) fn get(&mut self, message: RouteNetlinkMessage) -> Result<Vec<u8>, KernelAnswer> {
        self.send(message, NLM_F_ACK)?;
        let (mut replies, _) = self.receive()?;
        replies
            .pop()
            .ok_or_else(|| KernelAnswer::Unreadable("it is empty".to_owned()))
    }

    /// Asks for all objects of a kind. Listings that changed while they were made are made anew.
    pub(super) fn dump(
        &mut self,
        message: &RouteNetlinkMessage,
    ) -> Result<Vec<Vec<u8>>, KernelAnswer> {
        for _ in 0..DUMP_TRIES {
            self.send(message.clone(), NLM_F_DUMP)?;
            if let (replies, Consistent::Yes) = self.receive()? {
                return Ok(replies);
            }
        }
        Err(KernelAnswer::number(libc::EAGAIN))
    }

    fn send(&mut self, message: RouteNetlinkMessage, flags: u16) -> Result<(), KernelAnswer> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut message = NetlinkMessage::from(message);
        message.header.flags = NLM_F_REQUEST | flags;
        message.header.sequence_number = self.sequence;
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        loop {
            match self.socket.send(&bytes, 0) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
                Ok(sent) if sent == bytes.len() => return Ok(()),
                Ok(_) => return Err(KernelAnswer::number(libc::EMSGSIZE)),
            }
        }
    }

    /// Gathers the messages that answer the last question, up to its acknowledgement or its end.
    fn receive(&mut self) -> Result<(Vec<Vec<u8>>, Consistent), KernelAnswer> {
        let mut replies = Vec::new();
        let mut consistent = Consistent::Yes;
        loop {
            self.datagram.clear();
            let received = self.socket.recv_from(&mut self.datagram, libc::MSG_TRUNC);
            let (length, sender) = match received {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                received => received?,
            };
            if sender.port_number() != 0 {
                // Another process, not the kernel.
                continue;
            }
            if length > self.datagram.len() {
                return Err(KernelAnswer::number(libc::EMSGSIZE));
            }
            let mut rest = self.datagram.as_slice();
            while !rest.is_empty() {
                let message = NetlinkMessage::<Reply>::deserialize(rest)?;
                let length = usize::try_from(message.header.length).unwrap_or(usize::MAX);
                let bytes = rest.get(..length).unwrap_or(rest);
                // Messages are padded to 4 bytes.
                rest = rest
                    .get(length.saturating_add(3) & !3..)
                    .unwrap_or_default();
                let (header, payload) = message.into_parts();
                if header.sequence_number != self.sequence {
                    // Left over from a question whose answer was given up.
                    continue;
                }
                if header.flags & NLM_F_DUMP_INTR != 0 {
                    consistent = Consistent::No;
                }
                match payload {
                    NetlinkPayload::InnerMessage(reply) => replies.push(reply.payload),
                    NetlinkPayload::Done(done) if done.code < 0 => {
                        return Err(KernelAnswer::number(done.code.saturating_neg()));
                    }
                    NetlinkPayload::Done(_) => return Ok((replies, consistent)),
                    NetlinkPayload::Error(error) => {
                        return match refusal(&error, header, bytes) {
                            None => Ok((replies, consistent)),
                            Some(answer) => Err(answer),
                        };
                    }
                    NetlinkPayload::Overrun(_) => {
                        return Err(KernelAnswer::number(libc::ENOBUFS));
                    }
                    _ => {}
                }
            }
        }
    }
}

enum Consistent {
    Yes,
    No,
}

/// The attributes in a piece of an answer: number and value.
pub(super) fn attributes(bytes: &[u8]) -> impl Iterator<Item = Result<(u16, &[u8]), DecodeError>> {
    /// The size of an attribute's header in bytes.
    const ATTRIBUTE_HEADER: usize = 4;
    NlasIterator::new(bytes).map(|found| {
        let attribute = found?;
        let (number, end) = (attribute.kind(), usize::from(attribute.length()));
        let value = attribute.into_inner().get(ATTRIBUTE_HEADER..end);
        Ok((number, value.unwrap_or_default()))
    })
}

/// The error number and the sentence of an answer; nothing for an acknowledgement.
fn refusal(error: &ErrorMessage, header: NetlinkHeader, message: &[u8]) -> Option<KernelAnswer> {
    let code = error.code?;
    // After the header: the number (4 bytes), the question's header, then attributes.
    let attributes = message.get(HEADER_SIZE + 4 + HEADER_SIZE..);
    let words = attributes
        .filter(|_| header.flags & NLM_F_ACK_TLVS != 0)
        .and_then(|bytes| {
            NlasIterator::new(bytes)
                .flatten()
                .find(|attribute| attribute.kind() == ANSWER_WORDS)
                .and_then(|attribute| netlink_packet_core::parse_string(attribute.value()).ok())
        });
    Some(KernelAnswer::Refused {
        errno: code.get().saturating_neg(),
        words,
    })
}

#[cfg(test)]
mod tests {
    use netlink_packet_route::link::LinkMessage;

    use super::*;

    #[test]
    fn refusals_keep_their_number() {
        let mut host = Host::open().unwrap();
        let mut message = LinkMessage::default();
        message.header.index = u32::try_from(i32::MAX).unwrap();
        let answer = host.get(RouteNetlinkMessage::GetLink(message)).unwrap_err();
        assert!(
            matches!(answer, KernelAnswer::Refused { errno, .. } if errno == libc::ENODEV),
            "{answer:?}"
        );
        // The session goes on.
        assert!(
            !host
                .dump(&RouteNetlinkMessage::GetLink(LinkMessage::default()))
                .unwrap()
                .is_empty()
        );
    }
}
