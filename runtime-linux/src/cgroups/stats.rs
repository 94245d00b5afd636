//! What a cgroup has used: the counters of v1 and v2 as one.

use std::fs;

use super::{Cgroup, field};

/// What a cgroup has used, and what it may use. A missing controller counts as 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Bytes of memory, file cache included.
    pub memory: u64,
    /// Of it file cache that was not used lately, bytes.
    pub inactive_file: u64,
    /// Of it file cache, bytes.
    pub cache: u64,
    /// The most that was in use, bytes.
    pub memory_peak: u64,
    /// How much it may use, bytes; `None`: no limit.
    pub memory_limit: Option<u64>,
    /// Nanoseconds of processor time.
    pub cpu: u64,
    /// Of it in user mode.
    pub cpu_user: u64,
    /// Of it in the kernel.
    pub cpu_system: u64,
    /// Periods of a quota, those in which it was held up, and for how many nanoseconds.
    pub throttling: (u64, u64, u64),
    /// Processes and threads.
    pub pids: u64,
    /// How many there may be; `None`: no limit.
    pub pids_limit: Option<u64>,
    /// Bytes read from block devices.
    pub read: u64,
    /// Bytes written to block devices.
    pub written: u64,
}

/// More than any machine has: v1's way to say that there is no limit.
const NO_LIMIT: u64 = 1 << 60;

/// Nanoseconds in v1's unit of user and system time (`USER_HZ` is 100 everywhere).
const TICK: u64 = 10_000_000;

impl Cgroup {
    fn text(&self, controller: &'static str, v1: &str, v2: &str) -> String {
        self.file(controller, v1, v2).ok().and_then(|path| fs::read_to_string(path).ok()).unwrap_or_default()
    }

    fn number(&self, controller: &'static str, v1: &str, v2: &str) -> Option<u64> {
        self.text(controller, v1, v2).trim().parse().ok()
    }

    /// What it uses now.
    pub fn stats(&self) -> Stats {
        let v2 = self.hierarchies.unified();
        let memory = self.text("memory", "memory.stat", "memory.stat");
        let (inactive, cache) =
            if v2 { ("inactive_file", "file") } else { ("total_inactive_file", "total_cache") };
        let (read, written) = self.block_io(v2);
        let mut stats = Stats {
            memory: self.number("memory", "memory.usage_in_bytes", "memory.current").unwrap_or(0),
            inactive_file: field(&memory, inactive),
            cache: field(&memory, cache),
            memory_peak: self.number("memory", "memory.max_usage_in_bytes", "memory.peak").unwrap_or(0),
            memory_limit: self
                .number("memory", "memory.limit_in_bytes", "memory.max")
                .filter(|limit| *limit < NO_LIMIT),
            pids: self.number("pids", "pids.current", "pids.current").unwrap_or(0),
            pids_limit: self.number("pids", "pids.max", "pids.max"),
            read,
            written,
            ..Stats::default()
        };
        let cpu = self.text("cpu", "cpu.stat", "cpu.stat");
        if v2 {
            stats.cpu = field(&cpu, "usage_usec").saturating_mul(1000);
            stats.cpu_user = field(&cpu, "user_usec").saturating_mul(1000);
            stats.cpu_system = field(&cpu, "system_usec").saturating_mul(1000);
        } else {
            let times = self.text("cpuacct", "cpuacct.stat", "cpu.stat");
            stats.cpu = self.number("cpuacct", "cpuacct.usage", "cpu.stat").unwrap_or(0);
            stats.cpu_user = field(&times, "user").saturating_mul(TICK);
            stats.cpu_system = field(&times, "system").saturating_mul(TICK);
        }
        let held_up = if v2 {
            field(&cpu, "throttled_usec").saturating_mul(1000)
        } else {
            field(&cpu, "throttled_time")
        };
        stats.throttling = (field(&cpu, "nr_periods"), field(&cpu, "nr_throttled"), held_up);
        stats
    }

    /// Bytes read and written.
    fn block_io(&self, v2: bool) -> (u64, u64) {
        let text = self.text("blkio", "blkio.throttle.io_service_bytes", "io.stat");
        block_bytes(&text, v2)
    }
}

/// v1: `8:0 Read 4096`; v2: `8:0 rbytes=4096 wbytes=0 …`.
fn block_bytes(text: &str, v2: bool) -> (u64, u64) {
    let mut sums = (0_u64, 0_u64);
    for line in text.lines() {
        if v2 {
            for pair in line.split(' ').filter_map(|word| word.split_once('=')) {
                match (pair.0, pair.1.parse::<u64>()) {
                    ("rbytes", Ok(bytes)) => sums.0 = sums.0.saturating_add(bytes),
                    ("wbytes", Ok(bytes)) => sums.1 = sums.1.saturating_add(bytes),
                    _ => {}
                }
            }
            continue;
        }
        let mut words = line.split(' ').skip(1);
        match (words.next(), words.next().and_then(|word| word.parse::<u64>().ok())) {
            (Some("Read"), Some(bytes)) => sums.0 = sums.0.saturating_add(bytes),
            (Some("Write"), Some(bytes)) => sums.1 = sums.1.saturating_add(bytes),
            _ => {}
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_block_devices_are_summed() {
        let v1 = "8:0 Read 4096\n8:0 Write 1\n8:0 Total 4097\n8:16 Read 4\nTotal 4101\n";
        assert_eq!(block_bytes(v1, false), (4100, 1));
        assert_eq!(block_bytes("8:0 rbytes=7 wbytes=8 rios=1\n8:16 rbytes=1 wbytes=2\n", true), (8, 10));
        assert_eq!(block_bytes("", true), (0, 0));
    }
}
