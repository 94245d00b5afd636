//! What is asked of networks, and what is said of the rest.

use super::*;

fn all(networks: &[&str], plain: &Plain<'_>) -> Result<Asked, String> {
    let networks: Result<Vec<_>, _> = networks.iter().map(|text| parse(text)).collect();
    asked(&networks.map_err(|error| error.to_string())?, plain).map_err(|error| error.to_string())
}

fn texts(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

#[test]
fn modes() {
    let none = Plain::default();
    for (networks, mode, count) in [
        (&[][..], NetworkMode::Default, 1),
        (&["default"], NetworkMode::Default, 1),
        (&["none"], NetworkMode::None, 0),
        (&["name=none"], NetworkMode::None, 0),
        (&["host"], NetworkMode::Host, 0),
        (&["container:x"], NetworkMode::Container("x".into()), 0),
        (&["bridge"], NetworkMode::Named("bridge".into()), 1),
        (&["front", "back"], NetworkMode::Named("front".into()), 2),
        (&["bridge", "back"], NetworkMode::Named("bridge".into()), 2),
        // Docker's modes are in lower case; other spellings are names.
        (&["NONE"], NetworkMode::Named("NONE".into()), 1),
    ] {
        let (found, settings, _) = all(networks, &none).unwrap();
        assert_eq!((found, settings.len()), (mode, count), "{networks:?}");
    }
}

#[test]
fn the_long_form_and_the_plain_flags() {
    let long = "name=front,alias=a,alias=b,ip=10.0.0.5,ip6=fd00::5,mac-address=02:00:00:00:00:05,\
                driver-opt=com.docker.network.endpoint.ifname=x,gw-priority=7,link-local-ip=169.254.1.1";
    let (_, settings, _) = all(&[long], &Plain::default()).unwrap();
    let one = &settings[0];
    assert_eq!((one.network.as_str(), one.aliases.join(",")), ("front", "a,b".into()));
    assert_eq!(one.ipv4.unwrap().to_string(), "10.0.0.5");
    assert_eq!(one.ipv6.unwrap().to_string(), "fd00::5");
    assert_eq!(one.mac.unwrap().to_string(), "02:00:00:00:00:05");
    assert_eq!((one.driver_options.len(), one.gateway_priority, one.link_local.len()), (1, 7, 1));
    let (aliases, links) = (texts(&["w"]), texts(&["db:sql", "/cache"]));
    let plain = Plain { aliases: &aliases, links: &links, ipv4: Some("10.0.0.9"), ..Plain::default() };
    let (_, settings, left) = all(&["front", "back"], &plain).unwrap();
    assert_eq!((settings[0].aliases.join(","), settings[0].links.len()), ("w".into(), 2));
    assert_eq!(settings[0].links[1], Link { container: "cache".into(), alias: "cache".into() });
    assert!(settings[1].aliases.is_empty() && settings[1].ipv4.is_none() && left.is_empty());
    // On the default network links are of the old kind.
    let plain = Plain { links: &links, ..Plain::default() };
    let (_, settings, left) = all(&[], &plain).unwrap();
    assert!(settings[0].links.is_empty() && left.len() == 2);
}

#[test]
fn what_does_not_go_together_is_refused_in_dockers_words() {
    let alias = texts(&["a"]);
    let link = texts(&["db"]);
    let aliased = Plain { aliases: &alias, ..Plain::default() };
    let linked = Plain { links: &link, ..Plain::default() };
    let at = |ipv4| Plain { ipv4: Some(ipv4), ..Plain::default() };
    let mac = |mac| Plain { mac: Some(mac), ..Plain::default() };
    for (networks, plain, message) in [
        (&[""][..], Plain::default(), "no name set for network"),
        (&["alias=x"], Plain::default(), "no name set for network"),
        (
            &["container:"],
            Plain::default(),
            "invalid network mode: invalid container format container:<name|id>",
        ),
        (&["a", "a"], Plain::default(), "network \"a\" is specified multiple times"),
        (
            &["host", "a"],
            Plain::default(),
            "conflicting options: cannot attach both user-defined and non-user-defined network-modes",
        ),
        (
            &["name=a,alias=x"],
            aliased,
            "conflicting options: cannot specify both --network-alias and per-network alias",
        ),
        (
            &["name=a,ip=10.0.0.1"],
            at("10.0.0.2"),
            "conflicting options: cannot specify both --ip and per-network IPv4 address",
        ),
        (&["a"], at("moon"), "invalid IPv4 address: moon"),
        (&["none"], at("10.0.0.2"), "user specified IP address is supported on user defined networks only"),
        (&["a"], mac("x"), "x is not a valid mac address"),
        (&["container:x"], mac("02:00:00:00:00:01"), "conflicting options: mac-address and the network mode"),
        (&["name=a,nope=1"], Plain::default(), "invalid field key nope"),
        (&["name=a,x"], Plain::default(), "invalid field x"),
    ] {
        assert_eq!(all(networks, &plain).unwrap_err(), message, "{networks:?}");
    }
    assert!(all(&["host"], &linked).unwrap_err().contains("can't be used with links"));
    assert!(all(&["container:x"], &linked).unwrap_err().contains("can't be used with links"));
}

#[test]
fn hosts_servers_and_links() {
    for (text, shown) in [
        ("a:1.2.3.4", "a:1.2.3.4"),
        ("a=1.2.3.4", "a:1.2.3.4"),
        ("a:::1", "a:::1"),
        ("a=[fd00::1]", "a:fd00::1"),
        ("a:host-gateway", "a:host-gateway"),
    ] {
        assert_eq!(extra_host(text).unwrap().to_string(), shown);
    }
    for (text, message) in [
        ("a", "bad format for add-host: \"a\""),
        (":1.2.3.4", "bad format for add-host: \":1.2.3.4\""),
        ("a:", "bad format for add-host: \"a:\""),
        ("a:moon", "invalid IP address in add-host: \"moon\""),
    ] {
        assert_eq!(extra_host(text).unwrap_err().to_string(), message);
    }
    assert_eq!(server(" 8.8.8.8 ").unwrap().to_string(), "8.8.8.8");
    assert_eq!(server("x").unwrap_err().to_string(), "x is not an ip address");
    for good in [".", "example.com", "a_b.c", "x."] {
        search(good).unwrap();
    }
    for bad in ["", "a..b", "-a", "a b"] {
        assert_eq!(search(bad).unwrap_err().to_string(), format!("{bad} is not a valid domain"));
    }
    for (text, message) in [
        ("", "empty string specified for links"),
        ("a:b:c", "bad format for links: a:b:c"),
        (":b", "bad format for links: :b"),
        ("a:", "bad format for links: a:"),
    ] {
        assert_eq!(link(text).unwrap_err().to_string(), message);
    }
}
