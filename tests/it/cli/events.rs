//! The stream of events: what docker says of the same commands, in the same order.

use super::{detached, until};
use crate::support::host::Host;
use crate::support::{registry, require};

/// What has happened so far: type, action and some attributes of each event.
fn past(host: &Host, filters: &[&str]) -> Vec<String> {
    let mut args = vec!["events", "--since", "0", "--until", "0s", "--format"];
    args.push(
        "{{.Type}} {{.Action}}{{range $k, $v := .Actor.Attributes}}{{if eq $k \"signal\" \"exitCode\" \
         \"oldName\" \"name\" \"destination\" \"read/write\" \"reclaimed\"}} {{$k}}={{$v}}{{end}}{{end}}",
    );
    for filter in filters {
        args.extend(["--filter", filter]);
    }
    host.umiak(&args).exits(0).stdout.lines().map(str::to_owned).collect()
}

#[test]
fn a_life_is_told_as_docker_tells_it() {
    require!(root, registry);
    let host = Host::new();
    let image = registry::busybox();
    let id =
        detached(&host, &["--name", "aa", "-v", "data:/d:ro", "--label", "exitCode=9"], &["sleep", "1000"]);
    host.umiak(&["exec", "aa", "true"]).exits(0);
    host.umiak(&["exec", "aa", "sh", "-c", "exit 3"]).exits(3);
    host.umiak(&["exec", "aa", "nosuch"]).exits(127);
    host.umiak(&["pause", "aa"]).exits(0);
    host.umiak(&["unpause", "aa"]).exits(0);
    host.umiak(&["update", "--memory", "64m", "aa"]).exits(0);
    host.umiak(&["rename", "aa", "bb"]).exits(0);
    host.umiak(&["top", "bb"]).exits(0);
    host.umiak(&["kill", "-s", "USR1", "bb"]).exits(0);
    host.umiak(&["restart", "-t", "0", "bb"]).exits(0);
    host.umiak(&["kill", "bb"]).exits(0);
    host.umiak(&["rm", "bb"]).exits(0);
    host.umiak(&["volume", "rm", "data"]).exits(0);
    let mount = "volume mount destination=/d read/write=false";
    let expected = [
        "volume create",
        "container create exitCode=9 name=aa",
        mount,
        "container start exitCode=9 name=aa",
        "container exec_create: true  exitCode=9 name=aa",
        "container exec_start: true  exitCode=9 name=aa",
        "container exec_die exitCode=0 name=aa",
        "container exec_create: sh -c exit 3 exitCode=9 name=aa",
        "container exec_start: sh -c exit 3 exitCode=9 name=aa",
        "container exec_die exitCode=3 name=aa",
        "container exec_create: nosuch  exitCode=9 name=aa",
        "container exec_start: nosuch  exitCode=9 name=aa",
        "container pause exitCode=9 name=aa",
        "container unpause exitCode=9 name=aa",
        "container update exitCode=9 name=aa",
        "container rename exitCode=9 name=bb oldName=/aa",
        "container top exitCode=9 name=bb",
        "container kill exitCode=9 name=bb signal=10",
        "container kill exitCode=9 name=bb signal=15",
        "container kill exitCode=9 name=bb signal=9",
        "volume unmount",
        "container stop exitCode=9 name=bb",
        "container die exitCode=137 name=bb",
        mount,
        "container start exitCode=9 name=bb",
        "container restart exitCode=9 name=bb",
        "container kill exitCode=9 name=bb signal=9",
        "volume unmount",
        "container die exitCode=137 name=bb",
        "container destroy exitCode=9 name=bb",
        "volume destroy",
    ];
    let told: Vec<_> = past(&host, &["type=container", "type=volume"]);
    assert_eq!(told, expected);
    // Filters, and the shape that programs read.
    assert_eq!(past(&host, &["event=exec_die", &format!("container={}", &id[..12])]).len(), 2);
    assert_eq!(past(&host, &["container=bb", "event=die"]).len(), 2);
    assert_eq!(past(&host, &["volume=data", "event=create"]), ["volume create"]);
    assert_eq!(past(&host, &["label=exitCode=9", "event=start"]).len(), 2);
    assert_eq!(past(&host, &["type=image"]).len(), 1);
    assert!(past(&host, &["scope=swarm"]).is_empty());
    let pull =
        host.umiak(&["events", "--until", "0s", "--filter", "event=pull", "--format", "json"]).exits(0);
    let pull: serde_json::Value = serde_json::from_str(pull.text()).expect("JSON");
    let id = pull["id"].as_str().expect("an id");
    assert_eq!(id.strip_suffix(":latest"), Some(image.trim_end_matches(":latest")));
    assert_eq!((&pull["status"], &pull["scope"]), (&"pull".into(), &"local".into()));
    assert_eq!(pull["Actor"]["Attributes"]["name"].as_str(), id.strip_suffix(":latest"));
}

#[test]
fn ends_of_every_kind_are_told() {
    require!(root, registry);
    let host = Host::new();
    let image = registry::busybox();
    host.umiak(&["run", "--rm", "--name", "gone", &image, "sh", "-c", "exit 4"]).exits(4);
    let of = |name: &str| {
        let mut told = past(&host, &[&format!("container={name}")]);
        for line in &mut told {
            *line = line.replace(&format!(" name={name}"), "");
        }
        told
    };
    assert_eq!(
        of("gone"),
        [
            "container create",
            "container attach",
            "container start",
            "container die exitCode=4",
            "container destroy"
        ]
    );
    host.umiak(&["run", "--restart", "on-failure:1", "-d", "--name", "again", &image, "false"]).exits(0);
    until("it gave up", || of("again").len() == 5);
    assert_eq!(
        of("again")[1..],
        ["container start", "container die exitCode=1", "container start", "container die exitCode=1"]
    );
    host.umiak(&["run", "--name", "not", &image, "nosuch"]).exits(127);
    assert_eq!(of("not"), ["container create"]);
    // A supervisor that is killed tells nothing; the next command that changes something does.
    let id = detached(&host, &["--name", "lost"], &["sleep", "1000"]);
    let pid = Host::supervisor(&id).expect("it runs");
    let pid = rustix::process::Pid::from_raw(pid.try_into().expect("a pid")).expect("not 0");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("it lives");
    // Its lock goes a moment after its command line.
    until("it is gone", || host.umiak(&["ps", "-qf", "name=lost"]).exits(0).stdout.is_empty());
    host.umiak(&["container", "prune", "-f"]).exits(0);
    assert_eq!(of("lost")[2..], ["container die exitCode=137", "container destroy"]);
    assert_eq!(past(&host, &["event=prune"]).len(), 1);
}

#[test]
fn health_and_memory_are_told() {
    require!(root, registry);
    let host = Host::new();
    detached(
        &host,
        &["--name", "sick", "--health-cmd", "exit 1", "--health-interval", "50ms", "--health-retries", "2"],
        &["sleep", "1000"],
    );
    let status = || past(&host, &["event=health_status"]);
    until("it is unhealthy", || !status().is_empty());
    assert_eq!(status(), ["container health_status: unhealthy name=sick"]);
    assert!(past(&host, &["event=exec_start"])[0].starts_with("container exec_start: /bin/sh -c exit 1 "));
    assert_eq!(past(&host, &["event=exec_die"])[0], "container exec_die exitCode=1 name=sick");
    host.umiak(&["rm", "-f", "sick"]).exits(0);
    let image = registry::busybox();
    let eat = "x=a; while :; do x=$x$x; done";
    host.umiak(&["run", "--name", "oo", "--memory", "8m", "--memory-swap", "8m", &image, "sh", "-c", eat])
        .exits(137);
    let told = past(&host, &["container=oo"]);
    assert_eq!(told[told.len() - 2..], ["container oom name=oo", "container die exitCode=137 name=oo"]);
}

#[test]
fn a_listener_hears_of_what_happens_until_its_time() {
    require!(root, registry);
    let host = Host::new();
    host.umiak(&["volume", "create", "before"]).exits(0);
    let args = ["events", "--filter", "type=volume", "--until", "-2s"];
    let listener = host.command(&args).spawn().expect("umiak starts");
    // It is there once it watches.
    let watches = || {
        let fds = std::fs::read_dir(format!("/proc/{}/fd", listener.id())).into_iter().flatten().flatten();
        let mut targets = fds.filter_map(|fd| std::fs::read_link(fd.path()).ok());
        targets.any(|target| target.to_string_lossy().contains("inotify"))
    };
    until("it watches", watches);
    std::thread::sleep(std::time::Duration::from_millis(200));
    for n in 0..20 {
        host.umiak(&["volume", "create", &format!("v{n}")]).exits(0);
    }
    let out = host.finish(listener, &args).exits(0);
    let told: Vec<_> = out.stdout.lines().collect();
    assert!(told.last().is_some_and(|line| line.ends_with(" volume create v19 (driver=local)")), "{told:?}");
    // As with docker, an end alone means from the beginning of what is known.
    assert!(told[0].contains(" create before ") && told.len() == 21, "{told:?}");
}

#[test]
fn what_cannot_be_meant_is_refused() {
    let host = Host::new();
    for (args, status, words) in [
        (&["--since", "bogus"][..], 125, "failed to parse value as time or duration: \"bogus\""),
        (&["--until", "1h2"], 125, "failed to parse value as time or duration"),
        (&["--filter", "bogus=1"], 125, "the filters here are"),
        (&["--filter", "event"], 125, "expected name=value"),
        (&["--format", "{{.Bogus}}", "--until", "0s"], 125, "can't evaluate field Bogus"),
    ] {
        let mut all = vec!["events"];
        all.extend(args);
        let out = host.umiak(&all);
        assert!(
            out.status != 0 && out.stderr.contains(words),
            "{args:?}: {} {status} {}",
            out.status,
            out.stderr
        );
    }
    assert_eq!(host.umiak(&["events", "--until", "0s"]).exits(0).stdout, "");
}
