//! Rules, sets and batches in the kernel's form (`linux/netfilter/nf_tables.h`).

use std::net::IpAddr;

use crate::net::netlink::{APPEND, CREATE, DUMP, Messages, Nest};

const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
const BATCH_GENID: u16 = 1;
const NEW_TABLE: u16 = 0;
const DEL_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const GET_CHAIN: u16 = 4;
const NEW_RULE: u16 = 6;
const NEW_SET: u16 = 9;
const NEW_ELEMENT: u16 = 12;
/// Ask for the number of the generation.
pub(super) const GET_GENERATION: u16 = 16;

/// Both versions of IP.
pub(super) const INET: u8 = 1;
const UNSPECIFIED: u8 = 0;
pub(super) const IPV4: u8 = 2;
pub(super) const IPV6: u8 = 10;

const LIST_ELEMENT: u16 = 1;
const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;
const VERDICT_CODE: u16 = 1;

/// A nest must stay below what sixteen bits count, with room for what is around it.
const NEST: usize = 48 << 10;

/// `struct nfgenmsg`.
pub(super) fn head(family: u8) -> [u8; 4] {
    [family, 0, 0, 0]
}

fn kind(message: u16) -> u16 {
    SUBSYSTEM << 8 | message
}

/// The first request for a generation number.
pub(super) fn ask_generation() -> Messages {
    let mut messages = Messages::default();
    messages.begin(kind(GET_GENERATION), 0, &head(UNSPECIFIED));
    messages
}

/// The request for all chains of all tables.
pub(super) fn ask_chains() -> Messages {
    let mut messages = Messages::default();
    messages.begin(kind(GET_CHAIN), DUMP, &head(UNSPECIFIED));
    messages
}

/// A register: four of 16 bytes, or sixteen of 4.
pub(super) type Register = u32;
/// The first one of 16 bytes, which is the first four of 4.
pub(super) const WIDE_1: Register = 1;
/// The second one of 16 bytes.
pub(super) const WIDE_2: Register = 2;
/// The second one of 4 bytes.
pub(super) const NARROW_2: Register = 9;
/// The third one of 4 bytes.
pub(super) const NARROW_3: Register = 10;
/// The second, after a wide first one: the fifth of 4 bytes.
pub(super) const NARROW_5: Register = 12;
/// The sixth of 4 bytes.
pub(super) const NARROW_6: Register = 13;

/// What `meta` loads.
#[derive(Debug, Clone, Copy)]
pub(super) enum Meta {
    InName = 6,
    OutName = 7,
    Family = 15,
    Protocol = 16,
}

/// The end of a rule.
#[derive(Debug, Clone, Copy)]
pub(super) enum Verdict {
    Drop = 0,
    Accept = 1,
}

/// One step of a rule.
#[derive(Debug, Clone)]
pub(super) enum Step {
    Meta(Meta, Register),
    /// Bytes of the network header: offset, length.
    Network(u32, u32, Register),
    /// The destination port.
    Port(Register),
    Equal(Vec<u8>),
    Unequal(Vec<u8>),
    And(Vec<u8>),
    /// Goes on if the set has what is in the registers from here on.
    Among(&'static str, Register),
    /// Goes on with the map's value in the first register.
    Map(&'static str),
    /// The kind of the destination address, of this host: local.
    LocalDestination,
    /// The state of the connection.
    State,
    /// What has become of the connection.
    Status,
    /// To the address and port in the first two registers: family, register of the port.
    Dnat(u8, Register),
    Masquerade,
    Verdict(Verdict),
}

const LOCAL: u32 = 2;
/// `established` and `related`.
const KNOWN: u32 = 2 | 4;
/// The destination was changed.
const DNAT_DONE: u32 = 0x20;

/// Only these bits count, and one must be set.
fn any_of(load: Step, bits: u32) -> Vec<Step> {
    vec![load, Step::And(bits.to_ne_bytes().into()), Step::Unequal(vec![0; 4])]
}

/// Only what belongs to a connection that was let through before.
pub(super) fn known() -> Vec<Step> {
    any_of(Step::State, KNOWN)
}

/// Only what was sent to a published port.
pub(super) fn published() -> Vec<Step> {
    any_of(Step::Status, DNAT_DONE)
}

/// Only this version of IP.
pub(super) fn family(family: u8) -> Vec<Step> {
    vec![Step::Meta(Meta::Family, WIDE_1), Step::Equal(vec![family])]
}

/// Only what is for an address of this host.
pub(super) fn local() -> Vec<Step> {
    vec![Step::LocalDestination, Step::Equal(LOCAL.to_ne_bytes().into())]
}

/// A name of a link as the kernel compares it.
pub(super) fn link(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize(16, 0);
    bytes
}

/// Only from (offset 12 or 8) this network.
pub(super) fn from(network: IpAddr, bits: u8) -> Vec<Step> {
    let (at, octets) = match network {
        IpAddr::V4(address) => (12, address.octets().to_vec()),
        IpAddr::V6(address) => (8, address.octets().to_vec()),
    };
    let mask: Vec<u8> = (0..octets.len()).map(|at| mask_byte(bits, at)).collect();
    let network: Vec<u8> = octets.iter().zip(&mask).map(|(byte, mask)| byte & mask).collect();
    let length = u32::try_from(octets.len()).unwrap_or(16);
    vec![Step::Network(at, length, WIDE_1), Step::And(mask), Step::Equal(network)]
}

fn mask_byte(bits: u8, at: usize) -> u8 {
    let here = usize::from(bits).saturating_sub(at * 8).min(8);
    // Zero to eight ones from the left.
    u8::try_from(0xff00_u32 >> here & 0xff).unwrap_or(0)
}

/// What a set's keys or values are made of, as `nft` names them; each takes a multiple of 4 bytes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Part {
    Ipv4,
    Ipv6,
    Protocol,
    Port,
    Link,
}

impl Part {
    fn number(self) -> u32 {
        match self {
            Self::Ipv4 => 7,
            Self::Ipv6 => 8,
            Self::Protocol => 12,
            Self::Port => 13,
            Self::Link => 41,
        }
    }

    fn length(self) -> u32 {
        match self {
            Self::Ipv4 | Self::Protocol | Self::Port => 4,
            Self::Ipv6 | Self::Link => 16,
        }
    }
}

/// The type number that `nft` shows a concatenation by, and its length.
fn concatenation(parts: &[Part]) -> (u32, u32) {
    parts.iter().fold((0, 0), |(number, length), part| (number << 6 | part.number(), length + part.length()))
}

/// A set, or with values a map.
#[derive(Debug)]
pub(super) struct Set {
    pub(super) name: &'static str,
    pub(super) key: &'static [Part],
    pub(super) value: &'static [Part],
    pub(super) elements: Vec<(Vec<u8>, Vec<u8>)>,
}

/// A chain that the kernel calls.
#[derive(Debug)]
pub(super) struct Chain {
    pub(super) name: &'static str,
    pub(super) kind: &'static str,
    pub(super) hook: u32,
    pub(super) priority: i32,
    pub(super) rules: Vec<Vec<Step>>,
}

/// A change that is made as a whole, or not at all when the generation is no longer the one given.
#[derive(Debug)]
pub(super) struct Batch<'a> {
    messages: Messages,
    table: &'a str,
    sets: u32,
}

impl<'a> Batch<'a> {
    pub(super) fn begin(table: &'a str, generation: u32) -> Self {
        let mut messages = Messages::default();
        let mut body = head(UNSPECIFIED);
        body[2..].copy_from_slice(&SUBSYSTEM.to_be_bytes());
        messages.bracket(BATCH_BEGIN, &body);
        messages.big(BATCH_GENID, generation);
        Self { messages, table, sets: 0 }
    }

    pub(super) fn end(mut self) -> Messages {
        let mut body = head(UNSPECIFIED);
        body[2..].copy_from_slice(&SUBSYSTEM.to_be_bytes());
        self.messages.bracket(BATCH_END, &body);
        self.messages
    }

    /// Makes sure that the table is there, and then that it is not.
    pub(super) fn remove_table(&mut self) {
        self.add_table();
        self.messages.begin(kind(DEL_TABLE), 0, &head(INET));
        self.messages.text(1, self.table);
    }

    pub(super) fn add_table(&mut self) {
        self.messages.begin(kind(NEW_TABLE), CREATE, &head(INET));
        self.messages.text(1, self.table);
    }

    pub(super) fn add_chain(&mut self, chain: Chain) {
        let m = &mut self.messages;
        m.begin(kind(NEW_CHAIN), CREATE, &head(INET));
        m.text(1, self.table);
        m.text(3, chain.name);
        let hook = m.nest(4);
        m.big(1, chain.hook);
        m.attribute(2, &chain.priority.to_be_bytes());
        m.end(hook);
        m.text(7, chain.kind);
        for rule in chain.rules {
            self.add_rule(chain.name, &rule);
        }
    }

    fn add_rule(&mut self, chain: &str, steps: &[Step]) {
        let m = &mut self.messages;
        m.begin(kind(NEW_RULE), CREATE | APPEND, &head(INET));
        m.text(1, self.table);
        m.text(2, chain);
        let list = m.nest(4);
        for step in steps {
            let element = m.nest(LIST_ELEMENT);
            encode(m, step);
            m.end(element);
        }
        m.end(list);
    }

    pub(super) fn add_set(&mut self, set: &Set) {
        const MAP: u32 = 8;
        self.sets += 1;
        let m = &mut self.messages;
        let (key, key_length) = concatenation(set.key);
        let (value, value_length) = concatenation(set.value);
        m.begin(kind(NEW_SET), CREATE, &head(INET));
        m.text(1, self.table);
        m.text(2, set.name);
        m.big(3, if set.value.is_empty() { 0 } else { MAP });
        m.big(4, key);
        m.big(5, key_length);
        if !set.value.is_empty() {
            m.big(6, value);
            m.big(7, value_length);
        }
        m.big(10, self.sets);
        let mut rest = set.elements.as_slice();
        while !rest.is_empty() {
            rest = add_elements(m, self.table, set.name, rest);
        }
    }
}

/// Adds as many elements as one message takes; the rest.
fn add_elements<'a>(
    m: &mut Messages,
    table: &str,
    set: &str,
    elements: &'a [(Vec<u8>, Vec<u8>)],
) -> &'a [(Vec<u8>, Vec<u8>)] {
    m.begin(kind(NEW_ELEMENT), CREATE, &head(INET));
    m.text(1, table);
    m.text(2, set);
    let list = m.nest(3);
    let mut taken = 0;
    for (key, value) in elements {
        if m.within(&list) > NEST {
            break;
        }
        let element = m.nest(LIST_ELEMENT);
        data(m, 1, key);
        if !value.is_empty() {
            data(m, 2, value);
        }
        m.end(element);
        taken += 1;
    }
    m.end(list);
    &elements[taken..]
}

fn data(m: &mut Messages, attribute: u16, bytes: &[u8]) {
    let nest = m.nest(attribute);
    m.attribute(DATA_VALUE, bytes);
    m.end(nest);
}

/// Begins an expression of this name: its attributes follow.
fn expression(m: &mut Messages, name: &str) -> Nest {
    m.text(1, name);
    m.nest(2)
}

fn compare(m: &mut Messages, operation: u32, with: &[u8]) {
    let nest = expression(m, "cmp");
    m.big(1, WIDE_1);
    m.big(2, operation);
    data(m, 3, with);
    m.end(nest);
}

fn load(m: &mut Messages, name: &str, attributes: &[(u16, u32)]) {
    let nest = expression(m, name);
    for &(kind, value) in attributes {
        m.big(kind, value);
    }
    m.end(nest);
}

fn encode(m: &mut Messages, step: &Step) {
    match step {
        Step::Meta(key, to) => load(m, "meta", &[(1, *to), (2, *key as u32)]),
        Step::Network(at, length, to) => load(m, "payload", &[(1, *to), (2, 1), (3, *at), (4, *length)]),
        Step::Port(to) => load(m, "payload", &[(1, *to), (2, 2), (3, 2), (4, 2)]),
        Step::Equal(with) => compare(m, 0, with),
        Step::Unequal(with) => compare(m, 1, with),
        Step::And(mask) => {
            let nest = expression(m, "bitwise");
            m.big(1, WIDE_1);
            m.big(2, WIDE_1);
            m.big(3, u32::try_from(mask.len()).unwrap_or(16));
            data(m, 4, mask);
            data(m, 5, &vec![0; mask.len()]);
            m.end(nest);
        }
        Step::Among(set, from) => lookup(m, set, *from, None),
        Step::Map(map) => lookup(m, map, WIDE_1, Some(WIDE_1)),
        Step::LocalDestination => load(m, "fib", &[(1, WIDE_1), (2, 3), (3, 2)]),
        Step::State => load(m, "ct", &[(1, WIDE_1), (2, 0)]),
        Step::Status => load(m, "ct", &[(1, WIDE_1), (2, 2)]),
        Step::Dnat(family, port) => {
            load(m, "nat", &[(1, 1), (2, u32::from(*family)), (3, WIDE_1), (5, *port)]);
        }
        Step::Masquerade => load(m, "masq", &[]),
        Step::Verdict(verdict) => {
            let nest = expression(m, "immediate");
            m.big(1, 0);
            let data = m.nest(2);
            let code = m.nest(DATA_VERDICT);
            m.big(VERDICT_CODE, *verdict as u32);
            m.end(code);
            m.end(data);
            m.end(nest);
        }
    }
}

fn lookup(m: &mut Messages, set: &str, from: Register, to: Option<Register>) {
    let nest = expression(m, "lookup");
    m.text(1, set);
    m.big(2, from);
    if let Some(to) = to {
        m.big(3, to);
    }
    m.end(nest);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_have_their_ones_on_the_left() {
        for (bits, mask) in [
            (0, [0, 0, 0, 0]),
            (1, [128, 0, 0, 0]),
            (8, [255, 0, 0, 0]),
            (20, [255, 255, 240, 0]),
            (32, [255; 4]),
        ] {
            assert_eq!([0, 1, 2, 3].map(|at| mask_byte(bits, at)), mask, "/{bits}");
        }
    }

    #[test]
    fn concatenations_are_numbered_as_nft_does() {
        assert_eq!(concatenation(&[Part::Link]), (41, 16));
        assert_eq!(concatenation(&[Part::Protocol, Part::Port]), (0x0c << 6 | 0x0d, 8));
        assert_eq!(
            concatenation(&[Part::Ipv4, Part::Protocol, Part::Port]),
            ((0x07 << 6 | 0x0c) << 6 | 0x0d, 12)
        );
    }
}
