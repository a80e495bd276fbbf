//! Telling readers who wait that customers have changed.

use std::collections::HashMap;
use std::sync::Arc;

use tandem_eventlog::Recorded;
use tokio::sync::broadcast;
use uuid::Uuid;

/// How many batches a waiting reader may be behind before it has to look for itself.
const BATCHES: usize = 64;

/// News of applied batches, within this process.
#[derive(Debug, Clone)]
pub(super) struct Changes(broadcast::Sender<Arc<HashMap<Uuid, u64>>>);

/// Hears of applied batches.
pub(super) struct Listener(broadcast::Receiver<Arc<HashMap<Uuid, u64>>>);

impl Default for Changes {
    fn default() -> Self {
        Self(broadcast::Sender::new(BATCHES))
    }
}

impl Changes {
    pub(super) fn tell(&self, batch: &[Recorded]) {
        if self.0.receiver_count() > 0 {
            let versions = batch.iter().filter_map(|event| Some((event.aggregate_id.parse().ok()?, event.version)));
            // The last receiver may have gone meanwhile: then nobody waits.
            let _ = self.0.send(Arc::new(versions.collect()));
        }
    }

    pub(super) fn listen(&self) -> Listener {
        Listener(self.0.subscribe())
    }
}

impl Listener {
    /// Returns once this customer may have reached that version.
    pub(super) async fn reached(&mut self, id: Uuid, version: u64) {
        loop {
            match self.0.recv().await {
                Ok(versions) if versions.get(&id).is_some_and(|at| *at >= version) => return,
                Ok(_) => {}
                Err(broadcast::error::RecvError::Lagged(_)) => return,
                Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
            }
        }
    }
}
