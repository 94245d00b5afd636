//! Whether a container does its work: docker's rules, as a state machine without a clock.
//!
//! A success makes it healthy. Failures count when the start period is over, or when it was healthy before; so many of them
//! in a row make it unhealthy.

use std::time::Duration;

use crate::model::{ContainerConfig, Health, HealthProbe, HealthStatus, Healthcheck};

const INTERVAL: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(30);
const START_INTERVAL: Duration = Duration::from_secs(5);
const RETRIES: u32 = 3;

/// How many checks are kept.
const KEPT: usize = 5;

fn or(nanoseconds: u64, default: Duration) -> Duration {
    if nanoseconds == 0 { default } else { Duration::from_nanos(nanoseconds) }
}

/// The command of a container's check; `None` when there is none.
pub(super) fn command(config: &ContainerConfig) -> Option<Vec<String>> {
    let (kind, rest) = config.healthcheck.as_ref()?.test.split_first()?;
    match kind.as_str() {
        "CMD" if !rest.is_empty() => Some(rest.to_vec()),
        "CMD-SHELL" => {
            let usual = || vec!["/bin/sh".to_owned(), "-c".to_owned()];
            let mut words = if config.shell.is_empty() { usual() } else { config.shell.clone() };
            words.push(rest.first()?.clone());
            Some(words)
        }
        _ => None,
    }
}

/// How long one check may take.
pub(super) fn timeout(check: &Healthcheck) -> Duration {
    or(check.timeout, TIMEOUT)
}

/// How long to wait for the next check, `ran` after the start.
pub(super) fn pause(check: &Healthcheck, health: &Health, ran: Duration) -> Duration {
    let starting = health.status == HealthStatus::Starting && ran < Duration::from_nanos(check.start_period);
    if starting { or(check.start_interval, START_INTERVAL) } else { or(check.interval, INTERVAL) }
}

/// Takes in what a check found, `ran` after the start.
pub(super) fn note(check: &Healthcheck, health: &mut Health, probe: HealthProbe, ran: Duration) {
    let excused = health.status == HealthStatus::Starting && ran < Duration::from_nanos(check.start_period);
    if probe.exit_code == 0 {
        health.failing_streak = 0;
        health.status = HealthStatus::Healthy;
    } else if !excused {
        health.failing_streak = health.failing_streak.saturating_add(1);
        let most = if check.retries == 0 { RETRIES } else { check.retries };
        if health.failing_streak >= most {
            health.status = HealthStatus::Unhealthy;
        }
    }
    health.log.push(probe);
    let surplus = health.log.len().saturating_sub(KEPT);
    health.log.drain(..surplus);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::HealthStatus::{Healthy, Starting, Unhealthy};
    use crate::model::Timestamp;

    const LATE: Duration = Duration::from_secs(100);

    fn probe(exit_code: i32) -> HealthProbe {
        let at = Timestamp::UNIX_EPOCH;
        HealthProbe { start: at, end: at, exit_code, output: String::new() }
    }

    #[test]
    fn failures_in_a_row_make_it_unhealthy_and_one_success_heals() {
        let check = Healthcheck { retries: 2, ..Healthcheck::default() };
        let mut health = Health::default();
        let mut seen = Vec::new();
        for code in [1, 0, 1, 1, 1, 0, -1] {
            note(&check, &mut health, probe(code), LATE);
            seen.push((health.status, health.failing_streak));
        }
        assert_eq!(
            seen,
            [
                (Starting, 1),
                (Healthy, 0),
                (Healthy, 1),
                (Unhealthy, 2),
                (Unhealthy, 3),
                (Healthy, 0),
                (Healthy, 1)
            ]
        );
        assert_eq!(health.log.len(), KEPT);
    }

    #[test]
    fn the_start_period_excuses_until_the_first_success() {
        let check = Healthcheck { start_period: 10_000_000_000, retries: 1, ..Healthcheck::default() };
        let mut health = Health::default();
        let early = Duration::from_secs(1);
        note(&check, &mut health, probe(1), early);
        assert_eq!((health.status, health.failing_streak), (HealthStatus::Starting, 0));
        assert_eq!(pause(&check, &health, early), START_INTERVAL);
        note(&check, &mut health, probe(0), early);
        assert_eq!(pause(&check, &health, early), INTERVAL);
        note(&check, &mut health, probe(1), early);
        assert_eq!(health.status, HealthStatus::Unhealthy);
    }

    #[test]
    fn commands_are_words_or_a_line() {
        let test = |words: &[&str]| {
            let test = words.iter().map(|&word| word.to_owned()).collect();
            let healthcheck = Some(Healthcheck { test, ..Healthcheck::default() });
            command(&ContainerConfig { healthcheck, ..ContainerConfig::default() })
        };
        assert_eq!(test(&["CMD", "a", "b"]).unwrap(), ["a", "b"]);
        assert_eq!(test(&["CMD-SHELL", "a b"]).unwrap(), ["/bin/sh", "-c", "a b"]);
        let check = Healthcheck { test: vec!["CMD-SHELL".into(), "x y".into()], ..Healthcheck::default() };
        let shell = vec!["/bin/bash".into(), "-ec".into()];
        let config = ContainerConfig { healthcheck: Some(check), shell, ..ContainerConfig::default() };
        assert_eq!(command(&config).unwrap(), ["/bin/bash", "-ec", "x y"]);
        for none in [&[][..], &["NONE"], &["CMD"], &["CMD-SHELL"], &["OTHER", "x"]] {
            assert_eq!(test(none), None, "{none:?}");
        }
    }
}
