//! `umiak update`.

use clap::Args;

use super::Execute;
use super::args::refused::Refused;
use super::args::{number, supervise};
use super::create::{Limits, resources};
use super::fault::Fault;
use super::output::Printer;
use crate::engine::{Engine, check_resources};
use crate::model::{Resources, RestartPolicy};

/// Update configuration of one or more containers
#[derive(Debug, Args)]
#[command(
    help_template = super::HELP,
    override_usage = "umiak update [OPTIONS] CONTAINER [CONTAINER...]",
    args_override_self = true
)]
pub(super) struct Update {
    /// Block IO (relative weight), between 10 and 1000, or 0 to disable (default 0)
    #[arg(long, value_name = "uint16", allow_hyphen_values = true, value_parser = number::uint16)]
    blkio_weight: Option<u16>,
    /// Limit CPU CFS (Completely Fair Scheduler) period
    #[arg(long, value_name = "int", allow_hyphen_values = true, value_parser = number::int)]
    cpu_period: Option<i64>,
    /// Limit CPU CFS (Completely Fair Scheduler) quota
    #[arg(long, value_name = "int", allow_hyphen_values = true, value_parser = number::int)]
    cpu_quota: Option<i64>,
    /// CPU shares (relative weight)
    #[arg(short = 'c', long, value_name = "int", allow_hyphen_values = true, value_parser = number::int)]
    cpu_shares: Option<i64>,
    /// Number of CPUs
    #[arg(long, value_name = "decimal", allow_hyphen_values = true, value_parser = number::cpus)]
    cpus: Option<i64>,
    /// CPUs in which to allow execution (0-3, 0,1)
    #[arg(long, value_name = "string")]
    cpuset_cpus: Option<String>,
    /// MEMs in which to allow execution (0-3, 0,1)
    #[arg(long, value_name = "string")]
    cpuset_mems: Option<String>,
    /// Memory limit
    #[arg(short, long, value_name = "bytes", allow_hyphen_values = true, value_parser = number::size)]
    memory: Option<u64>,
    /// Memory soft limit
    #[arg(long, value_name = "bytes", allow_hyphen_values = true, value_parser = number::size)]
    memory_reservation: Option<u64>,
    /// Swap limit equal to memory plus swap: -1 to enable unlimited swap
    #[arg(long, value_name = "bytes", allow_hyphen_values = true, value_parser = number::swap)]
    memory_swap: Option<i64>,
    /// Tune container pids limit (set -1 for unlimited)
    #[arg(long, value_name = "int", allow_hyphen_values = true, value_parser = number::int)]
    pids_limit: Option<i64>,
    /// Restart policy to apply when a container exits
    #[arg(long, value_name = "string")]
    restart: Option<String>,
    #[arg(required = true, hide = true)]
    containers: Vec<String>,
}

impl Update {
    fn changes(&self) -> Result<(Resources, Option<RestartPolicy>), Fault> {
        let mut changes = resources(&Limits {
            memory: self.memory,
            memory_swap: self.memory_swap,
            memory_reservation: self.memory_reservation,
            cpus: self.cpus,
            cpu_shares: self.cpu_shares,
            cpu_period: self.cpu_period,
            cpu_quota: self.cpu_quota,
            cpuset_cpus: self.cpuset_cpus.as_deref(),
            cpuset_mems: self.cpuset_mems.as_deref(),
            blkio_weight: self.blkio_weight,
        })?;
        // Here nothing and no limit are two things: 0 takes a limit away, of which docker makes no change.
        changes.memory = self.memory.or(changes.memory);
        changes.memory_swap = self.memory_swap.or(changes.memory_swap);
        changes.memory_reservation = self.memory_reservation.or(changes.memory_reservation);
        changes.nano_cpus = changes.nano_cpus.or(self.cpus.filter(|nano| *nano == 0).map(|_| 0));
        changes.cpu_shares = changes.cpu_shares.or(self.cpu_shares.filter(|shares| *shares == 0).map(|_| 0));
        changes.cpu_period = changes.cpu_period.or(self.cpu_period.filter(|period| *period == 0).map(|_| 0));
        changes.cpu_quota = self.cpu_quota.or(changes.cpu_quota);
        if changes.memory == Some(0) && changes.memory_swap.is_none() {
            // Swap is limited together with memory.
            changes.memory_swap = Some(0);
        }
        changes.pids_limit = self.pids_limit.map(|limit| if limit > 0 { limit } else { -1 });
        let restart = self.restart.as_deref().map(supervise::restart).transpose().map_err(Fault::value)?;
        Ok((changes, restart))
    }
}

/// What a container's limits would be, in docker's rules for an update.
fn after(now: &Resources, changes: &Resources) -> Result<Resources, Refused> {
    let conflict = |what: &str, set: &str| {
        Err(Refused::text(format!(
            "Conflicting options: {what} cannot be updated as {set} has already been set"
        )))
    };
    let set = |value: Option<u64>| value.is_some_and(|value| value > 0);
    if set(changes.nano_cpus) && (now.cpu_period.is_some() || now.cpu_quota.is_some()) {
        return conflict("Nano CPUs", if now.cpu_quota.is_some() { "CPU Quota" } else { "CPU Period" });
    }
    if changes.cpu_quota.is_some_and(|quota| quota != 0) && now.nano_cpus.is_some() {
        return conflict("CPU Quota", "NanoCPUs");
    }
    if set(changes.cpu_period) && now.nano_cpus.is_some() {
        return conflict("CPU Period", "NanoCPUs");
    }
    let limit = now.memory_swap.and_then(|swap| u64::try_from(swap).ok());
    if let (Some(memory), Some(limit), None) = (changes.memory, limit, changes.memory_swap)
        && memory > limit
    {
        return Err(Refused::text(
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time",
        ));
    }
    let mut wanted = now.clone();
    wanted.take_over(changes);
    Ok(wanted)
}

impl Execute for Update {
    fn check(&self) -> Result<(), Fault> {
        let (changes, restart) = self.changes()?;
        if changes == Resources::default() && restart.is_none() {
            return Err(Fault::value(Refused::text(
                "you must provide one or more flags when using this command",
            )));
        }
        Ok(())
    }

    fn run(&self, engine: &Engine, printer: &Printer) -> Result<u8, Fault> {
        let (changes, restart) = self.changes()?;
        super::each(printer, &self.containers, |name| {
            let now = engine.container(name)?.container.host.resources;
            let mut changes = changes.clone();
            if now.memory_swap.is_none() && changes.memory_swap.is_none() {
                // As for a new container: without a word about it, as much swap as memory.
                changes.memory_swap =
                    changes.memory.and_then(|bytes| i64::try_from(bytes.saturating_mul(2)).ok());
            }
            let wanted = after(&now, &changes).map_err(Fault::value)?;
            check_resources(&wanted).map_err(|error| Fault::Engine(error.into()))?;
            engine.update(name, &changes, restart)?;
            Ok(printer.line(name)?)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_update_is_checked_against_what_is() {
        let now = Resources { memory_swap: Some(100), nano_cpus: Some(5), ..Resources::default() };
        for (changes, words) in [
            (Resources { memory: Some(200), ..Resources::default() }, "already set memoryswap limit"),
            (Resources { cpu_quota: Some(1), ..Resources::default() }, "NanoCPUs has already been set"),
            (Resources { cpu_period: Some(1), ..Resources::default() }, "NanoCPUs has already been set"),
        ] {
            assert!(after(&now, &changes).unwrap_err().to_string().contains(words), "{words}");
        }
        let both = Resources { memory: Some(200), memory_swap: Some(400), ..Resources::default() };
        assert_eq!(after(&now, &both).unwrap().memory, Some(200));
        let nothing = Resources {
            nano_cpus: Some(0),
            memory_swap: Some(0),
            cpu_quota: Some(0),
            ..Resources::default()
        };
        assert_eq!(after(&now, &nothing).unwrap(), Resources::default());
        let quota = Resources { cpu_quota: Some(1), ..Resources::default() };
        let cpus = Resources { nano_cpus: Some(1), ..Resources::default() };
        assert!(after(&quota, &cpus).unwrap_err().to_string().contains("CPU Quota has already been set"));
    }
}
