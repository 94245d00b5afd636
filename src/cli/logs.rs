//! `umiak logs`.

use std::time::Duration;

use clap::Args;

use super::Execute;
use super::args::moment;
use super::args::refused::Refused;
use super::fault::Fault;
use super::output::Printer;
use crate::engine::Engine;
use crate::model::Timestamp;
use crate::supervisor::{LogEntry, Stream};

/// A follower looks at least so often.
const LONGEST: Duration = Duration::from_secs(10);

/// Fetch the logs of a container
#[derive(Debug, Args)]
#[command(help_template = super::HELP, override_usage = "umiak logs [OPTIONS] CONTAINER", args_override_self = true)]
pub(super) struct Logs {
    /// Show extra details provided to logs
    #[arg(long)]
    details: bool,
    /// Follow log output
    #[arg(short, long)]
    follow: bool,
    /// Show logs since timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)
    #[arg(long, value_name = "string", allow_hyphen_values = true)]
    since: Option<String>,
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
    #[arg(long, value_name = "string", allow_hyphen_values = true)]
    until: Option<String>,
    #[arg(required = true, hide = true)]
    container: String,
}

/// A flag that names a moment; docker takes an empty one for none.
fn bound(flag: &'static str, text: Option<&String>) -> Result<Option<Timestamp>, Fault> {
    let wrong = |error: Refused| Fault::Bound { flag, error: error.to_string() };
    text.filter(|text| !text.is_empty()).map(|text| moment::moment(text).map_err(wrong)).transpose()
}

impl Execute for Logs {
    fn check(&self) -> Result<(), Fault> {
        bound("since", self.since.as_ref())?;
        bound("until", self.until.as_ref()).map(drop)
    }

    fn run(&self, engine: &Engine, printer: &Printer) -> Result<u8, Fault> {
        // The id, so that a follower stays with its container when the name moves on.
        let container = engine.container(&self.container)?.container;
        let id = &container.id;
        let since = bound("since", self.since.as_ref())?;
        let until = bound("until", self.until.as_ref())?;
        let unreadable = |source| Fault::System { action: "reading the log", source };
        // Before the first look, so that nothing falls between the two.
        let mut watch = if self.follow { Some(engine.watch_logs(&container)?) } else { None };
        // As with docker, what is no number is all.
        let mut reader = engine.logs(id.as_str(), self.tail.parse().ok())?;
        loop {
            // Looked at first: what was written before the end is read after it.
            let alive = self.follow && engine.container(id.as_str()).is_ok_and(|view| view.alive);
            while let Some(entry) = reader.next_entry().map_err(unreadable)? {
                if until.is_some_and(|until| entry.time > until) {
                    return Ok(0);
                }
                if since.is_none_or(|since| entry.time >= since) {
                    self.show(printer, &entry)?;
                }
            }
            let now = Timestamp::now();
            let Some(watch) = watch.as_mut().filter(|_| alive) else { break };
            let left = until.map_or(Ok(LONGEST), |until| Duration::try_from(until.duration_since(now)));
            // Negative: that time has come.
            let Ok(left) = left else { break };
            watch.wait(left);
        }
        Ok(0)
    }
}

impl Logs {
    fn show(&self, printer: &Printer, entry: &LogEntry) -> Result<(), Fault> {
        let mut text = String::new();
        if self.timestamps {
            text = entry.time.strftime("%Y-%m-%dT%H:%M:%S.%9fZ ").to_string();
        }
        if self.details {
            let pairs = entry.attrs.iter().map(|(key, value)| format!("{}={}", escaped(key), escaped(value)));
            text = format!("{text}{} ", pairs.collect::<Vec<_>>().join(","));
        }
        text.push_str(&entry.log);
        match entry.stream {
            Stream::Stdout => printer.write(text.as_bytes())?,
            Stream::Stderr => printer.write_err(text.as_bytes())?,
        }
        Ok(())
    }
}

/// A text as part of a URL's query, as docker shows details.
fn escaped(text: &str) -> String {
    let digit = |value: u8| char::from_digit(value.into(), 16).unwrap_or('0').to_ascii_uppercase();
    let mut shown = String::new();
    for byte in text.bytes() {
        match byte {
            b' ' => shown.push('+'),
            b'-' | b'_' | b'.' | b'~' => shown.push(byte.into()),
            byte if byte.is_ascii_alphanumeric() => shown.push(byte.into()),
            byte => shown.extend(['%', digit(byte >> 4), digit(byte & 15)]),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_are_escaped() {
        assert_eq!(escaped("a b=c,é-_.~"), "a+b%3Dc%2C%C3%A9-_.~");
    }
}
