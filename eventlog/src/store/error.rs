//! Why a command was not executed, or an aggregate not loaded.

use crate::recorded::RecordedError;
use crate::transient::is_of_the_data;
use cqrs_es::AggregateError;
use std::error::Error;

type BoxError = Box<dyn Error + Send + Sync>;

/// Why an aggregate could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database is away or busy: try again later.
    #[error("the event log is unavailable")]
    Unavailable(#[source] sqlx::Error),
    /// It has fewer events than were asked for.
    #[error("the aggregate is only at version {actual}")]
    NoSuchVersion {
        /// The version it is at.
        actual: u64,
    },
    /// Stored events cannot be read: a defect, or another version of the program wrote them. Repeating cannot help.
    #[error("stored events cannot be read")]
    Corrupt(#[source] BoxError),
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        if is_of_the_data(&error) { Self::Corrupt(error.into()) } else { Self::Unavailable(error) }
    }
}

impl From<RecordedError> for StoreError {
    fn from(error: RecordedError) -> Self {
        Self::Corrupt(error.into())
    }
}

/// Why a command was not executed.
#[derive(Debug, thiserror::Error)]
pub enum ExecuteError<E: Error + 'static> {
    /// The aggregate said no: tell whoever asked.
    #[error("the command was refused")]
    Refused(#[source] E),
    /// The aggregate is not at the expected version: read it again and decide anew.
    #[error("the aggregate is at version {actual}")]
    VersionMismatch {
        /// The version it is at.
        actual: u64,
    },
    /// The key belongs to another request: a client's mistake.
    #[error("the idempotency key was used for another request")]
    KeyReused,
    /// Others appended at the same time. From [`crate::Store::append_in`]: roll back and begin again. From
    /// [`crate::Store::execute`]: it was tried many times; try again later.
    #[error("the aggregate is changed by others at the same time")]
    Conflict,
    /// The database is away or busy: try again later, with the same key. Without a key, look first whether the command
    /// took effect: its answer may have been lost.
    #[error("the event log is unavailable")]
    Unavailable(#[source] sqlx::Error),
    /// Stored events cannot be read, or the new ones cannot be stored: a defect; repeating cannot help.
    #[error("the events cannot be read or stored")]
    Corrupt(#[source] BoxError),
}

impl<E: Error + Send + Sync + 'static> From<StoreError> for ExecuteError<E> {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(error) => Self::Unavailable(error),
            StoreError::Corrupt(source) => Self::Corrupt(source),
            StoreError::NoSuchVersion { .. } => Self::Corrupt(error.into()),
        }
    }
}

/// cqrs-es boxes our database errors without a type: this finds them again.
pub(super) fn execute_error<E: Error + Send + Sync + 'static>(error: AggregateError<E>) -> ExecuteError<E> {
    match error {
        AggregateError::UserError(refusal) => ExecuteError::Refused(refusal),
        AggregateError::AggregateConflict => ExecuteError::Conflict,
        AggregateError::DeserializationError(source) => ExecuteError::Corrupt(source),
        AggregateError::DatabaseConnectionError(source) | AggregateError::UnexpectedError(source) => {
            match source.downcast::<sqlx::Error>() {
                Ok(error) => database_error(*error),
                Err(source) => ExecuteError::Corrupt(source),
            }
        }
    }
}

/// What a database error means for a command.
pub(super) fn database_error<E: Error + 'static>(error: sqlx::Error) -> ExecuteError<E> {
    match &error {
        // Another append took this version, or another request stored this key: whoever looks again sees it.
        sqlx::Error::Database(database) if database.is_unique_violation() => ExecuteError::Conflict,
        _ if is_of_the_data(&error) => ExecuteError::Corrupt(error.into()),
        _ => ExecuteError::Unavailable(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sqlx::PgPool;

    /// Fails if what is mended elsewhere, a right that is not there in a failover, is taken for events that cannot be read: each
    /// customer that is looked at meanwhile would wait for a person.
    #[tokio::test]
    async fn a_right_or_a_table_that_is_not_there_says_nothing_of_what_is_stored() -> Result<(), sqlx::Error> {
        let pool = PgPool::connect(&tandem_local::test::database().await.url).await?;
        for (statement, corrupt) in [
            ("SELECT FROM no_such_table", false),
            ("GRANT no_such_role TO CURRENT_USER", false),
            ("SELECT 'x'::jsonb", true),
            ("SELECT repeat('x', 10)::char(5)::integer", true),
        ] {
            let error = sqlx::raw_sql(statement).execute(&pool).await.expect_err(statement);
            let is_corrupt = matches!(StoreError::from(error), StoreError::Corrupt(_));
            assert_eq!(is_corrupt, corrupt, "{statement}");
        }
        Ok(())
    }
}
