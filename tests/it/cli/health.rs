//! Health checks: what `ps` and `inspect` say of a container's work.

use super::{detached, until};
use crate::support::host::Host;
use crate::support::require;

fn status(host: &Host, id: &str) -> String {
    host.umiak(&["inspect", "-f", "{{.State.Health.Status}}", id]).exits(0).text().to_owned()
}

#[test]
fn a_container_is_healthy_unhealthy_and_healthy_again() {
    require!(root, registry);
    let host = Host::new();
    let flags =
        ["--health-cmd", "echo looked; test -e /well", "--health-interval", "100ms", "--health-retries", "2"];
    let id = detached(&host, &flags, &["sleep", "1000"]);
    assert!(host.umiak(&["ps"]).exits(0).stdout.contains("(health: starting)"));
    host.umiak(&["exec", &id, "touch", "/well"]).exits(0);
    until("it is healthy", || status(&host, &id) == "healthy");
    assert!(host.umiak(&["ps"]).exits(0).stdout.contains("(healthy)"));
    host.umiak(&["exec", &id, "rm", "/well"]).exits(0);
    until("it is unhealthy", || status(&host, &id) == "unhealthy");
    let last = "{{(index .State.Health.Log 0).ExitCode}} {{(index .State.Health.Log 0).Output}}";
    // The oldest of the five that are kept comes first.
    until("they are kept", || host.umiak(&["inspect", "-f", last, &id]).exits(0).stdout == "1 looked\n\n");
    host.umiak(&["rm", "-f", &id]).exits(0);
}

#[test]
fn a_check_that_hangs_is_a_failure_and_leaves_nothing() {
    require!(root, registry);
    let host = Host::new();
    let flags = [
        "--health-cmd",
        "sleep 900",
        "--health-interval",
        "50ms",
        "--health-timeout",
        "100ms",
        "--health-retries",
        "1",
    ];
    let id = detached(&host, &flags, &["sleep", "1000"]);
    until("it is unhealthy", || status(&host, &id) == "unhealthy");
    let output =
        host.umiak(&["inspect", "-f", "{{(index .State.Health.Log 0).Output}}", &id]).exits(0).stdout;
    assert!(output.contains("exceeded timeout"), "{output}");
    host.umiak(&["stop", "-t", "0", &id]).exits(0);
    host.umiak(&["rm", &id]).exits(0);
}
