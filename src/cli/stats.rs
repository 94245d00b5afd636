//! `umiak stats`.

use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;

use super::Execute;
use super::fault::Fault;
use super::output::table::{Columns, render};
use super::output::template::Row;
use super::output::{Printer, human};
use crate::engine::Engine;
use crate::executor::Stats as Counters;
use crate::model::{Container, ErrorKind, Kind as _};

const COLUMNS: Columns = Columns {
    titles: &[
        ("Container", "CONTAINER"),
        ("ID", "CONTAINER ID"),
        ("Name", "NAME"),
        ("CPUPerc", "CPU %"),
        ("MemUsage", "MEM USAGE / LIMIT"),
        ("MemPerc", "MEM %"),
        ("NetIO", "NET I/O"),
        ("BlockIO", "BLOCK I/O"),
        ("PIDs", "PIDS"),
        // Counted by Wasm containers alone: what a server answered, and what `--fuel` bounds.
        ("Requests", "REQUESTS"),
        ("Failures", "FAILURES"),
        ("Fuel", "FUEL"),
    ],
    shown: &["ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs"],
    quiet: "ID",
};

/// Between two looks at the counters.
const PERIOD: Duration = Duration::from_secs(1);

/// Display a live stream of container(s) resource usage statistics
#[derive(Debug, Args)]
#[command(help_template = super::HELP, override_usage = "umiak stats [OPTIONS] [CONTAINER...]", args_override_self = true)]
pub(super) struct Stats {
    /// Show all containers (default shows just running)
    #[arg(short, long)]
    all: bool,
    /// Format output: 'table', 'table TEMPLATE', 'json' or a Go template
    #[arg(long, value_name = "string", default_value = "", hide_default_value = true)]
    format: String,
    /// Disable streaming stats and only pull the first result
    #[arg(long)]
    no_stream: bool,
    /// Do not truncate output
    #[arg(long)]
    no_trunc: bool,
    #[arg(hide = true)]
    containers: Vec<String>,
}

/// A container, what it was called by, and its counters; none when it does not run.
struct Sample {
    typed: String,
    container: Container,
    counters: Option<Counters>,
    at: Instant,
}

impl Execute for Stats {
    fn run(&self, engine: &Engine, printer: &Printer) -> Result<u8, Fault> {
        let host = memory();
        let mut before = self.sample(engine)?;
        loop {
            // How busy the processor is can only be told from two looks.
            std::thread::sleep(PERIOD);
            let now = self.sample(engine)?;
            let rows: Vec<Row> = now.iter().map(|sample| self.row(sample, &before, host)).collect();
            let mut text = render(&rows, COLUMNS, &self.format, false)?;
            if self.no_stream {
                printer.write(text.as_bytes())?;
                return Ok(0);
            }
            // As docker does it: back to the top of the screen, and what was there is wiped out.
            text.insert_str(0, "\u{1b}[H\u{1b}[J");
            printer.write(text.as_bytes())?;
            before = now;
        }
    }
}

impl Stats {
    fn sample(&self, engine: &Engine) -> Result<Vec<Sample>, Fault> {
        let mut found = Vec::new();
        if self.containers.is_empty() {
            for view in engine.containers()?.into_iter().filter(|view| self.all || view.alive) {
                found.push((view.container.id.short().to_owned(), view.container));
            }
        }
        for name in &self.containers {
            found.push((name.clone(), engine.container(name)?.container));
        }
        let mut samples = Vec::with_capacity(found.len());
        for (typed, container) in found {
            let counters = match engine.stats(container.id.as_str()) {
                Ok(counters) => counters,
                // It was removed between the two looks.
                Err(error) if error.kind() == ErrorKind::NotFound && self.containers.is_empty() => continue,
                Err(error) => return Err(error.into()),
            };
            samples.push(Sample { typed, container, counters, at: Instant::now() });
        }
        Ok(samples)
    }

    fn row(&self, sample: &Sample, before: &[Sample], host: u64) -> Row {
        let container = &sample.container;
        let earlier = before.iter().find(|other| other.container.id == container.id);
        let counters = sample.counters.clone().unwrap_or_default();
        let busy = match (earlier, &sample.counters) {
            (Some(Sample { counters: Some(then), at, .. }), Some(now)) => percent(
                u128::from(now.cpu_total.saturating_sub(then.cpu_total)),
                sample.at.duration_since(*at).as_nanos(),
            ),
            _ => 0.0,
        };
        let limit = match (&sample.counters, counters.memory_limit) {
            (None, _) => 0,
            (Some(_), Some(limit)) if limit < host => limit,
            (Some(_), _) => host,
        };
        let (received, sent) =
            counters.networks.values().fold((0_u64, 0_u64), |(a, b), (r, s)| (a + r, b + s));
        let id = if self.no_trunc { container.id.as_str() } else { container.id.short() };
        let fields = json!({
            "Container": sample.typed,
            "ID": id,
            "Name": container.name,
            "CPUPerc": format!("{busy:.2}%"),
            "MemUsage": format!("{} / {}", binary(counters.memory), binary(limit)),
            "MemPerc": format!("{:.2}%", percent(u128::from(counters.memory), u128::from(limit))),
            "NetIO": format!("{} / {}", human::size(received, 3), human::size(sent, 3)),
            "BlockIO": format!("{} / {}", human::size(counters.block_read, 3), human::size(counters.block_write, 3)),
            "PIDs": counters.pids.to_string(),
            "Requests": counted(counters.requests.map(|(all, _)| all)),
            "Failures": counted(counters.requests.map(|(_, failed)| failed)),
            "Fuel": counted(counters.fuel),
        });
        Row {
            fields: fields.as_object().cloned().unwrap_or_default(),
            labels: container.config.labels.clone(),
        }
    }
}

/// A number, where somebody counts.
fn counted(number: Option<u64>) -> String {
    number.map_or_else(|| "--".to_owned(), |number| number.to_string())
}

#[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
fn percent(part: u128, whole: u128) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 * 100.0 }
}

/// Bytes in units of 1024, four digits: `760KiB`, `23.54GiB`.
fn binary(bytes: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "four digits are shown")]
    let mut value = bytes as f64;
    let mut unit = "B";
    for next in ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"] {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    let whole = if value < 10.0 {
        1
    } else if value < 100.0 {
        2
    } else if value < 1000.0 {
        3
    } else {
        4
    };
    let text = format!("{value:.*}", 4 - whole);
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{unit}")
}

/// Memory of this host, bytes; 0 where it cannot be told.
fn memory() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<u64>().map_or(0, |kib| kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_dockers() {
        for (bytes, shown) in
            [(0, "0B"), (778_240, "760KiB"), (10 << 20, "10MiB"), (1_610_612_736, "1.5GiB"), (1023, "1023B")]
        {
            assert_eq!(binary(bytes), shown);
        }
        assert!((percent(1, 4) - 25.0).abs() < 1e-9 && percent(1, 0) == 0.0);
    }
}
