//! Every process of a container's killed in every state of it: the record tells the truth at the next command, `rm -f` works,
//! and nothing is left (which the host of the test looks at in its end).

use std::process::Child;

use rustix::process::{Pid, Signal, kill_process};

use super::until;
use crate::support::host::Host;
use crate::support::{registry, require};

/// What is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Supervisor,
    Init,
    Client,
}

/// In which state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// While `start` is at work: at some moment of it.
    Starting,
    Running,
    /// With a further process in it.
    Executing,
    Paused,
    /// Between two runs, under a restart policy.
    Restarting,
    /// While `stop` waits for a program that does not hear.
    Stopping,
    /// Its end is near: the program ends by itself.
    Ending,
}

const STATES: [State; 7] = [
    State::Starting,
    State::Running,
    State::Executing,
    State::Paused,
    State::Restarting,
    State::Stopping,
    State::Ending,
];

fn kill(pid: u32) {
    // It may be gone already, and that is the same.
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _gone = kill_process(pid, Signal::KILL);
    }
}

/// Brings the container into the state; the command that is still at work there.
fn bring(host: &Host, image: &str, state: State, round: u32) -> Option<Child> {
    let begin = |args: &[&str]| host.command(args).spawn().expect("umiak starts");
    let create = |flags: &[&str], command: &[&str]| {
        let fixed = ["create", "--network", "none", "--name", "it"];
        host.umiak(&[&fixed[..], flags, &[image], command].concat()).exits(0);
    };
    let deaf = ["sh", "-c", "trap '' TERM; while :; do sleep 0.05; done"];
    match state {
        State::Starting => {
            create(&[], &["sleep", "1000"]);
            let child = begin(&["start", "-a", "it"]);
            std::thread::sleep(std::time::Duration::from_millis(u64::from(round) * 7));
            return Some(child);
        }
        State::Restarting => create(&["--restart", "always"], &["false"]),
        State::Ending => create(&[], &["sleep", "0.05"]),
        State::Stopping => create(&[], &deaf),
        State::Running | State::Executing | State::Paused => create(&[], &["sleep", "1000"]),
    }
    host.umiak(&["start", "it"]).exits(0);
    match state {
        State::Executing => {
            let child = begin(&["exec", "it", "sh", "-c", "touch /begun; sleep 1000"]);
            until("it has begun", || host.umiak(&["exec", "it", "test", "-e", "/begun"]).status == 0);
            Some(child)
        }
        State::Paused => {
            host.umiak(&["pause", "it"]).exits(0);
            None
        }
        State::Stopping => Some(begin(&["stop", "-t", "1", "it"])),
        _ => None,
    }
}

fn shown(host: &Host, format: &str) -> String {
    host.umiak(&["inspect", "-f", format, "it"]).exits(0).text().to_owned()
}

/// One cell of the table.
fn try_it(host: &Host, image: &str, victim: Victim, state: State, round: u32) {
    let case = format!("{victim:?} {state:?} {round}");
    let mut child = bring(host, image, state, round);
    let id = shown(host, "{{.Id}}");
    match victim {
        Victim::Supervisor => Host::supervisor(&id).into_iter().for_each(kill),
        Victim::Init => kill(shown(host, "{{.State.Pid}}").parse().unwrap_or(0)),
        Victim::Client => {
            if let Some(child) = &mut child {
                child.kill().expect("it is ours");
            }
        }
    }
    // At the next command, whatever that is: no state that does not exist, no process id of somebody else.
    let line = shown(host, "{{.State.Status}} {{.State.Running}} {{.State.Pid}}");
    let words: Vec<_> = line.split(' ').collect();
    let known = ["created", "running", "paused", "restarting", "exited"];
    assert!(known.contains(&words[0]), "{case}: {line}");
    let runs = ["running", "paused", "restarting"].contains(&words[0]);
    assert_eq!(words[1] == "true", runs, "{case}: {line}");
    if !runs {
        assert_eq!(words[2], "0", "{case}: {line}");
    }
    if victim == Victim::Supervisor && !matches!(state, State::Starting | State::Ending) {
        until(&case, || shown(host, "{{.State.Status}}") == "exited");
    }
    let out = host.umiak(&["rm", "-f", "it"]);
    assert_eq!(out.status, 0, "{case}: {}", out.stderr);
    assert_eq!(host.umiak(&["ps", "-aq"]).exits(0).stdout, "", "{case}");
    assert!(host.list("containers").is_empty(), "{case}");
    if let Some(mut child) = child {
        until("its command ends", || child.try_wait().expect("wait").is_some());
    }
}

#[test]
fn heavy_whoever_dies_whenever_nothing_is_left() {
    require!(root, registry);
    let host = Host::new();
    let image = registry::busybox();
    host.umiak(&["pull", "-q", &image]).exits(0);
    for victim in [Victim::Supervisor, Victim::Init, Victim::Client] {
        for state in STATES {
            // The moment of a start is another each time.
            for round in 0..if state == State::Starting { 6 } else { 1 } {
                try_it(&host, &image, victim, state, round);
            }
        }
    }
}
