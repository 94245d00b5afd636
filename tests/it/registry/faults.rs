//! Registries that lose, cut, refuse and mislead what is pushed to them.

use super::have;
use crate::support::depot::{BASIC, Depot, Trouble};
use crate::support::host::Host;
use crate::support::require;

#[test]
fn a_push_gets_through_what_passes() {
    require!(root);
    let host = Host::new();
    for (case, trouble) in [
        ("lost", Trouble::Lose(2)),
        ("small", Trouble::Most(1 << 20)),
        ("busy", Trouble::Busy(2)),
        ("cut", Trouble::Cut(700_000, 2)),
        ("expiring", Trouble::Tokens(2)),
    ] {
        // Of each its own, or one would lend the other its layers.
        let depot = Depot::new();
        let name = format!("{}/{case}", depot.address());
        let made = have(&host, &name, 3_000_000);
        depot.asked();
        depot.trouble(trouble);
        host.umiak(&["push", &name]).exits(0);
        depot.behave();
        let manifest =
            depot.get(&format!("{case}/manifests/latest")).unwrap_or_else(|| panic!("{case}: not there"));
        assert_eq!(umiak::model::Digest::of(&manifest), made, "{case}");
        let asked = depot.asked();
        match case {
            // Continued, and not begun again.
            "cut" => {
                let ranges: Vec<_> = asked.iter().filter_map(|one| one.range.clone()).collect();
                assert!(ranges.iter().any(|range| range.starts_with("700000-")), "{ranges:?}");
            }
            "small" => {
                let sent = asked.iter().filter(|one| one.method == "PATCH" && one.range.is_some());
                let lengths: Vec<_> = sent.map(|one| one.length).collect();
                assert!(lengths.iter().filter(|length| **length <= 1 << 20).count() >= 3, "{lengths:?}");
            }
            "expiring" => {
                let tokens = asked.iter().filter(|one| one.path.starts_with("/token")).count();
                assert!(tokens >= 4, "{tokens}");
            }
            _ => {}
        }
        let other = Host::new();
        other.umiak(&["pull", "-q", &name]).exits(0);
    }
}

#[test]
fn a_push_fails_with_a_word_of_why() {
    require!(root);
    let host = Host::new();
    for (case, trouble, words) in [
        ("loser", Trouble::Lose(99), &["loses uploads of blob"][..]),
        ("tiny", Trouble::Most(1000), &["HTTP status 413"]),
        ("liar", Trouble::WrongDigest, &["has digest", "instead of"]),
        (
            "denied",
            Trouble::Refuse(403, r#"{"errors":[{"code":"DENIED","message":"not you"}]}"#),
            &["requested access to the resource is denied", "not you"],
        ),
        ("strange", Trouble::Refuse(400, "<html>"), &["HTTP status 400"]),
        ("page", Trouble::Page, &["breaks the protocol", "where to upload"]),
        ("locked", Trouble::Password, &["requested access to the resource is denied", "umiak login"]),
    ] {
        let depot = Depot::new();
        let name = format!("{}/{case}", depot.address());
        have(&host, &name, 2_000_000);
        depot.trouble(trouble);
        host.umiak(&["push", &name]).fails(1, words);
        depot.behave();
        if case != "liar" {
            assert!(depot.get(&format!("{case}/manifests/latest")).is_none(), "{case}");
        }
        host.umiak(&["push", &name]).exits(0);
    }
}

#[test]
fn a_password_does_not_follow_an_upload_elsewhere() {
    require!(root);
    let (host, near, far) = (Host::new(), Depot::new(), Depot::new());
    let name = format!("{}/moved", near.address());
    have(&host, &name, 2_000_000);
    near.trouble(Trouble::Password);
    super::login(&host, &near.address());
    near.trouble(Trouble::Elsewhere(format!("http://{}", far.address())));
    // What was uploaded there is not here, and this registry does not look; the manifest comes all the same.
    host.umiak(&["push", &name]).exits(0);
    let there = far.asked();
    assert!(there.iter().any(|one| one.method == "PATCH" && one.length > 1_000_000), "{there:?}");
    assert!(
        there.iter().all(|one| one.authorization.is_none()),
        "the password went to another host: {there:?}"
    );
    assert!(near.asked().iter().any(|one| one.authorization.as_deref() == Some(BASIC)));
}

#[test]
fn a_push_that_is_killed_leaves_nothing_in_the_way() {
    require!(root);
    let (host, depot) = (Host::new(), Depot::new());
    let name = format!("{}/killed", depot.address());
    have(&host, &name, 8_000_000);
    let config = host.dir().join("config.toml");
    std::fs::write(&config, "[push]\nbandwidth = \"2MB\"\n").expect("written");
    let path = config.to_str().expect("text");
    let mut child = host.command(&["--config", path, "push", &name]).spawn().expect("umiak starts");
    while !depot.asked().iter().any(|one| one.method == "POST") {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    child.kill().expect("killed");
    child.wait().expect("ended");
    assert!(depot.get("killed/manifests/latest").is_none());
    host.umiak(&["push", &name]).exits(0);
    host.umiak(&["rmi", &name]).exits(0);
}
