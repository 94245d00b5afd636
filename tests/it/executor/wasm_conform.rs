//! What WASI's specification says, beyond what the Rust programs of the other tests happen to use.

use crate::support::host::{Host, Output};
use crate::support::{registry, require};

fn image(name: &str, tag: &str) -> String {
    format!("{}/wasm/{name}:{tag}", registry::address())
}

fn run(host: &Host, image: &str, flags: &[&str], args: &[&str]) -> Output {
    host.umiak(&[&["run", "--rm", "--platform", "wasi/wasm"], flags, &[image], args].concat())
}

#[test]
fn the_environment_is_what_was_granted_and_nothing_else() {
    require!(root, registry);
    let host = Host::new();
    let set = ["-e", "foo=bar", "-e", "baz=42"];
    let elsewhere = ["-e", "foo=bar", "-w", "/srv"];
    for tag in ["artifact-p1", "artifact-p2"] {
        let of = |flags: &[&str]| run(&host, &image("does", tag), flags, &["environment"]).exits(0).stdout;
        assert_eq!((of(&set).as_str(), of(&[]).as_str()), ("foo=bar baz=42\n", "\n"), "{tag}");
        // Only a directory that nobody assumes is said.
        assert_eq!(of(&elsewhere), "foo=bar PWD=/srv\n", "{tag}");
    }
    let of = |flags: &[&str]| {
        let out = run(&host, &image("run3", "artifact-p3"), flags, &["environment"]).exits(0).stdout;
        out.lines().last().unwrap_or_default().to_owned()
    };
    assert_eq!(of(&set), "[(\"foo\", \"bar\"), (\"baz\", \"42\")] None");
    assert_eq!(of(&elsewhere), "[(\"foo\", \"bar\"), (\"PWD\", \"/srv\")] Some(\"/srv\")");
}

#[test]
fn a_directory_is_removed_by_a_name_with_a_slash() {
    require!(root, registry);
    let host = Host::new();
    let steps = [
        "mkdir", "/d", "--", "mkdir", "/d/e", "--", "rmdir", "/d/", "--", "rmdir", "/d/e///", "--", "rmdir",
        "/d/", "--", "write", "/f", "x", "--", "rmdir", "/f/", "--", "rmdir", "/gone/",
    ];
    for tag in ["tar-p1", "tar-p2"] {
        let out = run(&host, &image("does", tag), &[], &steps).exits(0).stdout;
        let expected = [
            "made",
            "made",
            "error Uncategorized",
            "removed",
            "removed",
            "written",
            "error NotADirectory",
            "error NotFound",
        ];
        assert_eq!(out.lines().collect::<Vec<_>>(), expected, "{tag}");
    }
    let out = run(&host, &image("run3", "tar-p3"), &[], &["files", "3"]).exits(0).stdout;
    let lines: Vec<&str> = out.lines().skip(2).collect();
    assert_eq!(lines, ["link/ Err(ErrorCode::NotDirectory)", "made// Ok(())", "3 None", "again true"]);
}

#[test]
fn a_component_of_the_newest_wasi_is_recognised() {
    require!(root, registry);
    let host = Host::new();
    for tag in ["artifact-p3", "layer-p3", "tar-p3"] {
        for (name, role) in [("run3", "command"), ("serve3", "server")] {
            let image = image(name, tag);
            host.umiak(&["pull", "-q", "--platform", "wasi/wasm", &image]).exits(0);
            let out = host.umiak(&["image", "inspect", "-f", "{{json .Wasm}}", &image]).exits(0).stdout;
            let role = format!("\"Role\":\"{role}\"");
            for word in [
                "\"Kind\":\"component\"",
                &role,
                "@0.3.",
                "\"Wasi\":\"0.3.",
                "\"Missing\":[]",
                "\"Imports\"",
                "\"Exports\"",
            ] {
                assert!(out.contains(word), "{name}:{tag}: no {word} in {out}");
            }
        }
        let out = run(&host, &image("run3", tag), &[], &["a"]).exits(0).stdout;
        assert!(out.starts_with("arguments a\n"), "{tag}: {out}");
    }
}

#[test]
fn a_directory_of_the_host_is_the_root_of_a_sandbox_and_of_nothing_else() {
    require!(root, registry);
    let host = Host::new();
    let (given, other) = (host.dir().join("given"), host.dir().join("other"));
    for (dir, file) in [(&given, "a.txt"), (&other, "o.txt")] {
        std::fs::create_dir(dir).expect("a folder");
        std::fs::write(dir.join(file), "content").expect("a file");
    }
    let (whole, shut) = (format!("{}:/", given.display()), format!("{}:/:ro", given.display()));
    let below = format!("{}:/data", other.display());
    for tag in ["artifact-p1", "tar-p2"] {
        let does =
            |flags: &[&str], steps: &[&str]| run(&host, &image("does", tag), flags, steps).exits(0).stdout;
        let steps = ["list", "/", "--", "write", "/b", "made", "--", "read", "b", "--", "remove", "/b"];
        assert_eq!(does(&["-v", &whole], &steps), "a.txt\nwritten\nmade\nremoved\n", "{tag}");
        let out = does(&["-v", &shut], &["write", "/b", "no", "--", "read", "/a.txt"]);
        assert!(out.starts_with("error ") && out.ends_with("\ncontent\n"), "{tag}: {out}");
        let out = does(&["-v", &whole, "-v", &below], &["list", "/data", "--", "list", "/"]);
        assert_eq!(out, "o.txt\na.txt\n", "{tag}");
    }
    let bind = format!("type=bind,source={},target=/,readonly", given.display());
    let out = run(&host, &image("run3", "artifact-p3"), &["--mount", &bind], &[]).exits(0).stdout;
    assert_eq!(out, "arguments \ndirectory / false\n");
    let named = ["--name", "cc", "-v", &whole];
    let base = ["run", "-d", "--platform", "wasi/wasm"];
    host.umiak(&[&base[..], &named, &[&image("does", "tar-p1"), "sleep", "600000"]].concat()).exits(0);
    assert_eq!(host.umiak(&["exec", "cc", "/app.wasm", "list", "/"]).exits(0).stdout, "a.txt\n");
    let format = "{{json .Grants.Directories}}";
    let told = host.umiak(&["inspect", "-f", format, "cc"]).exits(0);
    assert_eq!(told.text(), "[{\"Path\":\"/\",\"ReadOnly\":false}]");
    host.umiak(&["kill", "cc"]).exits(0);
    assert_eq!(host.umiak(&["wait", "cc"]).exits(0).text(), "137");
    let copy = host.dir().join("copy").display().to_string();
    host.umiak(&["cp", "cc:/a.txt", &copy]).exits(0);
    assert_eq!(std::fs::read_to_string(&copy).expect("a file"), "content");
    host.umiak(&["rm", "cc"]).exits(0);
    let file = format!("{}:/", given.join("a.txt").display());
    run(&host, &image("does", "tar-p1"), &["-v", &file], &[]).fails(125, &["a.txt", "directory"]);
    let busybox = registry::busybox();
    host.umiak(&["run", "--rm", "-v", &whole, &busybox, "true"]).fails(125, &["destination can't be '/'"]);
}

#[test]
fn who_moves_a_file_to_another_file_system_is_told_so() {
    require!(root, registry);
    let host = Host::new();
    let other = host.dir().join("other");
    std::fs::create_dir(&other).expect("a folder");
    // A volume is a mount of its own, whatever it is on.
    let below = format!("{}:/data", other.display());
    for tag in ["tar-p1", "tar-p2"] {
        let steps = ["write", "/a", "x", "--", "move", "/a", "/data/a", "--", "link", "/a", "/data/b"];
        let out = run(&host, &image("does", tag), &["-v", &below], &steps).exits(0).stdout;
        assert_eq!(out, "written\nerror CrossesDevices\nerror CrossesDevices\n", "{tag}");
    }
    let out = run(&host, &image("run3", "tar-p3"), &["-v", &below], &["across"]).exits(0).stdout;
    let lines: Vec<&str> = out.lines().skip(3).collect();
    let refused = "Err(ErrorCode::CrossDevice)";
    let told = format!("{refused} {refused} Err(ErrorCode::NotPermitted)");
    assert_eq!(lines, [told.as_str(), "later true", "same true", "same true"]);
}
