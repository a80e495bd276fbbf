//! Forgetting what is done, once nothing can refer to it any more.

use sqlx::PgPool;

/// Rows that one transaction forgets.
const BATCH: i64 = 1000;

/// In this order: an inbox row goes after what was parked for its sake.
const DONE: [&str; 3] = [
    // A second copy that a person let be stays one.
    "DELETE FROM parked WHERE id = ANY(ARRAY(
         SELECT id FROM parked WHERE state <> 'open' AND closed_at < statement_timestamp() - make_interval(days => $1)
             AND NOT (kind = 'duplicate' AND state = 'dismissed')
         ORDER BY closed_at LIMIT $2 FOR UPDATE SKIP LOCKED))",
    // By its event's id a change is known as one that has come before.
    "DELETE FROM inbox WHERE id = ANY(ARRAY(
         SELECT id FROM inbox WHERE state = 'done' AND received_at < statement_timestamp() - make_interval(days => $1)
             AND NOT EXISTS (SELECT FROM parked WHERE inbox_id = inbox.id)
         ORDER BY received_at LIMIT $2 FOR UPDATE SKIP LOCKED))",
    // By its key an echo is known as ours: also one that waits for a direction to be resumed or for a person, or was not routed before the
    // service was stopped.
    "DELETE FROM intents WHERE key = ANY(ARRAY(
         SELECT key FROM intents WHERE state <> 'open' AND created_at < statement_timestamp() - make_interval(days => $1)
             AND NOT EXISTS (SELECT FROM inbox WHERE link_id = intents.link_id AND inbox.state = 'waiting')
             AND NOT EXISTS (SELECT FROM inbox WHERE link_id = intents.link_id AND inbox.state = 'held')
             AND NOT EXISTS (SELECT FROM inbox JOIN links USING (gateway)
                             WHERE links.id = intents.link_id AND inbox.state = 'new'
                                 AND received_at < statement_timestamp() - interval '1 day')
         ORDER BY created_at LIMIT $2 FOR UPDATE SKIP LOCKED))",
];

/// Forgets what has been done for so many days: changes that were taken in, calls that were closed, what was parked and is
/// no more. Returns how much that was. Links stay for ever.
pub(crate) async fn forget_done(pool: &PgPool, days: u32) -> Result<u64, sqlx::Error> {
    let mut forgotten = 0;
    for batch in DONE {
        loop {
            let query = sqlx::query(batch).bind(i32::try_from(days).unwrap_or(i32::MAX)).bind(BATCH);
            let rows = query.execute(pool).await?.rows_affected();
            forgotten += rows;
            if rows < BATCH.unsigned_abs() {
                break;
            }
        }
    }
    Ok(forgotten)
}
