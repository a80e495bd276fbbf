//! Waiting for a condition by looking again and again.

use std::time::Duration;

/// Looks at what is waited for, with pauses between them: short at first, longer for what takes long.
#[derive(Debug)]
pub struct Looks(Duration);

impl Looks {
    /// Waits, from 5 ms up to 100 ms.
    pub async fn pause(&mut self) {
        tokio::time::sleep(self.0).await;
        self.0 = (self.0 * 6 / 5).min(Duration::from_millis(100));
    }
}

impl Default for Looks {
    fn default() -> Self {
        Self(Duration::from_millis(5))
    }
}
