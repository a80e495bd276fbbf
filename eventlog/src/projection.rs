//! What a projector runs: a read model.

use crate::recorded::{Recorded, RecordedError};
use crate::transient::is_transient;
use async_trait::async_trait;
use sqlx::PgTransaction;
use sqlx::postgres::{PgArguments, Postgres};
use sqlx::query::Query;
use std::error::Error;

/// A read model: a fold over the feed.
#[async_trait]
pub trait Projection: Send + Sync {
    /// Its name, also its checkpoint's.
    fn name(&self) -> &str;

    /// Writes what the events mean, inside the transaction that moves the checkpoint: all of it happens once.
    ///
    /// Events come in order and without gaps. A batch that fails is rolled back and may come again, cut otherwise.
    async fn apply(&self, transaction: &mut PgTransaction<'_>, batch: &[Recorded]) -> Result<(), ProjectionError>;

    /// What [`Projection::apply`] would write, as one statement that selects from `moved` (one row; none if the batch is not ours
    /// to apply), if that is known without a look at the database: one round trip instead of five. None: it is not.
    fn write(&self, _batch: &[Recorded]) -> Option<Query<'static, Postgres, PgArguments>> {
        None
    }

    /// Called after the commit: the place to wake those who wait, and to remember what was written. May be missed in a crash.
    async fn applied(&self, _batch: &[Recorded]) {}

    /// Called when others may have written: what is remembered may be so no longer.
    fn forget(&self) {}
}

/// Why a batch could not be applied.
#[derive(Debug, thiserror::Error)]
pub enum ProjectionError {
    /// The database is away or busy: the batch is tried again. Made from any [`sqlx::Error`]; one that cannot pass by
    /// itself (a violated constraint, a missing table) counts as [`ProjectionError::CannotApply`].
    #[error("the database refused the batch")]
    Database(#[from] sqlx::Error),
    /// Trying again cannot help: the projection stops before this event.
    #[error("the event cannot be applied")]
    CannotApply(#[source] Box<dyn Error + Send + Sync>),
}

impl ProjectionError {
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Database(error) => is_transient(error),
            Self::CannotApply(_) => false,
        }
    }
}

impl From<RecordedError> for ProjectionError {
    fn from(error: RecordedError) -> Self {
        Self::CannotApply(Box::new(error))
    }
}
