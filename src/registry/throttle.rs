//! A bandwidth cap: all transfers of one process share a budget of bytes a second.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The cap; without a rate nothing waits.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    rate: Option<u64>,
    /// When the bytes that were taken so far will have been paid for.
    paid: Mutex<Option<Instant>>,
}

impl Throttle {
    /// A cap of so many bytes a second.
    pub(super) fn new(rate: Option<u64>) -> Self {
        Self { rate: rate.filter(|rate| *rate > 0), paid: Mutex::default() }
    }

    /// Waits until so many bytes more are within the cap.
    pub(super) async fn take(&self, bytes: usize) {
        if let Some(until) = self.reserve(bytes, Instant::now()) {
            tokio::time::sleep_until(until.into()).await;
        }
    }

    /// When so many bytes more are within the cap; from now on they are taken.
    fn reserve(&self, bytes: usize, now: Instant) -> Option<Instant> {
        let nanoseconds = (bytes as u128 * 1_000_000_000) / u128::from(self.rate?);
        let cost = Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX));
        let mut paid = self.paid.lock().unwrap_or_else(PoisonError::into_inner);
        let until = paid.map_or(now, |paid| paid.max(now)) + cost;
        *paid = Some(until);
        Some(until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transfers_share_the_cap() {
        let (throttle, now) = (Throttle::new(Some(1000)), Instant::now());
        let after = |millis| Some(now + Duration::from_millis(millis));
        assert_eq!(throttle.reserve(500, now), after(500));
        assert_eq!(throttle.reserve(1500, now), after(2000));
        // What was not used is not saved up.
        assert_eq!(throttle.reserve(100, now + Duration::from_secs(9)), after(9100));
        assert_eq!(Throttle::new(None).reserve(usize::MAX, now), None);
    }
}
