//! Durations, sizes, commands and states in docker's words (the rules of its `go-units`).

use jiff::Timestamp;

use crate::model::{Container, HealthStatus, RuntimeStatus};

/// A duration of some seconds, roughly: `Less than a second`, `About a minute`, `3 weeks`.
pub fn duration(seconds: i64) -> String {
    let (minutes, hours) = (seconds / 60, (seconds + 1800) / 3600);
    match seconds {
        ..1 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        2..60 => format!("{seconds} seconds"),
        60..120 => "About a minute".to_owned(),
        120..3600 => format!("{minutes} minutes"),
        _ => match hours {
            ..2 => "About an hour".to_owned(),
            2..48 => format!("{hours} hours"),
            48..336 => format!("{} days", hours / 24),
            336..1440 => format!("{} weeks", hours / 24 / 7),
            1440..17520 => format!("{} months", hours / 24 / 30),
            _ => format!("{} years", seconds / 3600 / 24 / 365),
        },
    }
}

/// How long before `now` something was: `6 minutes ago`.
pub fn ago(then: Timestamp, now: Timestamp) -> String {
    format!("{} ago", duration(now.as_second() - then.as_second()))
}

/// Bytes in units of 1000, `digits` significant: docker shows 3 in listings, 4 in pull progress.
pub fn size(bytes: u64, digits: usize) -> String {
    #[expect(clippy::cast_precision_loss, reason = "four digits are shown")]
    let mut value = bytes as f64;
    let mut units = ["B", "kB", "MB", "GB", "TB", "PB", "EB"].into_iter();
    let mut unit = units.next().unwrap_or("B");
    while value >= 1000.0 {
        let Some(next) = units.next() else { break };
        value /= 1000.0;
        unit = next;
    }
    // As C's %g: so many significant digits, no zeros at the end.
    let whole = if value < 10.0 {
        1
    } else if value < 100.0 {
        2
    } else {
        3
    };
    let text = format!("{value:.*}", digits.saturating_sub(whole));
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{unit}")
}

/// At most `width` characters, the last of them `…` when some were cut.
pub fn ellipsis(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

/// A command as `ps` shows it: in quotes, cut at 20 characters unless all of it is wanted. As with docker, arguments with a
/// blank in them have quotes of their own.
pub fn command(args: &[String], all: bool) -> String {
    let word = |(at, arg): (usize, &String)| match at {
        1.. if arg.contains(' ') => format!("'{arg}'"),
        _ => arg.clone(),
    };
    let joined = args.iter().enumerate().map(word).collect::<Vec<_>>().join(" ");
    let shown = if all { joined } else { ellipsis(&joined, 20) };
    serde_json::Value::String(shown).to_string()
}

/// Text without anything a terminal would obey.
pub fn inert(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// The state as one word; `alive`: the supervisor's lock is held.
pub fn state(container: &Container, alive: bool) -> &'static str {
    match container.state.status {
        RuntimeStatus::Created => "created",
        RuntimeStatus::Running if alive && container.state.restarting => "restarting",
        RuntimeStatus::Running if alive && container.state.paused => "paused",
        RuntimeStatus::Running if alive => "running",
        RuntimeStatus::Running | RuntimeStatus::Exited => "exited",
    }
}

/// The state as a sentence: `Up 2 hours`, `Exited (0) 6 minutes ago`.
pub fn status(container: &Container, alive: bool, now: Timestamp) -> String {
    let run = &container.state;
    let since = |then: Option<Timestamp>| duration(now.as_second() - then.unwrap_or(now).as_second());
    match state(container, alive) {
        "created" => "Created".to_owned(),
        "running" => match run.health.as_ref().map(|health| health.status) {
            None => format!("Up {}", since(run.started)),
            Some(HealthStatus::Starting) => format!("Up {} (health: starting)", since(run.started)),
            Some(HealthStatus::Healthy) => format!("Up {} (healthy)", since(run.started)),
            Some(HealthStatus::Unhealthy) => format!("Up {} (unhealthy)", since(run.started)),
        },
        "paused" => format!("Up {} (Paused)", since(run.started)),
        "restarting" => format!("Restarting ({}) {} ago", run.exit_code, since(run.finished)),
        // Its supervisor died with it: nobody wrote a status or an end.
        _ if run.status == RuntimeStatus::Running => "Exited (255)".to_owned(),
        _ => format!("Exited ({}) {} ago", run.exit_code, since(run.finished)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_dockers() {
        for (seconds, expected) in [
            (-5, "Less than a second"),
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (119, "About a minute"),
            (120, "2 minutes"),
            (3599, "59 minutes"),
            (3600, "About an hour"),
            (5399, "About an hour"),
            (5400, "2 hours"),
            (47 * 3600, "47 hours"),
            (48 * 3600, "2 days"),
            (14 * 86400, "2 weeks"),
            (60 * 86400, "2 months"),
            (730 * 86400, "2 years"),
        ] {
            assert_eq!(duration(seconds), expected, "{seconds}");
        }
    }

    #[test]
    fn sizes_are_dockers() {
        for (bytes, expected) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1kB"),
            (1_500, "1.5kB"),
            (13_256, "13.3kB"),
            (77_900_000, "77.9MB"),
            (192_000_000, "192MB"),
            (1_010_000_000, "1.01GB"),
        ] {
            assert_eq!(size(bytes, 3), expected);
        }
        assert_eq!(size(28_234_567, 4), "28.23MB");
        assert!(size(u64::MAX, 3).ends_with("EB"));
    }

    #[test]
    fn commands_are_quoted_and_cut() {
        let args = ["/bin/sh", "-c", "echo \"a b\" there"].map(str::to_owned);
        assert_eq!(command(&args, false), r#""/bin/sh -c 'echo \"a…""#);
        assert_eq!(command(&args, true), r#""/bin/sh -c 'echo \"a b\" there'""#);
        assert_eq!(inert("a\u{1b}[31m\n"), "a\u{fffd}[31m\u{fffd}");
    }
}
