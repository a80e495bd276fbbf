//! One customer, at a version at least.

use std::time::Duration;

use tandem_domain::CustomerId;
use tandem_eventlog::history_after;
use tokio::time::{Instant, sleep, timeout_at};

use super::row::{COLUMNS, CustomerRow};
use super::{Customers, NAME};

/// The projector may run in another process, whose news do not reach us.
const LOOK: Duration = Duration::from_millis(50);

/// Why a customer could not be shown.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The database is away: try again later.
    #[error("the read model is unavailable")]
    Unavailable(#[from] sqlx::Error),
    /// The read model has not come so far in time: try again later.
    #[error("the read model {NAME} is behind")]
    Behind,
}

impl Customers {
    /// The customer once it is at that version or a later one; `None` if there is no such customer.
    ///
    /// One that exists, but that the read model has not seen yet, is waited for too: whoever has just created it finds
    /// it. Waits for `patience` at most.
    ///
    /// # Errors
    /// [`ReadError`] says what to do next.
    pub async fn get(
        &self,
        id: CustomerId,
        min_version: u64,
        patience: Duration,
    ) -> Result<Option<CustomerRow>, ReadError> {
        let deadline = Instant::now() + patience;
        // Listening before looking: news in between would be missed.
        let mut news = self.changes.listen();
        let mut exists = false;
        loop {
            let row = self.look(id).await?;
            exists = exists || row.is_some();
            if let Some(row) = row.filter(|row| row.seen >= min_version) {
                return Ok(Some(row));
            }
            if !exists {
                if history_after(self.connections.pool(), "customer", &id.to_string(), 0, 1).await?.is_empty() {
                    return Ok(None);
                }
                exists = true;
            }
            let waited = timeout_at(deadline, async {
                tokio::select! {
                    row = news.reached(id.0, min_version) => row,
                    () = sleep(LOOK) => None,
                }
            });
            match waited.await {
                Ok(Some(row)) => return Ok(Some(row)),
                Ok(None) => {}
                Err(_) => return Err(ReadError::Behind),
            }
        }
    }

    async fn look(&self, id: CustomerId) -> Result<Option<CustomerRow>, sqlx::Error> {
        sqlx::query_as(&format!("SELECT {COLUMNS} FROM customers WHERE id = $1"))
            .bind(id.0)
            .fetch_optional(self.connections.pool())
            .await
    }
}
