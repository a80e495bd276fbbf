//! Keeping the read model: the live generation's projector, and the next one after a rebuild.

use std::sync::Arc;
use std::time::Duration;

use async_nats::Client;
use tandem_eventlog::{Feed, Projector, ProjectorError, chain, checkpoint};
use tokio_util::sync::CancellationToken;

use super::fold::Fold;
use super::{Customers, NAME};

/// How often a projector that stopped looks whether a rebuild has mended what stopped it.
const LOOK: Duration = Duration::from_millis(500);

impl Customers {
    /// Keeps the live generation until told to stop; after a rebuild goes on with the new one. Many processes may run
    /// it: each batch is applied by one of them. When an event cannot be applied nothing is skipped: it waits for a rebuild,
    /// which mends that.
    ///
    /// # Errors
    /// It was told to stop while it waited so.
    pub async fn run(&self, nats: Client, feed: Feed, shutdown: CancellationToken) -> Result<(), ProjectorError> {
        loop {
            let Some(generation) = self.generation(&shutdown).await else { return Ok(()) };
            let fold = Fold::new(generation, Some(self.changes.clone()));
            let projector = Projector::new(&self.connections, nats.clone(), feed.clone(), Arc::new(fold));
            let projector = projector.generation(generation);
            let mut status = projector.status();
            let relay_status = async {
                loop {
                    self.status.send_replace(status.borrow_and_update().clone());
                    if status.changed().await.is_err() {
                        std::future::pending::<()>().await;
                    }
                }
            };
            let ended = tokio::select! {
                ended = projector.run(shutdown.clone()) => ended,
                () = relay_status => return Ok(()),
            };
            match ended {
                Err(ProjectorError::Superseded { .. }) => {
                    tracing::info!(projection = NAME, generation, "a rebuilt generation took over");
                }
                Err(stopped) => {
                    self.status.send_modify(|status| status.stopped = Some(chain(&stopped)));
                    if !self.is_rebuilt(generation, &shutdown).await {
                        return Err(stopped);
                    }
                    tracing::info!(
                        projection = NAME,
                        generation,
                        "a rebuilt generation takes over from the stopped one"
                    );
                }
                Ok(()) => return Ok(()),
            }
        }
    }

    /// Waits until another generation is live; false when told to stop.
    async fn is_rebuilt(&self, stopped: u32, shutdown: &CancellationToken) -> bool {
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = shutdown.cancelled() => return false,
            }
            // A database that does not answer is asked again.
            if let Ok(Some(live)) = checkpoint::live(self.connections.pool(), NAME).await
                && live != stopped
            {
                return true;
            }
        }
    }

    /// The live generation, asked for until the database answers; `None` when told to stop.
    async fn generation(&self, shutdown: &CancellationToken) -> Option<u32> {
        loop {
            match checkpoint::live(self.connections.pool(), NAME).await {
                Ok(generation) => return Some(generation.unwrap_or(1)),
                Err(error) => {
                    let reason = chain(&error);
                    self.status.send_modify(|status| status.failing = Some(reason));
                }
            }
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(250)) => {}
                () = shutdown.cancelled() => return None,
            }
        }
    }
}
