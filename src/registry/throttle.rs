//! A bandwidth cap: all transfers of one process share a budget of bytes a second.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The cap; without a rate nothing waits.
#[derive(Debug, Default)]
pub struct Throttle {
    rate: Option<u64>,
    /// When the bytes that were taken so far will have been paid for.
    paid: Mutex<Option<Instant>>,
}

impl Throttle {
    /// A cap of so many bytes a second.
    pub fn new(rate: Option<u64>) -> Self {
        Self { rate: rate.filter(|rate| *rate > 0), paid: Mutex::default() }
    }

    /// Waits until so many bytes more are within the cap.
    pub async fn take(&self, bytes: usize) {
        let Some(rate) = self.rate else { return };
        let cost = Duration::from_secs_f64(bytes as f64 / rate as f64);
        let until = {
            let mut paid = self.paid.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let until = paid.map_or(now, |paid| paid.max(now)) + cost;
            *paid = Some(until);
            until
        };
        tokio::time::sleep_until(until).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn transfers_share_the_cap() {
        let throttle = Throttle::new(Some(1000));
        let begin = Instant::now();
        tokio::join!(throttle.take(500), throttle.take(1500));
        assert_eq!(begin.elapsed(), Duration::from_secs(2));
        Throttle::new(None).take(usize::MAX).await;
        assert_eq!(begin.elapsed(), Duration::from_secs(2));
    }
}
