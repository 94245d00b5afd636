//! Tests of messages; another's parser reads what we write.

use proptest::prelude::*;
use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question, TYPE};

use super::*;

fn query(name: &str, kind: TYPE, size: Option<u16>) -> Vec<u8> {
    let mut packet = Packet::new_query(0x1234);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    let question =
        Question::new(Name::new_unchecked(name), QTYPE::TYPE(kind), QCLASS::CLASS(CLASS::IN), false);
    packet.questions.push(question);
    if let Some(udp_packet_size) = size {
        *packet.opt_mut() =
            Some(simple_dns::rdata::OPT { opt_codes: Vec::new(), udp_packet_size, version: 0 });
    }
    packet.build_bytes_vec().unwrap()
}

fn addresses(bytes: &[u8]) -> Vec<IpAddr> {
    let packet = Packet::parse(bytes).unwrap();
    let read = |data: &RData<'_>| match data {
        RData::A(a) => IpAddr::V4(Ipv4Addr::from(a.address)),
        RData::AAAA(a) => IpAddr::V6(Ipv6Addr::from(a.address)),
        other => panic!("{other:?}"),
    };
    packet.answers.iter().map(|record| read(&record.rdata)).collect()
}

#[test]
fn questions_are_understood() {
    for (name, kind, size, wanted) in [
        ("Web.My_Net", TYPE::A, None, Some("web.my_net")),
        ("a", TYPE::AAAA, Some(1232), Some("a")),
        ("", TYPE::NS, None, Some("")),
    ] {
        let parsed = Query::parse(&query(name, kind, size)).unwrap();
        assert_eq!((parsed.name.as_deref(), parsed.kind), (wanted, u16::from(kind)), "{name}");
        assert_eq!(parsed.limit(), size.map_or(512, usize::from));
        assert!(parsed.internet);
    }
    // Dots and other bytes within a label are no host's name, and not an error either.
    let mut odd = query("axb", TYPE::A, None);
    odd[14] = b'.';
    assert_eq!(Query::parse(&odd).unwrap().name, None);
}

#[test]
fn what_is_no_query_is_refused_or_not_answered() {
    let good = query("a.b", TYPE::A, None);
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    assert_eq!(Query::parse(&[]), Err(None));
    assert_eq!(Query::parse(&good[..11]), Err(None));
    assert_eq!(Query::parse(&with(2, 0x81)), Err(None), "an answer");
    for (bytes, code) in [
        (with(2, 0x28), Code::NotImplemented),
        (with(5, 0), Code::Malformed),
        (with(5, 2), Code::Malformed),
        (with(12, 0xc0), Code::Malformed),
        (with(12, 64), Code::Malformed),
        (with(12, 60), Code::Malformed),
        (good[..good.len() - 1].to_vec(), Code::Malformed),
    ] {
        let answer = Query::parse(&bytes).unwrap_err().expect("an answer");
        assert_eq!((answer.len(), answer[3] & 15, id(&answer)), (12, code as u8, 0x1234), "{bytes:?}");
    }
    let long = vec![3_u8; 300];
    let bytes = [&good[..12], &long, &[0, 0, 1, 0, 1]].concat();
    assert!(Query::parse(&bytes).unwrap_err().is_some(), "a name of over 255 bytes");
}

#[test]
fn answers_are_read_by_others() {
    let list = |count: u8| -> Vec<Data> {
        (0..count).map(|n| Data::Address(Ipv4Addr::new(10, 0, 0, n).into())).collect()
    };
    let bytes = query("web", TYPE::A, None);
    let parsed = Query::parse(&bytes).unwrap();
    let answer = parsed.answer(&bytes, Code::Good, &list(2), parsed.limit());
    let packet = Packet::parse(&answer).unwrap();
    assert_eq!((packet.id(), packet.questions.len(), packet.answers[0].ttl), (0x1234, 1, 600));
    assert!(
        packet.has_flags(
            PacketFlag::RESPONSE | PacketFlag::RECURSION_AVAILABLE | PacketFlag::RECURSION_DESIRED
        )
    );
    assert_eq!(packet.answers[0].name.to_string(), "web");
    assert_eq!(addresses(&answer), [[10, 0, 0, 0], [10, 0, 0, 1]].map(IpAddr::from));
    // What does not fit is left out, and said so.
    let answer = parsed.answer(&bytes, Code::Good, &list(200), parsed.limit());
    assert!(answer.len() <= 512 && Packet::parse(&answer).unwrap().has_flags(PacketFlag::TRUNCATION));
    assert_eq!(addresses(&answer).len(), (512 - bytes.len()) / 16);
    assert_eq!(addresses(&parsed.answer(&bytes, Code::Good, &list(200), LARGEST)).len(), 200);
    let bytes = query("web", TYPE::AAAA, Some(4000));
    let parsed = Query::parse(&bytes).unwrap();
    let six: IpAddr = "fd00::2".parse().unwrap();
    let answer = parsed.answer(&bytes, Code::Good, &[Data::Address(six)], parsed.limit());
    assert_eq!(addresses(&answer), [six]);
    assert!(Packet::parse(&answer).unwrap().opt().is_some(), "who speaks EDNS is answered in it");
    let none = parsed.answer(&bytes, Code::NoName, &[], parsed.limit());
    assert_eq!(Packet::parse(&none).unwrap().rcode(), simple_dns::RCODE::NameError);
    let bytes = query("2.0.0.10.in-addr.arpa", TYPE::PTR, None);
    let parsed = Query::parse(&bytes).unwrap();
    let answer = parsed.answer(&bytes, Code::Good, &[Data::Name("web.net-1".into())], parsed.limit());
    let packet = Packet::parse(&answer).unwrap();
    let RData::PTR(name) = &packet.answers[0].rdata else { panic!("{packet:?}") };
    assert_eq!(name.0.to_string(), "web.net-1");
}

#[test]
fn an_answer_is_one_to_this_question() {
    let bytes = query("example.org", TYPE::A, None);
    let asked = Query::parse(&bytes).unwrap();
    let good = asked.answer(&bytes, Code::Good, &[Data::Address([192, 0, 2, 1].into())], 512);
    let from_upstream = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut answer = with_id(&good, 7);
        change(&mut answer);
        asked.answered(&bytes, 7, &answer)
    };
    assert_eq!(from_upstream(&|_| {}), Some(0));
    assert_eq!(from_upstream(&|a| a[3] |= 3), Some(3));
    assert_eq!(from_upstream(&|a| a[13] = a[13].to_ascii_uppercase()), Some(0), "names have no case");
    assert_eq!(from_upstream(&|a| a[1] = 8), None, "another number");
    assert_eq!(from_upstream(&|a| a[2] = 1), None, "a query");
    assert_eq!(from_upstream(&|a| a[14] = b'z'), None, "another name");
    assert_eq!(from_upstream(&|a| a[26] = 28), None, "another kind");
    assert_eq!(from_upstream(&|a| a.truncate(20)), None);
    let silent = |a: &mut Vec<u8>, code| {
        a.truncate(12);
        a[4..12].fill(0);
        a[3] = code;
    };
    assert_eq!(from_upstream(&|a| silent(a, 5)), Some(5), "a refusal without the question");
    assert_eq!(from_upstream(&|a| silent(a, 3)), None, "a name is denied by who names it");
    let cut = asked.truncated(&bytes);
    assert!(Packet::parse(&cut).unwrap().has_flags(PacketFlag::TRUNCATION));
}

#[test]
fn addresses_are_read_from_their_names() {
    let six = format!("2.0.0.0.{}d.f.ip6.arpa", "0.".repeat(26));
    for (name, wanted) in [
        ("2.0.0.10.in-addr.arpa", Some("10.0.0.2")),
        (six.as_str(), Some("fd00::2")),
        ("0.0.10.in-addr.arpa", None),
        ("1.2.0.0.10.in-addr.arpa", None),
        ("256.0.0.10.in-addr.arpa", None),
        ("+2.0.0.10.in-addr.arpa", None),
        ("2.ip6.arpa", None),
        ("10.0.0.2", None),
    ] {
        assert_eq!(reversed(name).map(|address| address.to_string()).as_deref(), wanted, "{name}");
    }
}

proptest! {
    #[test]
    fn no_bytes_do_harm(bytes in proptest::collection::vec(any::<u8>(), 0..600), id in any::<u16>()) {
        if let Ok(query) = Query::parse(&bytes) {
            let answer = query.answer(&bytes, Code::Failed, &[Data::Name("a.b".into())], query.limit());
            prop_assert!(answer.len() <= query.limit().max(bytes.len() + 11));
            let _ = query.answered(&bytes, id, &bytes);
        }
        let good = query("example.org", TYPE::A, None);
        let _ = Query::parse(&good).unwrap().answered(&good, id, &bytes);
    }

    #[test]
    fn a_damaged_query_is_read_or_refused(at in 0_usize..29, byte in any::<u8>(), cut in 0_usize..30) {
        let mut bytes = query("example.org", TYPE::A, Some(1232));
        bytes[at] = byte;
        bytes.truncate(bytes.len() - cut.min(bytes.len()));
        if let Ok(query) = Query::parse(&bytes) {
            prop_assert!(query.answer(&bytes, Code::Good, &[], query.limit()).len() >= 17);
        }
    }

    #[test]
    fn any_name_fits(name in "[a-z.]{0,400}") {
        let bytes = query("1.0.0.10.in-addr.arpa", TYPE::PTR, None);
        let answer = Query::parse(&bytes).unwrap().answer(&bytes, Code::Good, &[Data::Name(name)], 512);
        prop_assert!(Packet::parse(&answer).is_ok());
    }
}
