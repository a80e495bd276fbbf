//! A timer: how long things last, apart from what the clock says.

use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::time::Instant;

/// Measures and waits. A model's stands still between its steps.
pub(crate) trait Timer: Send + Sync {
    /// How long it has run. It never goes back.
    fn reading(&self) -> Duration;

    /// Ends after that long.
    fn wait(&self, duration: Duration) -> BoxFuture<'static, ()>;
}

/// Real time.
pub(crate) struct Stopwatch(Instant);

impl Stopwatch {
    pub fn start() -> Self {
        Self(Instant::now())
    }
}

impl Timer for Stopwatch {
    fn reading(&self) -> Duration {
        self.0.elapsed()
    }

    fn wait(&self, duration: Duration) -> BoxFuture<'static, ()> {
        tokio::time::sleep(duration).boxed()
    }
}
