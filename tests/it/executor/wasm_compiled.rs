//! Modules are compiled when their image comes, and compiled ones take no more room than they may.

use std::path::Path;

use crate::support::host::Host;
use crate::support::tar::{archive, file};
use crate::support::{registry, require};

fn image(name: &str, tag: &str) -> String {
    format!("{}/wasm/{name}:{tag}", registry::address())
}

/// The files of compiled code.
fn compiled(host: &Host) -> Vec<String> {
    let code = |name: &String| Path::new(name).extension().is_some_and(|end| end == "cwasm");
    host.list("cache/wasm").into_iter().filter(code).collect()
}

/// How many compiled modules `system df` counts, and what they take.
fn counted(host: &Host) -> (String, String) {
    let format = "{{.Type}}|{{.TotalCount}}|{{.Size}}";
    let out = host.umiak(&["system", "df", "--format", format]).exits(0).stdout;
    let line = out.lines().find_map(|line| line.strip_prefix("Build Cache|")).expect("the row");
    let (total, size) = line.split_once('|').expect("two fields");
    (total.to_owned(), size.to_owned())
}

#[test]
fn a_pull_compiles_and_pruning_images_gives_the_room_back() {
    require!(root, registry);
    let host = Host::new();
    assert_eq!(counted(&host), ("0".to_owned(), "0B".to_owned()));
    for tag in ["tar-p1", "artifact-p2"] {
        let image = image("hello", tag);
        let out = host.umiak(&["pull", "--platform", "wasi/wasm", &image]).exits(0).stdout;
        let lines: Vec<_> = out.lines().filter(|line| line.contains(": Compil")).collect();
        assert!(
            lines.len() == 2 && lines[0].ends_with(": Compiling") && lines[1].ends_with(": Compiled"),
            "{out}"
        );
        assert!(out.find(": Compiled") < out.find("Status: "), "{out}");
    }
    let kept = compiled(&host);
    assert_eq!(kept.len(), 2, "{kept:?}");
    for tag in ["tar-p1", "artifact-p2"] {
        let out = host.umiak(&["run", "--rm", "--platform", "wasi/wasm", &image("hello", tag)]).exits(0);
        assert_eq!(out.stdout, "hello from wasm\n", "{tag}");
    }
    assert_eq!(compiled(&host), kept, "the runs compiled nothing");
    // The same module in another packaging is the same code.
    let out = host.umiak(&["pull", "--platform", "wasi/wasm", &image("hello", "layer-p1")]).exits(0).stdout;
    assert!(!out.contains("Compil"), "{out}");
    let (total, size) = counted(&host);
    assert!(total == "2" && size != "0B", "{total} {size}");
    // An image that stays keeps its code; another's goes.
    host.umiak(&["rmi", &image("hello", "artifact-p2")]).exits(0);
    host.umiak(&["image", "prune", "-f"]).exits(0);
    assert_eq!(counted(&host).0, "1");
    let out = host.umiak(&["run", "--rm", "--platform", "wasi/wasm", &image("hello", "layer-p1")]).exits(0);
    assert_eq!(out.stdout, "hello from wasm\n");
    let left = compiled(&host);
    assert!(left.len() == 1 && kept.contains(&left[0]), "{left:?} of {kept:?}");
    let out = host.umiak(&["image", "prune", "-af"]).exits(0).stdout;
    assert!(out.contains("Total reclaimed space: ") && !out.contains("space: 0B"), "{out}");
    assert_eq!(counted(&host), ("0".to_owned(), "0B".to_owned()));
}

#[test]
fn a_load_compiles_and_the_budget_holds() {
    require!(root, registry);
    let (host, other) = (Host::new(), Host::new());
    let image = image("hello", "tar-p2");
    host.umiak(&["pull", "-q", "--platform", "wasi/wasm", &image]).exits(0);
    let saved = host.dir().join("saved.tar").display().to_string();
    host.umiak(&["save", "-o", &saved, &image]).exits(0);
    let out = other.umiak(&["load", "-i", &saved]).exits(0);
    assert_eq!(out.stdout, format!("Loaded image: {image}\n"));
    assert!(out.stderr.contains(": Compiling\n"), "{}", out.stderr);
    assert_eq!(compiled(&other).len(), 1);
    // With no room at all nothing is kept, and everything runs.
    let config = host.dir().join("none.toml").display().to_string();
    std::fs::write(&config, "default-network = \"none\"\n[wasm]\ncache = 1\n").expect("written");
    other.umiak(&["rmi", &image]).exits(0);
    other.umiak(&["image", "prune", "-f"]).exits(0);
    other.umiak(&["--config", &config, "load", "-q", "-i", &saved]).exits(0);
    assert_eq!(compiled(&other), Vec::<String>::new());
    let out = other.umiak(&["--config", &config, "run", "--rm", "--platform", "wasi/wasm", &image]).exits(0);
    assert_eq!(out.stdout, "hello from wasm\n");
}

#[test]
fn what_does_not_compile_is_told_by_the_run() {
    require!(root);
    let (host, other) = (Host::new(), Host::new());
    let tar = archive(&[file("app.wasm", 0o644, b"\0asm\x01\0\0\0\xff")]);
    let made = ["import", "--platform", "wasi/wasm", "-c", "ENTRYPOINT [\"/app.wasm\"]", "-", "bad:1"];
    host.umiak_reading(&tar, &made).exits(0);
    let saved = host.dir().join("saved.tar").display().to_string();
    host.umiak(&["save", "-o", &saved, "bad:1"]).exits(0);
    let out = other.umiak(&["load", "-i", &saved]).exits(0);
    assert_eq!(out.stdout, "Loaded image: bad:1\n");
    assert_eq!(compiled(&other), Vec::<String>::new());
    other
        .umiak(&["run", "--rm", "--platform", "wasi/wasm", "bad:1"])
        .fails(126, &["/app.wasm", "does not compile"]);
}

#[test]
fn an_interpreter_runs_programs_where_there_is_one_and_is_never_replaced_silently() {
    require!(root, registry);
    let host = Host::new();
    let configs = ["native", "pulley64"].map(|target| {
        let file = host.dir().join(format!("{target}.toml"));
        let text = format!("default-network = \"none\"\n[wasm]\ntarget = \"{target}\"\n");
        std::fs::write(&file, text).expect("a file");
        file.to_string_lossy().into_owned()
    });
    let image = image("hello", "artifact-p2");
    let [native, interpreted] = configs
        .each_ref()
        .map(|config| ["--config", config, "run", "--rm", "--platform", "wasi/wasm", &image]);
    if !cfg!(feature = "interpreter") {
        host.umiak(&interpreted).fails(125, &["no interpreter", "feature `interpreter`"]);
        return;
    }
    assert_eq!(host.umiak(&interpreted).exits(0).stdout, "hello from wasm\n");
    let code = compiled(&host);
    host.umiak(&native).exits(0);
    let both = compiled(&host);
    assert!(both.len() == 2 && code.iter().all(|name| both.contains(name)), "{code:?} {both:?}");
    // An image that stays keeps the code for both.
    host.umiak(&["image", "prune", "-f"]).exits(0);
    assert_eq!(compiled(&host), both);
}
