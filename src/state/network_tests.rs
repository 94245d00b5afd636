//! Tests of networks, addresses and ports in the metadata database.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::Ipv4Addr;

use super::tests::{container, image};
use super::*;
use crate::model::{
    Container, EndpointSettings, Lease, MacAddress, Network, NetworkDriver, Protocol, PublishedPort,
    RunState, RuntimeStatus, Timestamp,
};

fn network(number: u8, name: &str) -> Network {
    Network {
        id: format!("{number:02x}").repeat(32),
        name: name.into(),
        created: Timestamp::UNIX_EPOCH,
        driver: NetworkDriver::Bridge,
        internal: false,
        attachable: false,
        ipv4: true,
        ipv6: false,
        labels: BTreeMap::new(),
        options: BTreeMap::new(),
        ipam_options: BTreeMap::new(),
        pools: Vec::new(),
        chosen_by_user: false,
    }
}

fn on(number: u32, name: &str, networks: &[&str]) -> Container {
    let mut made = container(number, name, &image("a", "linux/amd64"));
    made.host.networks = networks
        .iter()
        .map(|&network| EndpointSettings { network: network.into(), ..EndpointSettings::default() })
        .collect();
    made
}

fn open() -> (tempfile::TempDir, Database) {
    let root = tempfile::tempdir().unwrap();
    let db = Database::open(root.path()).unwrap();
    db.put_image(&image("a", "linux/amd64"), None).unwrap();
    let made = db.create_networks(|there| {
        assert!(there.is_empty());
        Ok::<_, Infallible>(vec![network(1, "front"), network(2, "back")])
    });
    assert_eq!(made.unwrap().unwrap().len(), 2);
    (root, db)
}

/// The lowest address after the first.
#[expect(clippy::unnecessary_wraps, reason = "the signature of what chooses")]
fn lowest(wanted: &Wanted<'_>) -> Result<Lease, Infallible> {
    let free =
        (2..=254).map(|n| Ipv4Addr::new(10, 0, 0, n)).find(|one| !wanted.taken.ipv4.contains(one)).unwrap();
    let mac = MacAddress([2, 0, 0, 0, 0, free.octets()[3]]);
    Ok(Lease { ipv4: Some(free), ipv6: None, mac, interface: wanted.interface })
}

#[test]
fn networks_have_one_name_and_go_when_nobody_with_an_address_is_on_them() {
    let (_root, db) = open();
    let again = db.create_networks(|_| Ok::<_, Infallible>(vec![network(3, "front")])).unwrap_err();
    assert_eq!(again.to_string(), "network with name front already exists");
    assert_eq!(db.networks_matching("0101").unwrap()[0].name, "front");
    assert!(db.networks_matching("nope").unwrap().is_empty());
    let one = on(1, "one", &["front"]);
    db.insert_container(&one).unwrap();
    let moon = db.insert_container(&on(2, "two", &["moon"])).unwrap_err();
    assert_eq!(moon.to_string(), "network moon not found");
    assert!(db.container(&on(2, "two", &[]).id).unwrap().is_none(), "nothing is half there");
    db.lease_addresses(&one.id, lowest).unwrap().unwrap();
    let front = db.networks_matching("front").unwrap().remove(0);
    let error = db.remove_network(&front).unwrap_err().to_string();
    assert!(
        error.contains("network front has active endpoints (name:\"one\" id:\"000000010000\")"),
        "{error}"
    );
    db.release_addresses(&one.id).unwrap();
    db.remove_network(&front).unwrap();
    assert!(matches!(db.lease_addresses(&one.id, lowest), Err(StateError::NoNetwork { .. })));
}

#[test]
fn addresses_are_distinct_kept_and_given_back_with_the_end() {
    let (_root, db) = open();
    let all: Vec<_> = (1..=3).map(|n| on(n, &format!("c{n}"), &["front", "back"])).collect();
    for one in &all {
        db.insert_container(one).unwrap();
    }
    let lease = |at: usize| {
        let leased = db.lease_addresses(&all[at].id, lowest).unwrap().unwrap();
        leased
            .iter()
            .map(|(_, e)| (e.lease.unwrap().ipv4.unwrap().octets()[3], e.lease.unwrap().interface))
            .collect::<Vec<_>>()
    };
    assert_eq!(lease(0), [(2, 0), (2, 1)]);
    assert_eq!(lease(1), [(3, 0), (3, 1)]);
    assert_eq!(lease(0), [(2, 0), (2, 1)], "kept");
    let running = RunState { status: RuntimeStatus::Running, ..RunState::default() };
    db.set_run_state(&all[0].id, &running, &[]).unwrap();
    assert_eq!(db.network_holders().unwrap().len(), 2);
    db.set_run_state(&all[0].id, &RunState { status: RuntimeStatus::Exited, ..running }, &[]).unwrap();
    assert_eq!(lease(2), [(2, 0), (2, 1)], "given back");
    let busy = |wanted: &Wanted<'_>| {
        let address = Some(Ipv4Addr::new(10, 0, 0, 3));
        Ok::<_, Infallible>(Lease { ipv4: address, ..lowest(wanted)? })
    };
    let error = db.lease_addresses(&all[0].id, busy).unwrap_err().to_string();
    assert_eq!(error, "Address already in use: 10.0.0.3 belongs to container 000000020000");
    let refused = db.lease_addresses(&all[0].id, |_| Err::<Lease, _>("no")).unwrap();
    assert_eq!(refused.unwrap_err(), "no");
    assert!(db.endpoints_of(&all[0].id).unwrap().iter().all(|endpoint| endpoint.lease.is_none()));
    db.remove_container(&all[1].id, &[]).unwrap();
    assert_eq!(db.network_holders().unwrap(), [all[2].id.clone()]);
}

#[test]
fn connections_are_added_and_removed() {
    let (_root, db) = open();
    let one = on(1, "one", &["front"]);
    db.insert_container(&one).unwrap();
    let back = db.networks_matching("back").unwrap().remove(0);
    let settings = EndpointSettings { aliases: vec!["a".into()], ..EndpointSettings::default() };
    db.add_endpoint(&one, &back, &settings).unwrap();
    let twice = db.add_endpoint(&one, &back, &settings).unwrap_err();
    assert_eq!(twice.to_string(), "endpoint with name one already exists in network back");
    let all = db.endpoints_of(&one.id).unwrap();
    assert_eq!(
        all.iter().map(|e| (e.position, e.settings.aliases.len())).collect::<Vec<_>>(),
        [(0, 0), (1, 1)]
    );
    assert_ne!(all[0].id, all[1].id);
    assert_eq!(db.remove_endpoint(&one, &back).unwrap().settings, settings);
    let gone = db.remove_endpoint(&one, &back).unwrap_err();
    assert_eq!(gone.to_string(), "container one is not connected to network back");
    assert_eq!((db.endpoints().unwrap().len(), db.endpoints_on(&back.id).unwrap().len()), (1, 0));
}

#[test]
fn a_port_of_the_host_leads_to_one_container() {
    let (_root, db) = open();
    let (one, two) = (on(1, "one", &["front"]), on(2, "two", &["front"]));
    db.insert_container(&one).unwrap();
    db.insert_container(&two).unwrap();
    let port = |address: &str, host| PublishedPort {
        container: 80,
        protocol: Protocol::Tcp,
        address: address.parse().unwrap(),
        host,
    };
    db.publish(&one.id, &[port("0.0.0.0", 80), port("::", 80)]).unwrap();
    let error = db.publish(&two.id, &[port("0.0.0.0", 81), port("127.0.0.1", 80)]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "failed to bind host port 127.0.0.1:80/tcp: address already in use by container one"
    );
    assert!(db.ports_of(&two.id).unwrap().is_empty(), "all or none");
    db.publish(&two.id, &[port("0.0.0.0", 81)]).unwrap();
    assert_eq!(db.ports().unwrap().len(), 3);
    db.remove_container(&one.id, &[]).unwrap();
    db.publish(&two.id, &[port("127.0.0.1", 80)]).unwrap();
}
