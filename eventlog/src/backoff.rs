//! Waiting between tries of something that fails.

use std::time::Duration;

/// The longest wait between two tries.
const LONGEST: Duration = Duration::from_secs(5);

/// Waits that double up to five seconds, with jitter, so that processes do not come back all at once.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// It works again: the next wait is short.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    pub(crate) async fn wait(&mut self) {
        let longest = Duration::from_millis(50).saturating_mul(1 << self.failures.min(10)).min(LONGEST);
        self.failures += 1;
        tokio::time::sleep(longest.mul_f64(rand::random_range(0.5..1.0))).await;
    }
}
