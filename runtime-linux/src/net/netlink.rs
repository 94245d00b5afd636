//! Requests to the kernel over netlink, one socket, blocking.
//!
//! Why not a crate: those for links bring an asynchronous runtime into a library that is called before and beside one; those
//! for nftables are copyleft, bindings to a C library, or lack maps. What is needed of the format (netlink(7)) is a header and
//! nested attributes in the machine's byte order, which this file writes and reads, and nothing else does.

use std::io;
use std::os::fd::OwnedFd;

use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

const REQUEST: u16 = 1;
const ACK: u16 = 4;
/// With creating requests: instead of what is there.
pub(super) const REPLACE: u16 = 0x100;
/// With creating requests: only if there is none.
pub(super) const EXCL: u16 = 0x200;
/// Make it.
pub(super) const CREATE: u16 = 0x400;
/// At the end of a list.
pub(super) const APPEND: u16 = 0x800;
/// All of a kind.
pub(super) const DUMP: u16 = 0x300;

const ERROR: u16 = 2;
const DONE: u16 = 3;
const NESTED: u16 = 0x8000;
const HEADER: usize = 16;

/// The kernel's answers are shorter than this each, in bytes.
const ANSWER: usize = 64 << 10;

/// Messages under construction.
#[derive(Debug, Default)]
pub(super) struct Messages {
    bytes: Vec<u8>,
    /// Where the last message begins.
    last: usize,
    /// How many answers there will be.
    awaited: u32,
}

/// An attribute that holds others, open.
#[derive(Debug)]
#[must_use]
pub(super) struct Nest(usize);

impl Messages {
    /// Begins a message; `flags` beside those of every request. `body` is the fixed part of its kind.
    pub(super) fn begin(&mut self, kind: u16, flags: u16, body: &[u8]) {
        self.start(kind, flags | REQUEST | ACK, body);
        self.awaited += 1;
    }

    /// Begins a message that is not answered: the brackets of a batch.
    pub(super) fn bracket(&mut self, kind: u16, body: &[u8]) {
        self.start(kind, REQUEST, body);
    }

    fn start(&mut self, kind: u16, flags: u16, body: &[u8]) {
        self.last = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&flags.to_ne_bytes());
        // The sequence number tells the answers apart.
        self.bytes.extend_from_slice(&self.awaited.to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(body);
        self.close();
    }

    /// Writes the length of the last message, which ends here.
    fn close(&mut self) {
        while !self.bytes.len().is_multiple_of(4) {
            self.bytes.push(0);
        }
        let length = u32::try_from(self.bytes.len() - self.last).unwrap_or(u32::MAX);
        self.bytes[self.last..self.last + 4].copy_from_slice(&length.to_ne_bytes());
    }

    /// An attribute.
    pub(super) fn attribute(&mut self, kind: u16, value: &[u8]) {
        let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.close();
    }

    /// A text with its NUL.
    pub(super) fn text(&mut self, kind: u16, value: &str) {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.attribute(kind, &bytes);
    }

    /// A number in the machine's order.
    pub(super) fn number(&mut self, kind: u16, value: u32) {
        self.attribute(kind, &value.to_ne_bytes());
    }

    /// A number in network order, as nftables has them.
    pub(super) fn big(&mut self, kind: u16, value: u32) {
        self.attribute(kind, &value.to_be_bytes());
    }

    /// Begins an attribute that holds others.
    pub(super) fn nest(&mut self, kind: u16) -> Nest {
        let nest = Nest(self.bytes.len());
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&(kind | NESTED).to_ne_bytes());
        nest
    }

    /// Bytes as they are, for a fixed part within a nest.
    pub(super) fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Ends an attribute.
    #[expect(clippy::needless_pass_by_value, reason = "a nest is ended once")]
    pub(super) fn end(&mut self, nest: Nest) {
        self.close();
        let length = u16::try_from(self.bytes.len() - nest.0).unwrap_or(u16::MAX);
        self.bytes[nest.0..nest.0 + 2].copy_from_slice(&length.to_ne_bytes());
    }

    /// What a lone message says after its header.
    #[cfg(test)]
    pub(super) fn payload(&self) -> &[u8] {
        &self.bytes[HEADER..]
    }

    /// Bytes of the open attribute so far: the kernel counts them with sixteen bits.
    pub(super) fn within(&self, nest: &Nest) -> usize {
        self.bytes.len() - nest.0
    }
}

/// One answer of the kernel that is not an acknowledgement.
#[derive(Debug)]
pub(super) struct Answer {
    /// The part after the header.
    pub(super) payload: Vec<u8>,
}

/// Attributes in a payload, by kind; a malformed rest is left out.
pub(super) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(bytes.get(2..4)?.try_into().ok()?) & 0x3fff;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// A number of an attribute.
pub(super) fn read_number(value: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(value.get(..4)?.try_into().ok()?))
}

/// A text of an attribute.
pub(super) fn read_text(value: &[u8]) -> String {
    let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

/// A socket in the network namespace of the thread that opened it.
#[derive(Debug)]
pub(super) struct Socket {
    fd: OwnedFd,
    /// What is sent is carried out as a whole or not at all, and a refusal is the only answer.
    batches: bool,
}

impl Socket {
    /// For links, addresses and routes: protocol 0.
    pub(super) fn route() -> io::Result<Self> {
        Self::open(None, false)
    }

    /// For connection tracking.
    pub(super) fn conntrack() -> io::Result<Self> {
        Self::open(Some(netlink::NETFILTER), false)
    }

    /// For nftables.
    pub(super) fn netfilter() -> io::Result<Self> {
        Self::open(Some(netlink::NETFILTER), true)
    }

    fn open(protocol: Option<rustix::net::Protocol>, batches: bool) -> io::Result<Self> {
        let socket = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            protocol,
        )?;
        rustix::net::bind(&socket, &SocketAddrNetlink::new(0, 0))?;
        Ok(Self { fd: socket, batches })
    }

    /// Sends messages in one call and waits for all answers; the first refusal is the error.
    pub(super) fn ask(&self, messages: &Messages) -> io::Result<Vec<Answer>> {
        let awaited = messages.awaited;
        let to = SocketAddrNetlink::new(0, 0);
        // A batch of nftables is one datagram, and may be larger than what sockets hold by default.
        let room = messages.bytes.len().saturating_mul(2).max(256 << 10);
        if messages.bytes.len() > 100 << 10 {
            // Where it is refused, sending says so.
            let _ = rustix::net::sockopt::set_socket_send_buffer_size_force(&self.fd, room);
        }
        let sent = rustix::net::sendto(&self.fd, &messages.bytes, SendFlags::empty(), &to)?;
        if sent != messages.bytes.len() {
            return Err(io::ErrorKind::WriteZero.into());
        }
        let mut answers = Vec::new();
        let mut refusal = None;
        let mut heard = 0;
        let mut buffer = vec![0; ANSWER];
        while heard < awaited {
            let (read, _) = rustix::io::retry_on_intr(|| {
                rustix::net::recv(&self.fd, &mut buffer[..], RecvFlags::empty())
            })?;
            heard += split(&buffer[..read], &mut answers, &mut refusal);
            if self.batches && refusal.is_some() {
                break;
            }
        }
        match refusal {
            Some(error) => Err(error),
            None => Ok(answers),
        }
    }
}

/// Takes a datagram apart; how many requests it brought to an end.
fn split(mut bytes: &[u8], answers: &mut Vec<Answer>, refusal: &mut Option<io::Error>) -> u32 {
    let mut ended = 0;
    while let Some(head) = bytes.get(..HEADER) {
        let length = u32::from_ne_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let kind = u16::from_ne_bytes([head[4], head[5]]);
        let Some(payload) = bytes.get(HEADER..length) else { break };
        match kind {
            DONE => ended += 1,
            ERROR => {
                ended += 1;
                let code = payload.get(..4).and_then(|b| b.try_into().ok()).map_or(0, i32::from_ne_bytes);
                if code != 0 && refusal.is_none() {
                    *refusal = Some(io::Error::from_raw_os_error(code.wrapping_neg()));
                }
            }
            _ => answers.push(Answer { payload: payload.to_vec() }),
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    ended
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_come_back_as_they_were_written() {
        let mut messages = Messages::default();
        messages.begin(16, CREATE, &[0; 4]);
        messages.text(3, "eth0");
        let nest = messages.nest(18);
        messages.number(1, 7);
        messages.attribute(2, &[1, 2, 3]);
        messages.end(nest);
        let bytes = &messages.bytes;
        assert_eq!(bytes.len() % 4, 0);
        assert_eq!(u32::from_ne_bytes(bytes[..4].try_into().unwrap()) as usize, bytes.len());
        let outer: Vec<_> = attributes(&bytes[HEADER + 4..]).collect();
        assert_eq!((outer[0].0, read_text(outer[0].1).as_str()), (3, "eth0"));
        let inner: Vec<_> = attributes(outer[1].1).collect();
        assert_eq!((outer[1].0, read_number(inner[0].1), inner[1].1), (18, Some(7), &[1, 2, 3][..]));
    }

    #[test]
    fn what_is_cut_off_is_left_out() {
        let mut messages = Messages::default();
        messages.begin(16, 0, &[]);
        messages.number(1, 7);
        messages.number(2, 8);
        for end in HEADER..messages.bytes.len() {
            assert!(attributes(&messages.bytes[HEADER..end]).count() < 2);
        }
        let (mut answers, mut refusal) = (Vec::new(), None);
        for end in 0..HEADER {
            assert_eq!(split(&messages.bytes[..end], &mut answers, &mut refusal), 0);
        }
        assert!(answers.is_empty() && refusal.is_none());
    }

    #[test]
    fn the_kernel_refuses_what_does_not_exist() {
        let socket = Socket::route().unwrap();
        let mut messages = Messages::default();
        let mut body = [0; 16];
        body[4..8].copy_from_slice(&i32::MAX.to_ne_bytes());
        messages.begin(18, 0, &body);
        assert_eq!(socket.ask(&messages).unwrap_err().raw_os_error(), Some(libc::ENODEV));
    }
}
