//! Tables and properties of the grammar.

use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> Reference {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn names_in_familiar_and_full_form() {
    let hex = "0f".repeat(32);
    for (text, familiar, canonical) in [
        ("ubuntu", "ubuntu:latest", "docker.io/library/ubuntu:latest"),
        ("ubuntu:14.04", "ubuntu:14.04", "docker.io/library/ubuntu:14.04"),
        ("library/ubuntu", "ubuntu:latest", "docker.io/library/ubuntu:latest"),
        ("docker.io/ubuntu", "ubuntu:latest", "docker.io/library/ubuntu:latest"),
        ("index.docker.io/ubuntu", "ubuntu:latest", "docker.io/library/ubuntu:latest"),
        ("org/app", "org/app:latest", "docker.io/org/app:latest"),
        ("a/b/c:t", "a/b/c:t", "docker.io/a/b/c:t"),
        ("library/a/b", "library/a/b:latest", "docker.io/library/a/b:latest"),
        ("localhost", "localhost:latest", "docker.io/library/localhost:latest"),
        ("localhost/x", "localhost/x:latest", "localhost/x:latest"),
        ("localhost:5000/x", "localhost:5000/x:latest", "localhost:5000/x:latest"),
        ("LocalHost:5000/x", "localhost:5000/x:latest", "localhost:5000/x:latest"),
        ("host:5000", "host:5000", "docker.io/library/host:5000"),
        ("host:5000/x:T-1", "host:5000/x:T-1", "host:5000/x:T-1"),
        ("[::1]:5000/x", "[::1]:5000/x:latest", "[::1]:5000/x:latest"),
        ("[0:0::1]/x", "[::1]/x:latest", "[::1]/x:latest"),
        ("quay.io/a/b", "quay.io/a/b:latest", "quay.io/a/b:latest"),
        ("docker.io/localhost/x", "docker.io/localhost/x:latest", "docker.io/localhost/x:latest"),
        ("a__b/c---d.e", "a__b/c---d.e:latest", "docker.io/a__b/c---d.e:latest"),
    ] {
        let reference = parse(text);
        assert_eq!(reference.to_string(), familiar, "{text}");
        assert_eq!(reference.canonical(), canonical, "{text}");
    }
    let pinned = parse(&format!("ubuntu@sha256:{hex}"));
    assert_eq!((pinned.tag(), pinned.selector()), (None, format!("sha256:{hex}").as_str()));
    let both = parse(&format!("ubuntu:14.04@sha256:{hex}"));
    assert_eq!(both.to_string(), format!("ubuntu:14.04@sha256:{hex}"));
    assert_eq!(both.with_tag("x").unwrap().to_string(), "ubuntu:x");
    assert!(both.with_tag(".x").is_err());
    assert_eq!(both.with_digest(both.digest().unwrap()), pinned);
}

#[test]
fn bad_names_get_the_reason() {
    let long_tag = format!("x:{}", "t".repeat(129));
    let long_name = "n".repeat(256);
    let almost = "n".repeat(248);
    let hex = "0f".repeat(32);
    for (text, message) in [
        ("", "the name is empty"),
        ("Ubuntu", "repository name (Ubuntu) must be lowercase"),
        ("Foo/bar", "repository name (Foo/bar) must be lowercase"),
        ("localhost:5000/X", "repository name (X) must be lowercase"),
        (&long_tag, "tag has 129 characters, at most 128 are allowed"),
        (&long_name, "repository name has 256 characters, at most 247 are allowed"),
        (&almost, "at most 247"),
        (&hex, "cannot specify 64-byte hexadecimal strings"),
        (":tag", "repository name `` is malformed"),
        ("ubuntu:", "tag `` is malformed: a tag is 1 to 128"),
        ("ubuntu:-x", "tag `-x` is malformed"),
        ("ubuntu:a b", "tag `a b` is malformed"),
        ("a//b", "repository name `a//b` is malformed"),
        ("a/", "repository name `a/` is malformed"),
        ("/a", "repository name `/a` is malformed"),
        ("a___b", "malformed: each part between slashes"),
        ("a..b", "malformed"),
        ("-a", "malformed"),
        ("a-", "malformed"),
        ("../../etc", "registry `..` is malformed"),
        ("quay.io/a/../b", "repository name `a/../b` is malformed"),
        ("host:0/x", "registry `host:0` is malformed"),
        ("host:65536/x", "registry `host:65536` is malformed"),
        ("host:+5/x", "registry `host:+5` is malformed"),
        ("[::g]:5/x", "registry `[::g]:5` is malformed"),
        ("[::1]5/x", "registry `[::1]5` is malformed"),
        ("user@host/x", "bad digest"),
        ("x@sha512:00", "bad digest"),
        ("a\0b", "malformed"),
        ("ünï", "malformed"),
        ("a.b:c/d\n", "registry `a.b:c` is malformed"),
    ] {
        let error = text.parse::<Reference>().expect_err(text);
        assert!(error.to_string().contains(message), "{text:?}: {error}");
    }
    assert!("n".repeat(247).parse::<Reference>().is_ok());
}

fn part() -> impl Strategy<Value = String> {
    "[a-z0-9]{1,5}((\\.|_|__|-{1,3})[a-z0-9]{1,4}){0,2}"
}

fn name() -> impl Strategy<Value = String> {
    let host = proptest::option::of(prop_oneof![
        "[a-zA-Z0-9]{1,6}(\\.[a-z0-9]{1,5}){1,2}(:[1-9][0-9]{0,3})?",
        "localhost(:[1-9][0-9]{0,3})?",
        Just("docker.io".to_owned()),
        Just("index.docker.io".to_owned()),
        Just("[::1]:5000".to_owned()),
    ]);
    let path = proptest::collection::vec(
        prop_oneof![part(), Just("library".into()), Just("localhost".into())],
        1..4,
    );
    let tag = proptest::option::of("[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}");
    (host, path, tag, proptest::option::of("[0-9a-f]{64}")).prop_map(|(host, path, tag, hex)| {
        // A first part with a dot is a registry, and as one may not have an underscore.
        let host = host.or_else(|| path[0].contains('.').then(|| "docker.io".to_owned()));
        let host = host.map(|host| host + "/").unwrap_or_default();
        let tag = tag.map(|tag| format!(":{tag}")).unwrap_or_default();
        let digest = hex.map(|hex| format!("@sha256:{hex}")).unwrap_or_default();
        format!("{host}{}{tag}{digest}", path.join("/"))
    })
}

proptest! {
    #[test]
    fn what_is_shown_parses_back(text in name()) {
        let reference: Reference = text.parse().unwrap();
        prop_assert_eq!(&reference.to_string().parse::<Reference>().unwrap(), &reference);
        let canonical: Reference = reference.canonical().parse().unwrap();
        prop_assert_eq!(canonical.canonical(), reference.canonical());
        prop_assert_eq!(canonical, reference);
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,80}") {
        let _ = text.parse::<Reference>();
    }

    #[test]
    fn no_near_miss_panics_and_all_that_parses_is_stable(text in "[a-zA-Z0-9:/@.\\[\\]_-]{0,40}") {
        if let Ok(reference) = text.parse::<Reference>() {
            prop_assert_eq!(reference.to_string().parse::<Reference>().unwrap(), reference);
        }
    }
}
