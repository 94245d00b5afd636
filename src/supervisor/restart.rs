//! When a container that ended is started again: docker's rules, as a state machine without a clock.
//!
//! The pause doubles from 100 ms to a minute, and begins anew after a run of ten seconds. What the user stopped is not
//! started again, whatever the policy.

use std::time::Duration;

use crate::executor::Exit;
use crate::model::RestartPolicy;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_mins(1);

/// A run of this length shows that the container works.
const LONG: Duration = Duration::from_secs(10);

/// What happens after an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    /// It stays ended.
    End,
    /// It is started again after this pause.
    Again(Duration),
}

/// The policy and what it remembers.
#[derive(Debug)]
pub(super) struct Restart {
    policy: RestartPolicy,
    failures: u32,
    pause: Duration,
}

impl Restart {
    pub(super) fn new(policy: RestartPolicy) -> Self {
        Self { policy, failures: 0, pause: Duration::ZERO }
    }

    /// Changes the policy (`update --restart`), if there is a new one; the counts begin anew.
    pub(super) fn set_policy(&mut self, policy: Option<RestartPolicy>) {
        if let Some(policy) = policy {
            *self = Self::new(policy);
        }
    }

    /// Decides after an end: `ran` is how long it ran.
    pub(super) fn after(&mut self, exit: Exit, ran: Duration, stopped_by_user: bool) -> Decision {
        if ran >= LONG {
            self.pause = Duration::ZERO;
        }
        let again = match self.policy {
            RestartPolicy::No => false,
            RestartPolicy::Always | RestartPolicy::UnlessStopped => true,
            RestartPolicy::OnFailure(most) => exit.code != 0 && (most == 0 || self.failures < most),
        };
        if !again || stopped_by_user {
            return Decision::End;
        }
        self.failures = self.failures.saturating_add(1);
        self.pause = if self.pause.is_zero() { FIRST } else { (self.pause * 2).min(LONGEST) };
        Decision::Again(self.pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(1);

    fn exit(code: i32) -> Exit {
        Exit { code, oom_killed: false }
    }

    #[test]
    fn policies_decide_by_status_and_count() {
        for (policy, codes, again) in [
            (RestartPolicy::No, &[1][..], &[false][..]),
            (RestartPolicy::Always, &[0, 1, 0], &[true, true, true]),
            (RestartPolicy::UnlessStopped, &[0], &[true]),
            (RestartPolicy::OnFailure(0), &[1, 1, 0], &[true, true, false]),
            (RestartPolicy::OnFailure(2), &[1, 1, 1], &[true, true, false]),
        ] {
            let mut restart = Restart::new(policy);
            let seen: Vec<_> =
                codes.iter().map(|code| restart.after(exit(*code), SHORT, false) != Decision::End).collect();
            assert_eq!(seen, again, "{policy:?}");
            assert_eq!(Restart::new(policy).after(exit(1), SHORT, true), Decision::End, "{policy:?} stopped");
        }
    }

    #[test]
    fn the_pause_doubles_to_a_minute_and_begins_anew_after_a_long_run() {
        let mut restart = Restart::new(RestartPolicy::Always);
        let mut pauses = Vec::new();
        for _ in 0..12 {
            if let Decision::Again(pause) = restart.after(exit(0), SHORT, false) {
                pauses.push(pause.as_millis());
            }
        }
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 51_200, 60_000, 60_000]);
        assert_eq!(restart.after(exit(0), LONG, false), Decision::Again(FIRST));
    }
}
