//! Messages on the wire (RFC 1035, RFC 6891): the question of a query, answers of our own, and whether what an upstream server sent
//! is an answer to what it was asked.
//!
//! Both sides are hostile: queries come from containers, answers from the network. Nothing is allocated by what a message claims,
//! no pointer is followed, and what is forwarded is passed on as bytes without being understood.
//!
//! Why not a crate: hickory-proto brings twenty others and a parser of every kind of record into a process that has two megabytes;
//! simple-dns allocates by the counts in the header (twelve bytes make it reserve megabytes), and refuses bits and types that a
//! forwarder must let through. It reads our answers in the tests.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Kinds of records.
pub const A: u16 = 1;
/// A name of an address.
pub const PTR: u16 = 12;
/// An IPv6 address.
pub const AAAA: u16 = 28;
const OPT: u16 = 41;
const INTERNET: u16 = 1;

/// Seconds for which an answer of ours may be kept: docker's.
pub const TTL: u32 = 600;

/// The largest message over TCP.
pub const LARGEST: usize = 65_535;

/// What a client of UDP takes that says nothing else.
const PLAIN: usize = 512;

/// The most that is sent over UDP, whatever a client takes.
pub const LARGEST_UDP: usize = 4096;

const HEADER: usize = 12;
const RESPONSE: u8 = 0x80;
const TRUNCATED: u8 = 0x02;
const RECURSION_DESIRED: u8 = 0x01;
const RECURSION_AVAILABLE: u8 = 0x80;
/// A pointer to the question's name, which every answer of ours is about.
const SAME_NAME: [u8; 2] = [0xc0, 12];

/// How a query went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// Well.
    Good = 0,
    /// The query is not one.
    Malformed = 1,
    /// The server could not find out.
    Failed = 2,
    /// There is no such name.
    NoName = 3,
    /// The server does not do this.
    NotImplemented = 4,
}

/// A query, as far as it has to be understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// The name in lower case, without the dot at the end; `None` when it is none that a host can have here.
    pub name: Option<String>,
    /// The kind of record.
    pub kind: u16,
    /// It is about the Internet.
    pub internet: bool,
    /// Header and question are so many bytes.
    end: usize,
    /// The bytes that the client takes in one packet, if it says so.
    size: Option<u16>,
}

/// The data of one answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    /// An address.
    Address(IpAddr),
    /// A name, for an address that was asked for.
    Name(String),
}

fn number(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// The end of a name without pointers, and the name where it is a host's.
fn name(bytes: &[u8], mut at: usize) -> Option<(usize, Option<String>)> {
    let (mut text, mut plain) = (String::new(), true);
    let begin = at;
    loop {
        let length = usize::from(*bytes.get(at)?);
        if length > 63 || at - begin + length + 1 > 255 {
            return None;
        }
        let label = bytes.get(at + 1..at + 1 + length)?;
        at += 1 + length;
        if length == 0 {
            return Some((at, plain.then_some(text)));
        }
        if !text.is_empty() {
            text.push('.');
        }
        plain &= label.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'.');
        text.extend(label.iter().map(|byte| char::from(byte.to_ascii_lowercase())));
    }
}

/// The size that the first additional record tells, where it is the one of RFC 6891 and nothing comes before it.
fn size(bytes: &[u8], end: usize) -> Option<u16> {
    let counts = (number(bytes, 6)?, number(bytes, 8)?, number(bytes, 10)?);
    let begins = counts.0 == 0 && counts.1 == 0 && counts.2 > 0 && bytes.get(end) == Some(&0);
    (begins && number(bytes, end + 1)? == OPT).then(|| number(bytes, end + 3)).flatten()
}

impl Query {
    /// Understands a query; the answer to one that cannot be understood, if it deserves one.
    pub fn parse(bytes: &[u8]) -> Result<Self, Option<Vec<u8>>> {
        let (Some(header), true) = (bytes.get(..HEADER), bytes.len() <= LARGEST) else { return Err(None) };
        // What is an answer itself is never answered: two servers would go on for ever.
        if header[2] & RESPONSE != 0 {
            return Err(None);
        }
        let refuse = |code| Err(Some(bare(header, code)));
        if header[2] >> 3 & 15 != 0 {
            return refuse(Code::NotImplemented);
        }
        if number(bytes, 4) != Some(1) {
            return refuse(Code::Malformed);
        }
        let Some((at, name)) = name(bytes, HEADER) else { return refuse(Code::Malformed) };
        let (Some(kind), Some(class)) = (number(bytes, at), number(bytes, at + 2)) else {
            return refuse(Code::Malformed);
        };
        let end = at + 4;
        Ok(Self { name, kind, internet: class == INTERNET, end, size: size(bytes, end) })
    }

    /// The largest answer that the client takes over UDP.
    pub fn limit(&self) -> usize {
        self.size.map_or(PLAIN, |size| usize::from(size).clamp(PLAIN, LARGEST_UDP))
    }

    /// An answer to this query, whose bytes these are; what does not fit into `limit` is left out, and the answer says so.
    pub fn answer(&self, bytes: &[u8], code: Code, records: &[Data], limit: usize) -> Vec<u8> {
        let mut answer = bytes.get(..self.end).unwrap_or_default().to_vec();
        let extension = self.size.map(|_| extension()).unwrap_or_default();
        answer[2] = RESPONSE | answer[2] & RECURSION_DESIRED;
        answer[3] = RECURSION_AVAILABLE | code as u8;
        let mut count = 0_u16;
        for record in records {
            let record = encode(record);
            if answer.len() + record.len() + extension.len() > limit {
                answer[2] |= TRUNCATED;
                break;
            }
            answer.extend(record);
            count += 1;
        }
        answer[6..8].copy_from_slice(&count.to_be_bytes());
        answer[8..10].fill(0);
        answer[10..12].copy_from_slice(&u16::from(!extension.is_empty()).to_be_bytes());
        answer.extend(extension);
        answer
    }

    /// How an upstream server answered this query, which was sent to it with the number `id`; `None`: this is no answer to it.
    pub fn answered(&self, bytes: &[u8], id: u16, answer: &[u8]) -> Option<u8> {
        let header = answer.get(..HEADER)?;
        if number(answer, 0)? != id || header[2] & RESPONSE == 0 || header[2] >> 3 & 15 != 0 {
            return None;
        }
        let code = header[3] & 15;
        // A server that cannot do anything with a question may leave it out.
        if number(answer, 4)? == 0 {
            return (code != Code::Good as u8 && code != Code::NoName as u8).then_some(code);
        }
        let question = answer.get(HEADER..self.end)?;
        let same = number(answer, 4)? == 1 && question.eq_ignore_ascii_case(bytes.get(HEADER..self.end)?);
        same.then_some(code)
    }

    /// The beginning of an answer that is too long for the client: it asks again over TCP.
    pub fn truncated(&self, bytes: &[u8]) -> Vec<u8> {
        let mut answer = self.answer(bytes, Code::Good, &[], LARGEST);
        answer[2] |= TRUNCATED;
        answer
    }
}

/// The number of a message.
pub fn id(bytes: &[u8]) -> u16 {
    number(bytes, 0).unwrap_or_default()
}

/// The same message with another number.
pub fn with_id(bytes: &[u8], id: u16) -> Vec<u8> {
    let mut message = bytes.to_vec();
    if let Some(place) = message.get_mut(..2) {
        place.copy_from_slice(&id.to_be_bytes());
    }
    message
}

/// An answer without its question.
fn bare(header: &[u8], code: Code) -> Vec<u8> {
    let mut answer = vec![0; HEADER];
    answer[..2].copy_from_slice(&header[..2]);
    answer[2] = RESPONSE | header[2] & 0x79;
    answer[3] = RECURSION_AVAILABLE | code as u8;
    answer
}

/// Our own record of RFC 6891.
fn extension() -> Vec<u8> {
    let size = u16::try_from(LARGEST_UDP).unwrap_or(u16::MAX);
    [&[0][..], &OPT.to_be_bytes(), &size.to_be_bytes(), &[0; 6]].concat()
}

fn encode(record: &Data) -> Vec<u8> {
    let (kind, data) = match record {
        Data::Address(IpAddr::V4(address)) => (A, address.octets().to_vec()),
        Data::Address(IpAddr::V6(address)) => (AAAA, address.octets().to_vec()),
        Data::Name(name) => (PTR, labels(name)),
    };
    let length = u16::try_from(data.len()).unwrap_or_default();
    [
        &SAME_NAME[..],
        &kind.to_be_bytes(),
        &INTERNET.to_be_bytes(),
        &TTL.to_be_bytes(),
        &length.to_be_bytes(),
        &data,
    ]
    .concat()
}

/// A name on the wire; one that is too long ends early.
fn labels(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty() && label.len() < 64) {
        if bytes.len() + label.len() > 253 {
            break;
        }
        bytes.push(u8::try_from(label.len()).unwrap_or_default());
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes
}

/// The address that a name of `in-addr.arpa` or `ip6.arpa` stands for.
pub fn reversed(name: &str) -> Option<IpAddr> {
    if let Some(numbers) = name.strip_suffix(".in-addr.arpa") {
        let mut octets = [0; 4];
        let mut parts = numbers.split('.');
        for octet in octets.iter_mut().rev() {
            let part = parts.next()?;
            let plain = part.len() < 4 && part.bytes().all(|byte| byte.is_ascii_digit());
            *octet = part.parse().ok().filter(|_| plain)?;
        }
        return parts.next().is_none().then(|| Ipv4Addr::from(octets).into());
    }
    let digits = name.strip_suffix(".ip6.arpa")?;
    let mut bits = 0_u128;
    let mut count = 0;
    for digit in digits.rsplit('.') {
        let digit = u8::from_str_radix(digit, 16).ok().filter(|_| digit.len() == 1)?;
        bits = bits << 4 | u128::from(digit);
        count += 1;
    }
    (count == 32).then(|| Ipv6Addr::from_bits(bits).into())
}

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;
