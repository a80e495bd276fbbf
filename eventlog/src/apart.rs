//! Work that its caller's end does not cancel, and the process's end waits for.

use std::future::Future;
use std::panic::resume_unwind;

use tokio_util::task::TaskTracker;

/// Tasks apart from their callers. Cheap to clone; clones know of the same tasks.
#[derive(Debug, Clone, Default)]
pub struct Apart(TaskTracker);

impl Apart {
    /// Runs it in a task of its own, and waits for what comes of it: a caller that is gone cancels nothing. `None` if the runtime
    /// shuts down.
    ///
    /// # Panics
    /// When it does.
    pub async fn run<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> Option<T> {
        match self.0.spawn(work).await {
            Ok(done) => Some(done),
            Err(failed) => match failed.try_into_panic() {
                Ok(panic) => resume_unwind(panic),
                Err(_) => None,
            },
        }
    }

    /// How many tasks have not ended.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Waits until all tasks have ended, those without a caller, too. To be called when no more are begun, and before the
    /// connections that they use are closed.
    pub async fn ended(&self) {
        self.0.close();
        self.0.wait().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use tokio::sync::oneshot;

    #[tokio::test]
    async fn what_has_lost_its_caller_is_waited_for() {
        let apart = Apart::default();
        let (release, released) = oneshot::channel::<()>();
        let mut calling = Box::pin(apart.run(async { released.await.is_ok() }));
        assert!(calling.as_mut().now_or_never().is_none());
        drop(calling);
        assert_eq!(apart.count(), 1);

        let mut ended = Box::pin(apart.ended());
        assert!(ended.as_mut().now_or_never().is_none());
        release.send(()).unwrap();
        ended.await;
        assert_eq!(apart.count(), 0);
    }
}
