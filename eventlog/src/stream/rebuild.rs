//! Making the stream anew, for a new epoch.

use super::{StreamError, context, create, open};
use crate::feed::Feed;
use async_nats::Client;
use sqlx::PgPool;
use uuid::Uuid;

/// Throws the stream away and makes an empty one for a new epoch, which the relay fills from position 1. Returns the
/// epoch.
///
/// For a stream that is ahead of the database or foreign to it: JetStream cannot cut a tail off. Positions and
/// checkpoints stay, since PostgreSQL's history is the one that holds; readers elsewhere start again. Safe to repeat.
pub async fn rebuild(pool: &PgPool, nats: &Client, feed: &Feed) -> Result<Uuid, StreamError> {
    // The epoch first: from here on no message of the old stream is taken, and none of its publishers goes on.
    let epoch = Uuid::new_v4();
    let mut transaction = pool.begin().await?;
    sqlx::query("UPDATE feed SET epoch = $1").bind(epoch).execute(&mut *transaction).await?;
    sqlx::query("UPDATE checkpoints SET epoch = $1").bind(epoch).execute(&mut *transaction).await?;
    transaction.commit().await?;
    match open(nats, feed).await {
        Ok(_) => {
            context(nats).delete_stream(&feed.stream).await.map_err(StreamError::nats)?;
        }
        Err(StreamError::NotFound(_)) => {}
        Err(error) => return Err(error),
    }
    create(nats, feed, epoch).await?;
    Ok(epoch)
}
