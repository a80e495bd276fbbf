//! Making the stream anew, for a new epoch.

use super::{StreamError, context, create, open};
use crate::feed::Feed;
use crate::zoo::plays;
use async_nats::Client;
use sqlx::PgPool;
use uuid::Uuid;

/// What [`rebuild`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rebuilt {
    /// The new history's.
    pub epoch: Uuid,
    /// The projections that may show what no event says, by their names.
    pub unsure: Vec<Unsure>,
}

/// A projection that may have applied a message that somebody else published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsure {
    /// The projection.
    pub projection: String,
    /// It certainly has, or has applied what a lost history told: it was beyond the database's last position. Otherwise it has read
    /// with a version that did not check.
    pub was_beyond: bool,
}

/// Throws the stream away and makes an empty one for a new epoch with a new key, which the relay fills from position 1.
///
/// For a stream that is ahead of the database or foreign to it: JetStream cannot cut a tail off. Positions and
/// checkpoints stay, since PostgreSQL's history is the one that holds; readers elsewhere start again. A checkpoint that is
/// beyond its last position comes back to it, or the events that get those positions would be passed over. What such a
/// projection has applied stays: a person has to build it anew. Safe to repeat.
pub async fn rebuild(pool: &PgPool, nats: &Client, feed: &Feed) -> Result<Rebuilt, StreamError> {
    // The epoch first: from here on no message of the old stream is taken, and none of its publishers goes on.
    let epoch = Uuid::new_v4();
    let mut transaction = pool.begin().await?;
    sqlx::query("UPDATE feed SET epoch = $1, mac_key = DEFAULT, unsigned_until = 0")
        .bind(epoch)
        .execute(&mut *transaction)
        .await?;
    let unsure = sqlx::query_as(
        "SELECT name, position > (SELECT last_position FROM feed) FROM checkpoints
         WHERE live AND (NOT proved OR position > (SELECT last_position FROM feed)) ORDER BY name FOR UPDATE",
    );
    let unsure: Vec<(String, bool)> = unsure.fetch_all(&mut *transaction).await?;
    if !plays("rebuild-keeps-checkpoints") {
        sqlx::query(
            "UPDATE checkpoints SET position = feed.last_position, proved = false FROM feed
             WHERE position > feed.last_position",
        )
        .execute(&mut *transaction)
        .await?;
    }
    sqlx::query("UPDATE checkpoints SET epoch = $1").bind(epoch).execute(&mut *transaction).await?;
    transaction.commit().await?;
    let unsure = unsure.into_iter().map(|(projection, was_beyond)| Unsure { projection, was_beyond }).collect();
    match open(nats, feed).await {
        Ok(_) => {
            context(nats).delete_stream(&feed.stream).await.map_err(StreamError::nats)?;
        }
        Err(StreamError::NotFound(_)) => {}
        Err(error) => return Err(error),
    }
    create(nats, feed, epoch).await?;
    Ok(Rebuilt { epoch, unsure })
}
