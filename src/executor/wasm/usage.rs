//! What a container uses, frozen or not.

use async_trait::async_trait;

use super::grants;
use super::task::WasmTask;
use crate::executor::{ExecError, Limits, Pause, Stats, Usage};
use crate::model::Resources;

/// Nanoseconds of processor time of this process, which is the container and its supervisor.
#[cfg(unix)]
fn processor_time() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let nanoseconds = i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec);
    u64::try_from(nanoseconds).unwrap_or(0)
}

#[cfg(not(unix))]
fn processor_time() -> u64 {
    // What an executor cannot tell is 0.
    0
}

impl Usage for WasmTask {
    fn stats(&self) -> Result<Stats, ExecError> {
        let used = self.container.account.usage();
        let cpu = processor_time();
        Ok(Stats {
            cpu_total: cpu,
            cpu_user: cpu,
            memory: used.memory,
            memory_peak: used.memory_peak,
            memory_limit: Some(used.memory_limit),
            pids: 1,
            pids_limit: Some(1),
            requests: self.serves().then_some((used.requests, used.failures)),
            fuel: used.fuel,
            ..Stats::default()
        })
    }

    fn processes(&self) -> Result<Vec<u32>, ExecError> {
        Ok(vec![std::process::id()])
    }
}

#[async_trait]
impl Pause for WasmTask {
    async fn pause(&self) -> Result<(), ExecError> {
        self.container.life().frozen = true;
        self.container.account.freeze();
        Ok(())
    }

    async fn unpause(&self) -> Result<(), ExecError> {
        self.container.account.thaw();
        self.container.life().frozen = false;
        Ok(())
    }
}

#[async_trait]
impl Limits for WasmTask {
    async fn update(&self, resources: &Resources) -> Result<(), ExecError> {
        if let Some(bytes) = resources.memory {
            self.container.account.limit_memory(bytes);
        }
        if let Some(cpus) = grants::cpus(resources) {
            self.container.account.limit_cpus(Some(cpus));
        }
        Ok(())
    }
}
