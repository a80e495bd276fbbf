//! Tests alone: what is asked at an interval, or for each batch, reads as much of a large table as of a small one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tandem_domain::CustomerId;
use uuid::Uuid;

use crate::fixtures::{stripe, tables};
use crate::link::{self, Terms};
use crate::parked::{self, Unread};
use crate::pause::{self, Direction};
use crate::{GuardConfig, backlog, due, guard, inbox, linked, retention, status};

/// Rows of each large table: many times what a statement may read.
const MANY: i32 = 40_000;

/// Most rows that one of them may read.
const MOST: i64 = 10_000;

/// One connection, whose statistics are told at once.
async fn filled() -> anyhow::Result<PgPool> {
    let pool = tables().await?;
    let one = PgPoolOptions::new().max_connections(1).connect_with((*pool.connect_options()).clone()).await?;
    for fill in [
        "INSERT INTO links (gateway, customer_id, remote_id, due_seq, bulk)
             SELECT 'stripe', gen_random_uuid(), 'cus_' || n, 1, n % 2 = 0 FROM generate_series(1, $1) AS n",
        // Of another gateway: at rest.
        "INSERT INTO links (gateway, customer_id, remote_id, done_seq)
             SELECT 'other', gen_random_uuid(), 'cus_' || n, 0 FROM generate_series(1, $1) AS n",
        "INSERT INTO inbox (gateway, event_id, change, state, link_id)
             SELECT 'stripe', 'evt_' || id, '{}', 'done', id FROM links LIMIT $1",
        "INSERT INTO intents (key, link_id, write, body, against, edited_at, created_at, state)
             SELECT id::text, id, '{}', '', '{}', '{}', now(), 'executed' FROM links LIMIT $1",
        "INSERT INTO guarded (gateway, direction, what, customer_id)
             SELECT 'stripe', 'outbound', 'email', customer_id FROM links WHERE gateway = 'stripe' LIMIT $1",
        "INSERT INTO parked (gateway, link_id, kind, reason, state, closed_at)
             SELECT 'stripe', id, 'rejected', 'no', 'retried', now() FROM links LIMIT $1",
    ] {
        sqlx::query(fill).bind(MANY).execute(&one).await?;
    }
    sqlx::query("ANALYZE").execute(&one).await?;
    Ok(one)
}

/// Rows that were read so far: by scans of whole tables, and by indexes.
async fn read(pool: &PgPool) -> anyhow::Result<(i64, i64)> {
    sqlx::query("SELECT pg_stat_force_next_flush()").execute(pool).await?;
    let read = "SELECT COALESCE(sum(seq_tup_read), 0)::bigint, COALESCE(sum(idx_tup_fetch), 0)::bigint FROM pg_stat_user_tables
                WHERE relname IN ('links', 'inbox', 'intents', 'guarded', 'parked')";
    Ok(sqlx::query_as(read).fetch_one(pool).await?)
}

macro_rules! assert_bounded {
    ($pool:expr, $most:expr, $statement:expr) => {{
        let before = read($pool).await?;
        let answer = $statement;
        let after = read($pool).await?;
        let (scanned, fetched) = (after.0 - before.0, after.1 - before.1);
        assert!(
            scanned == 0 && fetched < $most,
            "{}: {scanned} rows scanned, {fetched} by an index",
            stringify!($statement)
        );
        answer
    }};
}

/// Fails for a statement that counts all, or that no index serves.
#[tokio::test]
async fn no_statement_of_many_reads_a_large_table() -> anyhow::Result<()> {
    let pool = filled().await?;
    let (gateway, guarded) = (stripe(), GuardConfig::default());
    let terms = Terms { holder: 1, duration: Duration::from_secs(60), most: 16, most_in_bulk: 12 };

    let leased = assert_bounded!(&pool, MOST, link::lease(&pool, &gateway, terms).await?);
    assert_eq!(leased.len(), 16);
    let changed = BTreeMap::from([(CustomerId(Uuid::now_v7()), 1)]);
    assert_bounded!(&pool, MOST, due::lease_changed(&pool, &gateway, &changed, terms).await?);
    assert_bounded!(&pool, MOST, link::free_orphans(&pool, 1, &[]).await?);
    assert_bounded!(&pool, MOST, inbox::route(&pool, &gateway).await?);
    assert_bounded!(&pool, MOST, pause::go_on(&pool, &gateway).await?);
    assert_bounded!(&pool, MOST, status::status(&pool, &["stripe", "other"]).await?);
    assert_bounded!(&pool, MOST, status::known(&pool).await?);
    assert_bounded!(&pool, MOST, parked::list(&pool, Some("stripe"), 0, 100).await?);
    assert_bounded!(&pool, MOST, parked::retry_unread(&pool, Unread::ByOtherVersions).await?);
    assert_bounded!(&pool, MOST, retention::forget_done(&pool, 35).await?);
    assert_bounded!(&pool, MOST, guard::forget(&pool, &gateway, guarded).await?);
    // A gateway that was away for a while: all wait.
    sqlx::query("UPDATE links SET not_before = now() + interval '1 hour' WHERE gateway = 'stripe'")
        .execute(&pool)
        .await?;
    assert_bounded!(&pool, MOST, link::lease(&pool, &gateway, terms).await?);
    // These walk over all, some at a time: they read each a few times, and not all of them each time.
    assert_bounded!(&pool, 5 * i64::from(MANY), link::hurry(&pool, &gateway).await?);
    assert_bounded!(&pool, 5 * i64::from(MANY), backlog::count(&pool, &gateway).await?);
    let changed: BTreeSet<guard::Changed> =
        (0..500).map(|_| (Direction::Outbound, "email".to_owned(), CustomerId(Uuid::now_v7()))).collect();
    let linked = assert_bounded!(&pool, MOST, {
        let mut tx = pool.begin().await?;
        guard::count(&mut tx, &gateway, &changed, guarded).await?;
        let linked = linked::linked(&mut tx, &gateway).await?;
        tx.commit().await?;
        linked
    });
    assert_eq!(linked, Some(i64::from(MANY) + 1), "and one whose change was leased");
    Ok(())
}
