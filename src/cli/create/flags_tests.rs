//! The flags of `run` and `create`.

use super::*;
use clap::Parser;

#[derive(Debug, Parser)]
#[command(disable_help_flag = true)]
#[command(args_override_self = true)]
struct Alone {
    #[command(flatten)]
    flags: Flags,
}

fn parse(typed: &[&str]) -> Flags {
    Alone::try_parse_from(std::iter::once(&"run").chain(typed)).unwrap().flags
}

#[test]
fn what_follows_the_image_is_the_containers() {
    for (typed, words) in [
        (&["x"][..], &["x"][..]),
        (&["-it", "x", "-it", "--rm"], &["x", "-it", "--rm"]),
        (&["--rm", "x", "sh", "-c", "echo"], &["x", "sh", "-c", "echo"]),
        (&["x", "--", "-v"], &["x", "--", "-v"]),
        (&["--", "x", "--help"], &["x", "--help"]),
        (&["x", "--help"], &["x", "--help"]),
        (&["x", "-h", ""], &["x", "-h", ""]),
    ] {
        assert_eq!(parse(typed).words, words, "{typed:?}");
    }
}

#[test]
fn flags_are_combined_repeated_and_negated_as_docker_has_them() {
    let run = parse(&["-it", "-i", "--rm=false", "-hweb", "-e", "A=1", "-e=B=2", "-eC", "x"]);
    assert!(run.interactive && run.tty && !run.rm);
    assert_eq!(run.hostname.as_deref(), Some("web"));
    assert_eq!(run.env, ["A=1", "B=2", "C"]);
    let run = parse(&["-it", "--name", "a", "--name=b", "--net", "host", "--entrypoint", "", "x"]);
    assert!(run.interactive && run.tty);
    assert_eq!((run.name.as_deref(), run.entrypoint.as_deref()), (Some("b"), Some("")));
    assert_eq!(run.host().unwrap().network, NetworkMode::Host);
}

#[test]
fn what_is_not_there_is_refused_before_the_store_is_opened() {
    assert!(matches!(
        parse(&["--network", "name=a,alias=x", "--network-alias", "y", "x"]).check(),
        Err(Fault::Value(_))
    ));
    assert!(matches!(parse(&["--stop-signal", "NOPE", "x"]).check(), Err(Fault::Value(_))));
    assert!(matches!(parse(&["--cidfile", "/dev/null", "x"]).check(), Err(Fault::CidFile(_))));
    parse(&["-it", "--stop-signal", "SIGINT", "x"]).check().unwrap();
}

#[test]
fn labels_and_variables_become_wishes() {
    let options = parse(&["-l", "a=b=c", "-l", "d", "-e", "X=1", "img", "cmd"]).options(true).unwrap();
    assert_eq!(options.image, "img");
    assert_eq!(options.wishes.labels, [("a".into(), "b=c".into()), ("d".into(), String::new())].into());
    assert_eq!((options.wishes.env, options.wishes.command), (vec!["X=1".into()], vec!["cmd".into()]));
}

/// What is said of flags, from either of the two places that look at them.
fn refused(typed: &[&str]) -> String {
    let words = std::iter::once(&"run").chain(typed).chain(&["x"]);
    match Alone::try_parse_from(words) {
        Err(error) => std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default(),
        Ok(alone) => {
            let checked = alone.flags.check().and_then(|()| alone.flags.options(true).map(|_| ()));
            checked.err().map(|fault| fault.to_string()).unwrap_or_default()
        }
    }
}

#[test]
fn flags_of_docker_become_the_host_side() {
    let options = parse(&[
        "-m",
        "10m",
        "--cpus",
        "0.5",
        "--pids-limit",
        "-1",
        "--cap-add",
        "net_admin",
        "--cap-drop=ALL",
        "-v",
        "/tmp:/x:ro",
        "-v",
        "/anon",
        "--tmpfs",
        "/t:size=1m",
        "--mount",
        "type=volume,src=vv,dst=/m",
        "--ulimit",
        "nofile=1:2",
        "--sysctl",
        "net.x=1",
        "--restart",
        "on-failure:3",
        "--health-cmd",
        "true",
        "--health-interval",
        "5s",
        "--expose",
        "80-81",
        "--cgroup-parent",
        "/a",
        "--stop-timeout",
        "-1",
        "-a",
        "STDOUT",
        "img",
    ])
    .options(true)
    .unwrap();
    let host = &options.host;
    assert_eq!((host.resources.memory, host.resources.memory_swap), (Some(10 << 20), Some(20 << 20)));
    assert_eq!((host.resources.nano_cpus, host.resources.pids_limit), (Some(500_000_000), None));
    assert_eq!((host.cap_add.join(","), host.cap_drop.join(",")), ("NET_ADMIN".into(), "ALL".into()));
    let targets: Vec<_> = host.mounts.iter().map(|mount| mount.target.as_str()).collect();
    assert_eq!(targets, ["/x", "/m", "/t", "/anon"]);
    assert_eq!((host.binds.join(","), host.cgroup_parent.as_str()), ("/tmp:/x:ro".into(), "/a"));
    assert_eq!(host.restart, crate::model::RestartPolicy::OnFailure(3));
    assert_eq!(host.stop_timeout, Some(-1));
    assert_eq!(options.wishes.exposed_ports, ["80/tcp", "81/tcp"]);
    assert_eq!(
        (options.wishes.volumes, options.wishes.attach),
        (vec!["/anon".into()], vec!["stdout".into()])
    );
    let health = options.wishes.health;
    assert_eq!((health.cmd.as_deref(), health.interval), (Some("true"), Some(5_000_000_000)));
}

#[test]
fn flags_are_refused_in_dockers_words() {
    for (typed, message) in [
        (&["-m", "-1"][..], "invalid size: '-1'"),
        (&["-m", "5m"], "Minimum memory limit allowed is 6MB"),
        (&["--memory-swappiness", "-2"], "invalid value: -2. Valid memory swappiness range is 0-100"),
        (&["-c", "-1"], "invalid CPU shares (-1): value must be a positive integer"),
        (
            &["--cpus", "1", "--cpu-quota", "5000"],
            "Conflicting options: Nano CPUs and CPU Quota cannot both be set",
        ),
        (&["--restart", "always", "--rm"], "conflicting options: cannot specify both --restart and --rm"),
        (&["--uts", "host", "--hostname", "x"], "conflicting options: hostname and the UTS mode"),
        (&["-a", "bogus"], "valid streams are STDIN, STDOUT and STDERR"),
        (&["--isolation", "hyperv"], "invalid isolation (hyperv): linux only supports 'default'"),
        (&["--health-interval", "-5s"], "--health-interval cannot be negative"),
        (&["--health-interval", "0.5ms"], "Interval in Healthcheck cannot be less than 1ms"),
        (
            &["--no-healthcheck", "--health-retries", "3"],
            "--no-healthcheck conflicts with --health-* options",
        ),
        (&["-v", "/tmp:/x", "-v", "/usr:/x"], "Duplicate mount point: /x"),
        (&["-v", "/tmp:/x", "--tmpfs", "/x"], "Duplicate mount point: /x"),
        (
            &["--annotation", "=b"],
            "invalid Annotations: the empty string is not permitted as an annotation key",
        ),
        (&["--volumes-from", ""], "volumes-from specification cannot be an empty string"),
    ] {
        assert_eq!(refused(typed), message, "{typed:?}");
    }
    for accepted in [&["--tmpfs", "/x", "--tmpfs", "/x:ro"][..], &["-v", "v1:/x", "-v", "/x"], &["-m", "0"]] {
        assert_eq!(refused(accepted), "", "{accepted:?}");
    }
}
