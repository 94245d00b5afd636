//! `umiak logs`.

use std::time::Duration;

use clap::Args;

use super::Execute;
use super::fault::Fault;
use super::output::Printer;
use crate::engine::Engine;
use crate::model::Timestamp;
use crate::supervisor::{LogEntry, Stream};

/// How often `--follow` looks for more.
const PAUSE: Duration = Duration::from_millis(50);

/// Fetch the logs of a container
#[derive(Debug, Args)]
#[command(help_template = super::HELP, override_usage = "umiak logs [OPTIONS] CONTAINER", args_override_self = true)]
pub(super) struct Logs {
    /// Follow log output
    #[arg(short, long)]
    follow: bool,
    /// Show logs since timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)
    #[arg(long, value_name = "string", value_parser = moment)]
    since: Option<Timestamp>,
    /// Number of lines to show from the end of the logs
    #[arg(
        short = 'n',
        long,
        value_name = "string",
        default_value = "all",
        hide_default_value = true,
        allow_negative_numbers = true
    )]
    tail: String,
    /// Show timestamps
    #[arg(short, long)]
    timestamps: bool,
    /// Show logs before a timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)
    #[arg(long, value_name = "string", value_parser = moment)]
    until: Option<Timestamp>,
    #[arg(required = true, hide = true)]
    container: String,
}

/// A moment: RFC 3339, seconds since 1970, or how long ago (`1h30m`).
fn moment(text: &str) -> Result<Timestamp, String> {
    if let Ok(moment) = text.parse() {
        return Ok(moment);
    }
    let wrong = || format!("`{text}` is neither a time like 2013-01-02T13:23:37Z nor a duration like 1h30m");
    if let Ok(seconds) = text.parse::<i64>() {
        return Timestamp::from_second(seconds).map_err(|_| wrong());
    }
    let mut total = 0_u64;
    let mut number = String::new();
    for c in text.chars() {
        let unit = match c {
            '0'..='9' => {
                number.push(c);
                continue;
            }
            'h' => 3600,
            'm' => 60,
            's' => 1,
            _ => return Err(wrong()),
        };
        let count: u64 = number.parse().map_err(|_| wrong())?;
        total = count.checked_mul(unit).and_then(|part| total.checked_add(part)).ok_or_else(wrong)?;
        number.clear();
    }
    if text.is_empty() || !number.is_empty() {
        return Err(wrong());
    }
    Timestamp::now().checked_sub(Duration::from_secs(total)).map_err(|_| wrong())
}

impl Execute for Logs {
    fn run(&self, engine: &Engine, printer: &Printer) -> Result<u8, Fault> {
        // The id, so that a follower stays with its container when the name moves on.
        let id = engine.container(&self.container)?.container.id;
        let all = engine.logs(&self.container)?;
        let mut seen = all.len();
        let wanted: Vec<_> = all.iter().filter(|entry| self.wants(entry)).collect();
        for entry in &wanted[self.tail_start(&wanted)..] {
            self.show(printer, entry)?;
        }
        while self.follow && self.until.is_none_or(|until| Timestamp::now() < until) {
            // Looked at first: what was written before the end is read after it.
            let Ok(view) = engine.container(id.as_str()) else { break };
            let Ok(all) = engine.logs(id.as_str()) else { break };
            for entry in all.iter().skip(seen).filter(|entry| self.wants(entry)) {
                self.show(printer, entry)?;
            }
            seen = seen.max(all.len());
            if !view.alive {
                break;
            }
            std::thread::sleep(PAUSE);
        }
        Ok(0)
    }
}

impl Logs {
    fn wants(&self, entry: &LogEntry) -> bool {
        self.since.is_none_or(|since| entry.time >= since)
            && self.until.is_none_or(|until| entry.time <= until)
    }

    /// Where the last lines begin; a line may have several records. As with docker, what is no number is all.
    fn tail_start(&self, entries: &[&LogEntry]) -> usize {
        let Ok(lines) = self.tail.parse::<usize>() else { return 0 };
        if lines == 0 {
            return entries.len();
        }
        let starts: Vec<usize> =
            (0..entries.len()).filter(|at| *at == 0 || entries[at - 1].log.ends_with('\n')).collect();
        starts.get(starts.len().saturating_sub(lines)).copied().unwrap_or(0)
    }

    fn show(&self, printer: &Printer, entry: &LogEntry) -> Result<(), Fault> {
        let text = if self.timestamps {
            format!("{} {}", entry.time.strftime("%Y-%m-%dT%H:%M:%S.%9fZ"), entry.log)
        } else {
            entry.log.clone()
        };
        match entry.stream {
            Stream::Stdout => printer.write(text.as_bytes())?,
            Stream::Stderr => printer.write_err(text.as_bytes())?,
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_times_or_durations() {
        assert_eq!(moment("1970-01-01T00:00:09Z").unwrap().as_second(), 9);
        assert_eq!(moment("9").unwrap().as_second(), 9);
        let ago = Timestamp::now().as_second() - moment("1h30m5s").unwrap().as_second();
        assert!((5405..5410).contains(&ago), "{ago}");
        for bad in ["", "h", "5x", "m5", "99999999999999999999h", "9999999999999999h", "1h2"] {
            assert!(moment(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_tail_counts_lines_not_records() {
        let entry =
            |text: &str| LogEntry { log: text.into(), stream: Stream::Stdout, time: Timestamp::UNIX_EPOCH };
        let all = [entry("a\n"), entry("b1"), entry("b2\n"), entry("c\n")];
        let all: Vec<_> = all.iter().collect();
        for (tail, start) in [("all", 0), ("0", 4), ("1", 3), ("2", 1), ("3", 0), ("99", 0), ("-1", 0)] {
            let logs = Logs {
                follow: false,
                since: None,
                tail: tail.into(),
                timestamps: false,
                until: None,
                container: String::new(),
            };
            assert_eq!(logs.tail_start(&all), start, "{tail}");
        }
    }
}
