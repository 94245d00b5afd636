//! Who is called what, as one container sees it: the endpoints of the networks that it is on, and of no other.
//!
//! Docker's rules. A name is looked for as it is on every network of the asker's, in the order of its connections; then, for
//! `a.b.c`, as `a.b` on the network `c` and `a` on the network `b.c`. The asker's own links come before everybody's names. What is
//! known here is never asked of anybody else: a known name without an address of the wanted kind has no data, which is not the same
//! as no name. Upper and lower case are one.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::message::{A, AAAA, Data, PTR, reversed};

/// One of the asker's networks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// The network's name.
    pub network: String,
    /// Nothing goes out of it.
    pub internal: bool,
    /// What the asker calls others here: alias, and the other's name or id.
    pub links: Vec<(String, String)>,
    /// Who is on it.
    pub members: Vec<Member>,
}

/// A container on a network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Member {
    /// The container's name.
    pub name: String,
    /// Its id.
    pub id: String,
    /// What else it is called: aliases, its host name.
    pub aliases: Vec<String>,
    /// Its address.
    pub ipv4: Option<Ipv4Addr>,
    /// Its address.
    pub ipv6: Option<Ipv6Addr>,
}

/// What is known about a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    /// Nothing: somebody else may know.
    Nothing,
    /// The name, but nothing of the wanted kind.
    NoData,
    /// This.
    Answers(Vec<Data>),
}

/// Everything that one container may know.
#[derive(Debug, Default)]
pub struct Zone {
    places: Vec<Indexed>,
}

#[derive(Debug)]
struct Indexed {
    place: Place,
    names: HashMap<String, Vec<usize>>,
}

impl Indexed {
    fn new(place: Place) -> Self {
        let mut names: HashMap<String, Vec<usize>> = HashMap::new();
        for (index, member) in place.members.iter().enumerate() {
            let short = member.id.get(..12).unwrap_or(&member.id);
            let all =
                [member.name.as_str(), short].into_iter().chain(member.aliases.iter().map(String::as_str));
            for name in all.filter(|name| !name.is_empty()) {
                let holders = names.entry(name.to_ascii_lowercase()).or_default();
                if holders.last() != Some(&index) {
                    holders.push(index);
                }
            }
        }
        Self { place, names }
    }

    /// Whom the asker calls so.
    fn linked(&self, name: &str) -> Vec<usize> {
        let found = self.place.links.iter().find(|(alias, _)| alias.eq_ignore_ascii_case(name));
        let Some((_, target)) = found else { return Vec::new() };
        let members = self.place.members.iter().enumerate();
        members.filter(|(_, one)| one.name == *target || one.id == *target).map(|(index, _)| index).collect()
    }

    /// Who is called so by everybody.
    fn named(&self, name: &str) -> Vec<usize> {
        self.names.get(name).cloned().unwrap_or_default()
    }
}

impl Zone {
    /// A zone of the asker's networks, in the order of its connections.
    pub fn new(places: Vec<Place>) -> Self {
        Self { places: places.into_iter().map(Indexed::new).collect() }
    }

    /// Whether anything beyond these networks may be asked: there is one that is not internal.
    pub fn leads_out(&self) -> bool {
        self.places.iter().any(|one| !one.place.internal)
    }

    /// What is known about a name (in lower case). `turn` is another number each time: of several addresses another comes first.
    pub fn ask(&self, name: &str, kind: u16, turn: usize) -> Known {
        if kind == PTR
            && let Some(address) = reversed(name)
        {
            return self
                .name_of(address)
                .map_or(Known::Nothing, |name| Known::Answers(vec![Data::Name(name)]));
        }
        let members = self.find(name);
        if members.is_empty() {
            return Known::Nothing;
        }
        let wanted = |member: &&Member| match kind {
            A => member.ipv4.map(IpAddr::from),
            AAAA => member.ipv6.map(IpAddr::from),
            _ => None,
        };
        let mut addresses: Vec<_> = members.iter().filter_map(wanted).map(Data::Address).collect();
        if addresses.is_empty() {
            return Known::NoData;
        }
        let first = turn % addresses.len();
        addresses.rotate_left(first);
        Known::Answers(addresses)
    }

    fn find(&self, name: &str) -> Vec<&Member> {
        let on = |network: Option<&str>, name: &str| {
            let here =
                |one: &&Indexed| network.is_none_or(|wanted| one.place.network.eq_ignore_ascii_case(wanted));
            let look = |look: fn(&Indexed, &str) -> Vec<usize>| {
                let mut found = self.places.iter().filter(here).map(|one| (one, look(one, name)));
                let (one, found) = found.find(|(_, found)| !found.is_empty())?;
                Some(found.into_iter().map(|index| &one.place.members[index]).collect::<Vec<_>>())
            };
            look(Indexed::linked).or_else(|| look(Indexed::named))
        };
        if let Some(found) = on(None, name) {
            return found;
        }
        let mut dots = name.rmatch_indices('.').map(|(at, _)| at);
        dots.find_map(|at| on(Some(&name[at + 1..]), &name[..at])).unwrap_or_default()
    }

    /// `container.network`.
    fn name_of(&self, address: IpAddr) -> Option<String> {
        let has = |member: &&Member| {
            member.ipv4.map(IpAddr::from) == Some(address) || member.ipv6.map(IpAddr::from) == Some(address)
        };
        let named = |one: &Indexed| {
            let member = one.place.members.iter().find(has)?;
            Some(format!("{}.{}", member.name, one.place.network))
        };
        self.places.iter().find_map(named)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, id: &str, aliases: &[&str], last: u8) -> Member {
        Member {
            name: name.into(),
            id: id.into(),
            aliases: aliases.iter().map(|&alias| alias.to_owned()).collect(),
            ipv4: Some(Ipv4Addr::new(10, 0, 0, last)),
            ipv6: (last == 3).then(|| Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last.into())),
        }
    }

    fn zone() -> Zone {
        let front = Place {
            network: "front".into(),
            links: vec![("database".into(), "db".into()), ("api".into(), "nobody".into())],
            members: vec![
                member("web", "aaaaaaaaaaaabbbb", &["www", "API"], 2),
                member("db", "ccccccccccccdddd", &["www"], 3),
                member("v6", "eeeeeeeeeeeeffff", &[], 4),
            ],
            internal: true,
        };
        let back = Place {
            network: "back.end".into(),
            members: vec![member("web", "1111", &[], 12), member("deep.name", "2222", &["cache"], 13)],
            ..Place::default()
        };
        Zone::new(vec![front, back])
    }

    fn four(zone: &Zone, name: &str, turn: usize) -> Option<Vec<u8>> {
        match zone.ask(name, A, turn) {
            Known::Nothing => None,
            Known::NoData => Some(Vec::new()),
            Known::Answers(all) => Some(
                all.iter()
                    .map(|data| match data {
                        Data::Address(IpAddr::V4(address)) => address.octets()[3],
                        other => panic!("{other:?}"),
                    })
                    .collect(),
            ),
        }
    }

    #[test]
    fn names_aliases_ids_and_networks() {
        let zone = zone();
        for (name, wanted) in [
            ("web", Some(vec![2])),
            ("api", Some(vec![2])),
            ("database", Some(vec![3])),
            ("aaaaaaaaaaaa", Some(vec![2])),
            ("aaaaaaaaaaaabbbb", None),
            ("web.front", Some(vec![2])),
            ("database.front", Some(vec![3])),
            ("web.back.end", Some(vec![12])),
            ("cache", Some(vec![13])),
            ("deep.name", Some(vec![13])),
            ("deep.name.back.end", Some(vec![13])),
            ("web.end", None),
            ("front", None),
            ("", None),
            ("nobody", None),
        ] {
            assert_eq!(four(&zone, name, 0), wanted, "{name}");
        }
    }

    #[test]
    fn shared_names_take_turns() {
        let zone = zone();
        assert_eq!(four(&zone, "www", 0), Some(vec![2, 3]));
        assert_eq!(four(&zone, "www", 1), Some(vec![3, 2]));
        assert_eq!(four(&zone, "www", 2), Some(vec![2, 3]));
    }

    #[test]
    fn no_data_is_not_no_name() {
        let zone = zone();
        assert_eq!(zone.ask("web", AAAA, 0), Known::NoData);
        assert_eq!(zone.ask("web", 15, 0), Known::NoData);
        assert_eq!(zone.ask("other", AAAA, 0), Known::Nothing);
        let Known::Answers(found) = zone.ask("www", AAAA, 5) else { panic!("an address") };
        assert_eq!(found, [Data::Address("fd00::3".parse().unwrap())]);
    }

    #[test]
    fn addresses_of_shared_networks_have_names() {
        let zone = zone();
        let name = |of: &str| zone.ask(of, PTR, 0);
        let is = |name: &str| Known::Answers(vec![Data::Name(name.into())]);
        assert_eq!(name("2.0.0.10.in-addr.arpa"), is("web.front"));
        assert_eq!(name("13.0.0.10.in-addr.arpa"), is("deep.name.back.end"));
        assert_eq!(name(&format!("3.{}0.0.0.d.f.ip6.arpa", "0.".repeat(28))), Known::Nothing);
        assert_eq!(name(&format!("3.{}0.0.d.f.ip6.arpa", "0.".repeat(27))), is("db.front"));
        assert_eq!(name("9.9.9.9.in-addr.arpa"), Known::Nothing);
        assert_eq!(name("web"), Known::NoData);
    }

    #[test]
    fn an_internal_network_leads_nowhere() {
        assert!(zone().leads_out());
        let inner = Place { internal: true, ..Place::default() };
        assert!(!Zone::new(vec![inner]).leads_out());
        assert!(!Zone::default().leads_out());
    }
}
