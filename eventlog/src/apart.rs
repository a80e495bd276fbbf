//! Work that its caller's end does not cancel.

use std::future::Future;
use std::panic::resume_unwind;

/// Runs it in a task of its own, and waits for what comes of it: a caller that is gone cancels nothing. `None` if the runtime
/// shuts down.
///
/// # Panics
/// When it does.
pub async fn apart<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> Option<T> {
    match tokio::spawn(work).await {
        Ok(done) => Some(done),
        Err(failed) => match failed.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            Err(_) => None,
        },
    }
}
