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
const PAUSE: Duration = Duration::from_millis(20);

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
pub(super) fn moment(text: &str) -> Result<Timestamp, String> {
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
        let unreadable = |source| Fault::System { action: "reading the log", source };
        // As with docker, what is no number is all.
        let mut reader = engine.logs(id.as_str(), self.tail.parse().ok())?;
        loop {
            // Looked at first: what was written before the end is read after it.
            let alive = self.follow && engine.container(id.as_str()).is_ok_and(|view| view.alive);
            while let Some(entry) = reader.next_entry().map_err(unreadable)? {
                if self.until.is_some_and(|until| entry.time > until) {
                    return Ok(0);
                }
                if self.since.is_none_or(|since| entry.time >= since) {
                    self.show(printer, &entry)?;
                }
            }
            if !alive || self.until.is_some_and(|until| Timestamp::now() >= until) {
                break;
            }
            std::thread::sleep(PAUSE);
        }
        Ok(0)
    }
}

impl Logs {
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
}
