//! Not waiting for an answer that never comes: of a server whose host has vanished nothing is heard, not even its end.

use std::future::Future;
use std::io;
use std::time::Duration;
use tokio::time::timeout;

/// How long the database may take for one of the small statements that relay and readers wait for.
const LONGEST: Duration = Duration::from_secs(10);

/// What the database answers; after ten seconds, that the connection is lost.
pub(crate) async fn answer<T>(statement: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
    let answered = timeout(LONGEST, statement).await;
    answered.unwrap_or_else(|_| Err(sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, "no answer"))))
}
