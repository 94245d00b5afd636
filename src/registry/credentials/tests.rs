//! Files of credentials: which entry fits, what is written, and helpers.

use super::*;

fn keychain(dir: &std::path::Path) -> Keychain {
    Keychain::from_variables(|name| match name {
        "DOCKER_CONFIG" => Some(dir.join("docker")),
        "XDG_CONFIG_HOME" => Some(dir.join("config")),
        _ => None,
    })
}

fn password(username: &str, password: &str) -> Credential {
    Credential::Password { username: username.into(), password: Secret::new(password) }
}

fn write(dir: &std::path::Path, name: &str, value: &Value) {
    let path = dir.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, value.to_string()).unwrap();
}

#[test]
fn the_most_specific_entry_fits() {
    let dir = tempfile::tempdir().unwrap();
    let auth = |text: &str| json!({ "auth": BASE64_STANDARD.encode(text) });
    write(
        dir.path(),
        "docker/config.json",
        &json!({ "auths": {
            "https://index.docker.io/v1/": auth("hub:h:x"),
            "https://r.lan/v1/": auth("url:u"),
            "t.lan": { "identitytoken": "refresh" },
            "e.lan": {},
            "b.lan": { "auth": "***" },
            "l.lan": { "username": "old", "password": "way" },
        }, "HttpHeaders": { "X": "y" } }),
    );
    write(
        dir.path(),
        "config/containers/auth.json",
        &json!({ "auths": { "p.lan/team": auth("team:t"), "p.lan": auth("all:a"), "e.lan": auth("podman:p") } }),
    );
    let keychain = keychain(dir.path());
    for (host, repository, expected) in [
        ("docker.io", "library/x", Some(password("hub", "h:x"))),
        ("r.lan", "x", Some(password("url", "u"))),
        ("r.lan:5000", "x", None),
        ("t.lan", "x", Some(Credential::Identity(Secret::new("refresh")))),
        ("l.lan", "x", Some(password("old", "way"))),
        ("p.lan", "team/x", Some(password("team", "t"))),
        ("p.lan", "team", Some(password("team", "t"))),
        ("p.lan", "teams/x", Some(password("all", "a"))),
        ("e.lan", "x", Some(password("podman", "p"))),
        ("n.lan", "x", None),
    ] {
        assert_eq!(keychain.find(host, repository).unwrap(), expected, "{host}/{repository}");
    }
    let error = keychain.find("b.lan", "x").unwrap_err();
    assert!(!error.to_string().contains("***"), "{error}");
}

#[test]
fn other_keys_stay_and_the_file_is_private() {
    let dir = tempfile::tempdir().unwrap();
    let keychain = keychain(dir.path());
    assert!(!keychain.erase("r.lan").unwrap());
    let path = dir.path().join("docker/config.json");
    assert_eq!(keychain.store("r.lan", &password("a", "b")).unwrap(), Kept::File(path.clone()));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
    write(
        dir.path(),
        "docker/config.json",
        &json!({ "auths": { "https://r.lan": { "auth": "x" }, "s.lan": {} }, "currentContext": "c", "plugins": { "a": { "b": "1" } } }),
    );
    keychain.store("r.lan", &password("a", "b")).unwrap();
    keychain.store("docker.io", &Credential::Identity(Secret::new("r"))).unwrap();
    let root = file::read(&path).unwrap().unwrap();
    assert_eq!((&root["currentContext"], &root["plugins"]["a"]["b"]), (&json!("c"), &json!("1")));
    let keys: Vec<_> = root["auths"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, ["https://index.docker.io/v1/", "r.lan", "s.lan"]);
    assert!(keychain.erase("r.lan").unwrap());
    assert!(!keychain.erase("r.lan").unwrap());
    assert_eq!(keychain.find("r.lan", "x").unwrap(), None);
    assert!(std::fs::read_dir(dir.path().join("docker")).unwrap().count() == 1, "no litter");
}

#[test]
fn helpers_are_chosen_by_registry() {
    let root = json!({ "credsStore": "all", "credHelpers": { "r.lan": "own", "n.lan": "" } });
    let root = root.as_object().unwrap();
    for (host, expected) in
        [("r.lan", Some("own")), ("x.lan", Some("all")), ("docker.io", Some("all")), ("n.lan", None)]
    {
        assert_eq!(helper_for(root, host).as_deref(), expected, "{host}");
    }
    assert!(matches!(helper::get("../x", "y"), Err(CredentialError::HelperName { .. })));
    assert!(matches!(helper::get("umiak-no-such", "y"), Err(CredentialError::Helper { .. })));
}
