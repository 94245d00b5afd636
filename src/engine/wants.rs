//! Which abilities of an executor a container needs beyond running a program. Pure.
//!
//! Every wish of [`HostConfig`] and [`Wishes`] that some executor cannot fulfil is named here, so that it is refused before
//! anything is made and never passed over in silence.

use super::Wishes;
use crate::executor::Want;
use crate::model::{
    HostConfig, MountSource, NamespaceMode, NetworkMode, Resources, SeccompChoice, Security, UserNamespace,
};

/// The wants, in a fixed order, each once.
pub(super) fn wants(host: &HostConfig, wishes: &Wishes) -> Vec<Want> {
    let resources = &host.resources;
    let shared = [&host.pid, &host.ipc, &host.uts, &host.cgroupns];
    let tmpfs = |source: &MountSource| matches!(source, MountSource::Tmpfs { .. });
    let namespaces = shared.into_iter().any(|mode| *mode != NamespaceMode::Private)
        || matches!(host.network, NetworkMode::Container(_));
    let all = [
        (Want::HostNetwork, host.network == NetworkMode::Host),
        (Want::Networks, matches!(host.network, NetworkMode::Named(_))),
        // On the host's own network there is nothing to publish, as with docker.
        (Want::Publish, !host.ports.is_empty() && host.network != NetworkMode::Host),
        (Want::PublishAll, host.publish_all && host.network != NetworkMode::Host),
        (Want::Destinations, !host.allow_net.is_empty()),
        (Want::Fuel, host.fuel.is_some()),
        (Want::User, wishes.user.is_some()),
        (Want::Capabilities, !host.cap_add.is_empty() || !host.cap_drop.is_empty()),
        (Want::Privileged, host.privileged),
        (Want::Devices, !host.devices.is_empty() || !host.device_cgroup_rules.is_empty()),
        (Want::Security, confines(&host.security)),
        (Want::Init, host.init),
        (Want::Namespaces, namespaces),
        (Want::UserNamespace, host.userns == UserNamespace::Auto),
        (Want::Sysctls, !host.sysctls.is_empty()),
        (Want::Groups, !host.group_add.is_empty()),
        (Want::CgroupParent, !host.cgroup_parent.is_empty()),
        (Want::Memory, resources.memory.is_some() || resources.memory_swap.is_some()),
        (Want::MemoryPolicy, memory_policy(resources)),
        (Want::Cpu, cpu(resources)),
        (Want::CpuPlacement, cpu_placement(resources)),
        (Want::Pids, resources.pids_limit.is_some_and(|limit| limit > 0)),
        (Want::BlockIo, block_io(resources)),
        (Want::OpenFiles, host.ulimits.iter().any(|limit| limit.name == "nofile")),
        (Want::Ulimits, host.ulimits.iter().any(|limit| limit.name != "nofile")),
        (Want::OomScore, host.oom_score_adj != 0),
        (Want::Mounts, host.mounts.iter().any(|m| !tmpfs(&m.source)) || !host.volumes_from.is_empty()),
        (Want::Tmpfs, host.mounts.iter().any(|m| tmpfs(&m.source)) || host.shm_size.is_some()),
        (Want::ReadOnlyRoot, host.read_only),
        (Want::Healthcheck, wishes.health.cmd.is_some()),
    ];
    all.into_iter().filter(|(_, wanted)| *wanted).map(|(want, _)| want).collect()
}

fn confines(security: &Security) -> bool {
    security.seccomp != SeccompChoice::Default
        || security.apparmor.is_some()
        || !security.labels.is_empty()
        || security.no_new_privileges
        || security.system_paths_unconfined
}

fn memory_policy(resources: &Resources) -> bool {
    resources.memory_reservation.is_some()
        || resources.memory_swappiness.is_some()
        || resources.oom_kill_disable
}

fn cpu(resources: &Resources) -> bool {
    resources.nano_cpus.is_some() || resources.cpu_period.is_some() || resources.cpu_quota.is_some()
}

fn cpu_placement(resources: &Resources) -> bool {
    resources.cpu_shares.is_some() || resources.cpuset_cpus.is_some() || resources.cpuset_mems.is_some()
}

fn block_io(resources: &Resources) -> bool {
    let throttles = [
        &resources.device_read_bps,
        &resources.device_write_bps,
        &resources.device_read_iops,
        &resources.device_write_iops,
    ];
    resources.blkio_weight.is_some() || throttles.into_iter().any(|list| !list.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_wished_for_is_nothing_wanted() {
        assert!(wants(&HostConfig::default(), &Wishes::default()).is_empty());
    }

    #[test]
    fn each_wish_is_named() {
        let resources = |change: fn(&mut Resources)| {
            let mut host = HostConfig::default();
            change(&mut host.resources);
            host
        };
        let host = |change: fn(&mut HostConfig)| {
            let mut host = HostConfig::default();
            change(&mut host);
            host
        };
        let cases = vec![
            (Want::HostNetwork, host(|h| h.network = NetworkMode::Host)),
            (Want::Networks, host(|h| h.network = NetworkMode::Named("x".into()))),
            (Want::Capabilities, host(|h| h.cap_drop = vec!["ALL".into()])),
            (Want::Privileged, host(|h| h.privileged = true)),
            (Want::Devices, host(|h| h.device_cgroup_rules = vec!["c 1:3 r".into()])),
            (Want::Security, host(|h| h.security.no_new_privileges = true)),
            (Want::Init, host(|h| h.init = true)),
            (Want::Namespaces, host(|h| h.pid = NamespaceMode::Host)),
            (Want::Namespaces, host(|h| h.network = NetworkMode::Container("x".into()))),
            (Want::UserNamespace, host(|h| h.userns = UserNamespace::Auto)),
            (Want::Sysctls, host(|h| h.sysctls = [("net.x".into(), "1".into())].into())),
            (Want::Groups, host(|h| h.group_add = vec!["1".into()])),
            (Want::CgroupParent, host(|h| h.cgroup_parent = "a".into())),
            (Want::Memory, resources(|r| r.memory = Some(6 << 20))),
            (Want::Cpu, resources(|r| r.nano_cpus = Some(1))),
            (Want::CpuPlacement, resources(|r| r.cpu_shares = Some(2))),
            (Want::MemoryPolicy, resources(|r| r.oom_kill_disable = true)),
            (Want::PublishAll, host(|h| h.publish_all = true)),
            (Want::Destinations, host(|h| h.allow_net = vec!["*".into()])),
            (Want::Fuel, host(|h| h.fuel = Some(1))),
            (Want::Pids, resources(|r| r.pids_limit = Some(1))),
            (Want::BlockIo, resources(|r| r.device_write_iops = vec![("/dev/x".into(), 1)])),
            (Want::OomScore, host(|h| h.oom_score_adj = 1)),
            (Want::Mounts, host(|h| h.volumes_from = vec!["x".into()])),
            (Want::Tmpfs, host(|h| h.shm_size = Some(1))),
            (Want::ReadOnlyRoot, host(|h| h.read_only = true)),
        ];
        for (want, host) in cases {
            assert_eq!(wants(&host, &Wishes::default()), [want]);
        }
        assert_eq!(
            wants(&HostConfig::default(), &Wishes { user: Some("1".into()), ..Wishes::default() }),
            [Want::User]
        );
    }
}
