//! `system df`, sizes and filters of `ps`, and limits that are taken away.

use super::{detached, until};
use crate::support::host::Host;
use crate::support::{registry, require};

#[test]
fn what_everything_takes_is_told() {
    require!(root, registry);
    let host = Host::new();
    let write = "head -c 500000 /dev/zero > /big; head -c 30000 /dev/zero > /data/x; exec sleep 1000";
    detached(&host, &["--name", "up", "-v", "data:/data"], &["sh", "-c", write]);
    detached(&host, &["--name", "down"], &["true"]);
    host.umiak(&["wait", "down"]).exits(0);
    host.umiak(&["volume", "create", "idle"]).exits(0);
    let size = || host.umiak(&["ps", "--format", "{{.Size}}"]).exits(0).text().to_owned();
    until("it has written", || size().starts_with("500kB (virtual "));
    let df = ["system", "df", "--format", "{{.Type}}|{{.TotalCount}}|{{.Active}}|{{.Size}}|{{.Reclaimable}}"];
    until("the volume is filled", || host.umiak(&df).stdout.contains("Local Volumes|2|1|30kB|0B (0%)"));
    let all = host.umiak(&df).exits(0).stdout;
    let lines: Vec<_> = all.lines().collect();
    assert!(lines[0].starts_with("Images|1|1|") && lines[0].ends_with("|0B (0%)"), "{all}");
    assert_eq!(lines[1], "Containers|2|1|500kB|0B (0%)");
    assert_eq!(lines[3], "Build Cache|0|0|0B|0B");
    let table = host.umiak(&["system", "df"]).exits(0).stdout;
    assert!(table.starts_with("TYPE            TOTAL     ACTIVE    SIZE      RECLAIMABLE\n"), "{table}");
    let whole = host.umiak(&["system", "df", "-v"]).exits(0).stdout;
    for words in [
        "Images space usage:",
        "UNIQUE SIZE",
        "Containers space usage:",
        "Local Volumes space usage:",
        "idle",
    ] {
        assert!(whole.contains(words), "{whole}");
    }
    let table = host.umiak(&["ps", "-as"]).exits(0).stdout;
    assert!(table.lines().next().is_some_and(|line| line.ends_with("SIZE")), "{table}");
    host.umiak(&["rm", "-f", "up", "down"]).exits(0);
}

#[test]
fn containers_are_found_by_what_they_have() {
    require!(root, registry);
    let host = Host::new();
    let check = ["--health-cmd", "true", "--health-interval", "50ms"];
    let flags = [&["--name", "web", "-v", "data:/d", "--expose", "99"][..], &check].concat();
    detached(&host, &flags, &["sleep", "1000"]);
    detached(&host, &["--name", "web2"], &["sleep", "1000"]);
    let names = |filter: &str| {
        let args = ["ps", "-a", "--format", "{{.Names}}", "--filter", filter];
        host.umiak(&args).exits(0).stdout.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    until("it is healthy", || names("health=healthy") == ["web"]);
    for (filter, expected) in [
        ("health=none", &["web2"][..]),
        ("volume=data", &["web"]),
        ("volume=/d", &["web"]),
        ("volume=/dd", &[]),
        ("expose=99", &["web"]),
        ("expose=90-100/tcp", &["web"]),
        ("expose=99/udp", &[]),
        ("publish=99", &[]),
        ("name=^web$", &["web"]),
        ("before=web2", &["web"]),
        ("since=web", &["web2"]),
        ("is-task=true", &[]),
        ("network=nobody", &[]),
    ] {
        assert_eq!(names(filter), expected, "{filter}");
    }
    let shown = host.umiak(&["ps", "--format", "{{.Names}} {{.Mounts}} {{.LocalVolumes}}"]).exits(0).stdout;
    assert_eq!(shown, "web2  0\nweb data 1\n");
    for (filter, words) in [
        ("health=well", "must be one of none, starting, healthy, unhealthy"),
        ("status=asleep", "invalid value for state (asleep)"),
        ("publish=x", "expected a port"),
    ] {
        host.umiak(&["ps", "--filter", filter]).fails(1, &[words]);
    }
    host.umiak(&["ps", "--filter", "before=nobody"]).fails(1, &["o such container: nobody"]);
    host.umiak(&["rm", "-f", "web", "web2"]).exits(0);
}

#[test]
fn a_limit_is_taken_away() {
    require!(root, registry);
    let host = Host::new();
    let flags = ["--name", "one", "--memory", "64m", "--cpus", "0.5", "--pids-limit", "50"];
    let id = detached(&host, &flags, &["sleep", "1000"]);
    let limits = || {
        let format = "{{.HostConfig.Memory}} {{.HostConfig.MemorySwap}} {{.HostConfig.NanoCpus}}";
        host.umiak(&["inspect", "-f", format, "one"]).exits(0).text().to_owned()
    };
    assert_eq!(limits(), "67108864 134217728 500000000");
    host.umiak(&["update", "--memory", "0", "--cpus", "0", "--pids-limit", "-1", "one"]).exits(0);
    assert_eq!(limits(), "0 0 0");
    let top = std::path::Path::new("/sys/fs/cgroup");
    let read = |v1: &str, v2: &str| {
        let file = |path: &str| {
            let (parent, file) = path.split_once("ID/").expect("a group and a file");
            let groups = std::fs::read_dir(top.join(parent)).ok()?.flatten();
            let mut groups = groups.filter(|one| one.file_name().to_string_lossy().starts_with(&id));
            std::fs::read_to_string(groups.next()?.path().join(file)).ok()
        };
        file(v1).or_else(|| file(v2)).expect("a group")
    };
    let quota = read("cpu/umiak/ID/cpu.cfs_quota_us", "umiak/ID/cpu.max");
    assert!(quota.starts_with("-1") || quota.starts_with("max"), "{quota}");
    let memory = read("memory/umiak/ID/memory.limit_in_bytes", "umiak/ID/memory.max");
    assert!(
        memory.trim() == "max" || memory.trim().parse::<u64>().is_ok_and(|bytes| bytes > 1 << 60),
        "{memory}"
    );
    let both = read("memory/umiak/ID/memory.memsw.limit_in_bytes", "umiak/ID/memory.swap.max");
    assert!(both.trim() == "max" || both.trim().parse::<u64>().is_ok_and(|bytes| bytes > 1 << 60), "{both}");
    host.umiak(&["rm", "-f", "one"]).exits(0);
}

#[test]
fn another_run_joins_those_that_run_now() {
    require!(root, registry);
    let host = Host::new();
    detached(&host, &["--name", "one"], &["sleep", "1000"]);
    let script = "readlink /proc/self/ns/net; read go < /tmp/go";
    let flags = ["--name", "two", "--restart", "always", "--network", "container:one"];
    detached(&host, &flags, &["sh", "-c", &format!("mkfifo /tmp/go 2>/dev/null; {script}")]);
    let seen = || host.umiak(&["logs", "two"]).stdout.lines().map(str::to_owned).collect::<Vec<_>>();
    until("it has begun", || seen().len() == 1);
    host.umiak(&["restart", "-t", "0", "one"]).exits(0);
    host.umiak(&["exec", "two", "sh", "-c", "echo > /tmp/go"]).exits(0);
    until("it has begun again", || seen().len() == 2);
    let pid = host.umiak(&["inspect", "-f", "{{.State.Pid}}", "one"]).exits(0).text().to_owned();
    let now = std::fs::read_link(format!("/proc/{pid}/ns/net")).expect("it runs");
    assert_eq!(seen()[1], now.to_string_lossy());
    // What is private is not shared.
    let image = registry::busybox();
    host.umiak(&["run", "--rm", "--ipc", "container:one", &image, "true"])
        .fails(125, &["can't join IPC of container", "non-shareable IPC"]);
    host.umiak(&["rm", "-f", "one", "two"]).exits(0);
}

#[test]
fn volumes_mount_what_their_options_say() {
    require!(root, registry);
    let host = Host::new();
    let image = registry::busybox();
    let folder = host.dir().join("folder");
    std::fs::create_dir(&folder).expect("a folder");
    std::fs::write(folder.join("file"), "there").expect("written");
    let device = format!("device={}", folder.display());
    let bind = ["volume", "create", "-o", "type=none", "-o", "o=bind", "-o", &device, "bound"];
    host.umiak(&bind).exits(0);
    let tmpfs = ["volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "-o", "o=size=1m", "memory"];
    host.umiak(&tmpfs).exits(0);
    let options = host.umiak(&["volume", "inspect", "-f", "{{json .Options}}", "bound"]).exits(0).stdout;
    assert!(options.contains("\"o\":\"bind\"") && options.contains("folder"), "{options}");
    let script = "cat /b/file; echo new > /b/new; grep ' /m tmpfs ' /proc/mounts";
    let out = host
        .umiak(&["run", "--rm", "-v", "bound:/b", "-v", "memory:/m", &image, "sh", "-c", script])
        .exits(0)
        .stdout;
    assert!(out.starts_with("there") && out.contains("size=1024k"), "{out}");
    assert_eq!(std::fs::read_to_string(folder.join("new")).expect("written"), "new\n");
    // Its files are the user's: they stay when it goes.
    host.umiak(&["volume", "rm", "bound", "memory"]).exits(0);
    assert!(folder.join("new").exists());
    for (options, words) in [
        (&["-o", "bogus=1"][..], "invalid option: \"bogus\""),
        (&["-o", "type=tmpfs"], "missing required option: \"device\""),
        (&["-o", "type=nfs", "-o", "device=:/x", "-o", "o=addr=127.0.0.1"], "type \"nfs\" are not supported"),
    ] {
        host.umiak(&[&["volume", "create"], options].concat()).fails(1, &[words]);
    }
    let gone = ["volume", "create", "-o", "type=none", "-o", "o=bind", "-o", "device=/no/such", "gone"];
    host.umiak(&gone).exits(0);
    host.umiak(&["run", "--rm", "-v", "gone:/g", &image, "true"]).fails(125, &["/no/such"]);
    host.umiak(&["volume", "prune", "-f", "--filter", "all=1", "--filter", "label!=keep"]).exits(0);
    assert_eq!(host.umiak(&["volume", "ls", "-q"]).exits(0).stdout, "");
}
