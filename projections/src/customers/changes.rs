//! Telling readers who wait what customers have become.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::broadcast;
use uuid::Uuid;

use super::row::CustomerRow;

/// How many batches a waiting reader may be behind before it has to look for itself.
const BATCHES: usize = 64;

/// Of larger batches no rows are kept for readers.
const ROWS: usize = 32;

/// News of applied batches, within this process. Of some there are no rows: whoever waits looks.
#[derive(Debug, Clone)]
pub(super) struct Changes(broadcast::Sender<Option<Arc<Rows>>>);

type Rows = HashMap<Uuid, CustomerRow>;

/// Hears of applied batches.
pub(super) struct Listener(broadcast::Receiver<Option<Arc<Rows>>>);

impl Default for Changes {
    fn default() -> Self {
        Self(broadcast::Sender::new(BATCHES))
    }
}

impl Changes {
    /// Whether the rows of a batch are worth keeping.
    pub(super) fn wants(&self, rows: usize) -> bool {
        rows <= ROWS && self.0.receiver_count() > 0
    }

    pub(super) fn tell(&self, rows: Option<Vec<CustomerRow>>) {
        let rows = rows.map(|rows| Arc::new(rows.into_iter().map(|row| (row.id.0, row)).collect()));
        // Nobody may be waiting.
        let _ = self.0.send(rows);
    }

    pub(super) fn listen(&self) -> Listener {
        Listener(self.0.subscribe())
    }
}

impl Listener {
    /// Returns the customer once it has reached that version; `None` if it may have, and has to be looked for.
    pub(super) async fn reached(&mut self, id: Uuid, version: u64) -> Option<CustomerRow> {
        loop {
            match self.0.recv().await {
                Ok(Some(rows)) => {
                    if let Some(row) = rows.get(&id).filter(|row| row.seen >= version) {
                        return Some(row.clone());
                    }
                }
                Ok(None) | Err(broadcast::error::RecvError::Lagged(_)) => return None,
                Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
            }
        }
    }
}
