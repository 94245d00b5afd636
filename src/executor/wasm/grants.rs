//! What a container was granted, in the runtime's words.

use std::time::Duration;

use runtime_wasm::{Limits, Listen, Network, ServeLimits, Target, TargetError};

use crate::executor::{ExecError, Refusal};
use crate::model::{ErrorKind, HostConfig, NetworkMode, Protocol, Resources};

/// The network: nothing, unless something was asked for.
pub(super) fn network(host: &HostConfig) -> Result<Network, ExecError> {
    let failed =
        |error: TargetError| ExecError::failed(ErrorKind::InvalidInput, "granting the network", error);
    let named = host.allow_net.iter().map(|text| text.parse::<Target>());
    let connect: Vec<Target> = named.collect::<Result<_, _>>().map_err(failed)?;
    match &host.network {
        // Its supervisor is on the host: there is nothing to pass on.
        NetworkMode::None | NetworkMode::Default | NetworkMode::Pasta => {
            Ok(Network { connect, listen: listen(host) })
        }
        // The host's, or one that is the guest's own.
        NetworkMode::Host | NetworkMode::Named(_) if connect.is_empty() => Ok(Network::everything()),
        NetworkMode::Host | NetworkMode::Named(_) => Ok(Network { connect, listen: Listen::Anything }),
        NetworkMode::Container(_) => {
            let what = crate::executor::Want::Namespaces.describe();
            Err(Refusal::Cannot { executor: super::NAME, what }.into())
        }
    }
}

/// A socket of the guest's own listens where it says, on the host. So it may where that is the port that was published.
fn listen(host: &HostConfig) -> Listen {
    let same = host.ports.iter().filter(|port| port.host == Some((port.container, port.container)));
    let ports: Vec<u16> = same.map(|port| port.container).collect();
    if ports.is_empty() { Listen::Nothing } else { Listen::Ports(ports) }
}

/// Annotations that say how instances of a server are used again, by the names of `wasmtime serve`'s flags.
const REUSE: &str = "umiak.http.max-instance-reuse-count";
const TOGETHER: &str = "umiak.http.max-instance-concurrent-reuse-count";
/// The one that says in how many seconds an answer must begin.
const ANSWER: &str = "umiak.http.answer-timeout";

/// An annotation that says nothing.
#[derive(Debug, thiserror::Error)]
#[error("annotation `{key}` is {value:?}, and must be a number from 1 on: {what}")]
struct NotANumber {
    key: &'static str,
    value: String,
    what: &'static str,
}

/// The bounds of a server. They are the user's to change (`--annotation`), never an image's.
pub(super) fn serving(host: &HostConfig) -> Result<ServeLimits, ExecError> {
    let number = |key: &'static str, what| {
        let Some(value) = host.annotations.get(key) else { return Ok(None) };
        match value.parse::<u32>() {
            Ok(number) if number > 0 => Ok(Some(number)),
            _ => {
                let error = NotANumber { key, value: value.clone(), what };
                Err(ExecError::failed(ErrorKind::InvalidInput, "setting the server up", error))
            }
        }
    };
    let count = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    let defaults = ServeLimits::default();
    let reuse = number(REUSE, "1 is an instance of its own for every request")?;
    let together = number(TOGETHER, "1 is an instance of its own for every request that waits")?;
    let answer = number(ANSWER, "the seconds in which an answer must begin")?;
    Ok(ServeLimits {
        reuse: reuse.map(count),
        together: together.map_or(defaults.together, count),
        answer_time: answer.map_or(defaults.answer_time, |seconds| Duration::from_secs(seconds.into())),
        ..defaults
    })
}

/// Handles that a component has beside its files: sockets, streams, what it waits for.
pub(super) const BESIDE: u32 = 1024;

/// How many open files were asked for.
pub(super) fn files(host: &HostConfig) -> Option<u64> {
    let limit = host.ulimits.iter().find(|limit| limit.name == "nofile")?;
    // -1 is as many as there can be.
    limit.soft.try_into().ok()
}

/// The limits; `most` is the configuration's own for memory. Of `room` for descriptors of this process as many files as were asked for.
pub(super) fn limits(host: &HostConfig, most: Option<u64>, files: Option<u64>, room: usize) -> Limits {
    let defaults = Limits::default();
    let files = files.map_or(defaults.files, |files| usize::try_from(files).unwrap_or(usize::MAX));
    Limits {
        memory_bytes: host.resources.memory.or(most).unwrap_or(defaults.memory_bytes),
        cpus: cpus(&host.resources),
        files: files.min(room),
        handles: defaults.handles.min(room.saturating_add(BESIDE as usize)),
        fuel: host.fuel,
        ..defaults
    }
}

/// Processors, from either way to say it.
#[expect(clippy::cast_precision_loss, reason = "a share of processors needs no more than a few digits")]
pub(super) fn cpus(resources: &Resources) -> Option<f64> {
    if let Some(billionths) = resources.nano_cpus.filter(|number| *number > 0) {
        return Some(billionths as f64 / 1e9);
    }
    let quota = resources.cpu_quota.filter(|quota| *quota > 0)?;
    Some(quota as f64 / resources.cpu_period.filter(|period| *period > 0).unwrap_or(100_000) as f64)
}

/// Whether a published port carries what an HTTP server speaks.
pub(super) fn carries_http(protocol: Protocol) -> bool {
    protocol == Protocol::Tcp
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{PortBinding, Ulimit};

    #[test]
    fn nothing_is_reached_that_was_not_named() {
        let mut host = HostConfig::default();
        assert!(!network(&host).unwrap().any());
        host.allow_net = vec!["10.0.0.0/8:80".to_owned()];
        assert_eq!(network(&host).unwrap().connect.len(), 1);
        host.network = NetworkMode::Host;
        assert_eq!(network(&host).unwrap().listen, Listen::Anything);
        host.allow_net = vec!["*.x".to_owned()];
        assert!(network(&host).is_err());
        host.network = NetworkMode::Container("x".to_owned());
        host.allow_net.clear();
        assert!(matches!(network(&host), Err(ExecError::Refused(_))));
    }

    #[test]
    fn a_port_is_listened_on_where_it_is_published_as_itself() {
        let port = |container, host| PortBinding { container, protocol: Protocol::Tcp, address: None, host };
        let ports = vec![port(80, Some((8080, 8080))), port(81, Some((81, 81))), port(82, None)];
        let host = HostConfig { ports, ..HostConfig::default() };
        assert_eq!(network(&host).unwrap().listen, Listen::Ports(vec![81]));
    }

    #[test]
    fn a_servers_bounds_are_annotated() {
        let with = |key: &str, value: &str| HostConfig {
            annotations: [(key.to_owned(), value.to_owned())].into(),
            ..HostConfig::default()
        };
        assert_eq!(serving(&HostConfig::default()).unwrap(), ServeLimits::default());
        assert_eq!(serving(&with(REUSE, "1")).unwrap().reuse, Some(1));
        assert_eq!(serving(&with(TOGETHER, "4")).unwrap().together, 4);
        assert_eq!(serving(&with(ANSWER, "5")).unwrap().answer_time, Duration::from_secs(5));
        let wrong =
            [(REUSE, "0"), (REUSE, "-1"), (TOGETHER, "many"), (TOGETHER, ""), (ANSWER, "0"), (ANSWER, "1s")];
        for (key, value) in wrong {
            let error = serving(&with(key, value)).unwrap_err();
            let told = std::error::Error::source(&error).unwrap().to_string();
            assert!(told.contains(key) && told.contains("from 1 on"), "{told}");
        }
    }

    #[test]
    fn files_are_what_was_asked_for_and_no_more_than_there_is_room() {
        let mut host = HostConfig::default();
        let of = |host: &HostConfig, room| limits(host, None, files(host), room).files;
        assert_eq!((of(&host, 100), of(&host, usize::MAX)), (100, Limits::default().files));
        for (soft, expected) in [(50, 50), (200, 100), (-1, 100)] {
            host.ulimits = vec![Ulimit { name: "nofile".to_owned(), soft, hard: soft }];
            assert_eq!(of(&host, 100), expected, "{soft}");
        }
    }

    #[test]
    fn processors_are_a_number_or_a_quota() {
        let of = |nano_cpus, cpu_quota, cpu_period| {
            cpus(&Resources { nano_cpus, cpu_period, cpu_quota, ..Resources::default() })
        };
        assert_eq!(of(Some(1_500_000_000), None, None), Some(1.5));
        assert_eq!(of(None, Some(50_000), None), Some(0.5));
        assert_eq!(of(None, Some(50_000), Some(10_000)), Some(5.0));
        assert_eq!(of(None, Some(-1), None), None);
    }
}
