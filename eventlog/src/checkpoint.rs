//! How far each projection has come, and which of its generations readers see.

use crate::database::{signed, unsigned};
use crate::zoo::plays;
use sqlx::postgres::{PgArguments, Postgres};
use sqlx::query::Query;
use sqlx::{Arguments, Execute, PgConnection, PgExecutor, PgPool};
use std::time::Duration;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

/// The generation of a projection that readers should read; `None` if it was never opened.
pub async fn live(database: impl PgExecutor<'_>, projection: &str) -> Result<Option<u32>, sqlx::Error> {
    let generation: Option<i32> = sqlx::query_scalar("SELECT generation FROM checkpoints WHERE name = $1 AND live")
        .bind(projection)
        .fetch_optional(database)
        .await?;
    Ok(generation.and_then(|generation| u32::try_from(generation).ok()))
}

/// Makes a generation the one that readers see, and forgets the others: their projectors stop at their next step.
///
/// Run it in the transaction that swaps the tables.
pub async fn promote(connection: &mut PgConnection, projection: &str, generation: u32) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM checkpoints WHERE name = $1 AND generation <> $2")
        .bind(projection)
        .bind(column(generation))
        .execute(&mut *connection)
        .await?;
    let promoted = sqlx::query("UPDATE checkpoints SET live = true WHERE name = $1 AND generation = $2")
        .bind(projection)
        .bind(column(generation))
        .execute(&mut *connection)
        .await?;
    if promoted.rows_affected() == 1 { Ok(()) } else { Err(sqlx::Error::RowNotFound) }
}

/// Starts a generation at position 0 unless it exists, or a later one is live; the first of a projection is live at
/// once. A rebuild takes a number above the live one.
///
/// Run it in the transaction that makes its tables.
pub async fn open(connection: &mut PgConnection, projection: &str, generation: u32) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO checkpoints (name, generation, epoch, live)
         SELECT $1, $2, epoch, NOT EXISTS (SELECT FROM checkpoints WHERE name = $1) FROM feed
         WHERE NOT EXISTS (SELECT FROM checkpoints WHERE name = $1 AND live AND generation > $2)
         ON CONFLICT DO NOTHING",
    )
    .bind(projection)
    .bind(column(generation))
    .execute(connection)
    .await?;
    Ok(())
}

/// How far a generation has come; `None` if it was never opened, or others were promoted over it.
pub async fn position(
    database: impl PgExecutor<'_>,
    projection: &str,
    generation: u32,
) -> Result<Option<u64>, sqlx::Error> {
    Ok(read(database, projection, generation).await?.map(|checkpoint| checkpoint.position))
}

/// Waits until the live generation of a projection has applied every event that was committed before this call; says
/// whether it did within `patience`.
///
/// For whoever decides by what a projection keeps, and must not decide by less than has happened.
pub async fn reached(pool: &PgPool, projection: &str, patience: Duration) -> Result<bool, sqlx::Error> {
    let unnumbered: Option<i64> =
        sqlx::query_scalar("SELECT max(ordinal) FROM events WHERE position IS NULL").fetch_one(pool).await?;
    let deadline = Instant::now() + patience;
    let (mut head, mut wait): (Option<i64>, Duration) = (None, Duration::from_millis(2));
    loop {
        let (waiting, last, applied): (bool, i64, i64) = sqlx::query_as(
            "SELECT EXISTS (SELECT FROM events WHERE position IS NULL AND ordinal <= $2), (SELECT last_position FROM feed),
                    COALESCE((SELECT position FROM checkpoints WHERE name = $1 AND live), 0)",
        )
        .bind(projection)
        .bind(unnumbered)
        .fetch_one(pool)
        .await?;
        // Once all of them have a position, they are not behind the last there is.
        if !waiting && applied >= *head.get_or_insert(last) {
            return Ok(true);
        }
        if Instant::now() >= deadline {
            return Ok(false);
        }
        sleep(wait).await;
        // Mostly it is a moment; where it is not, many may be asking.
        wait = (wait * 2).min(Duration::from_millis(100));
    }
}

/// One generation's checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    pub(crate) epoch: Uuid,
    pub(crate) position: u64,
}

pub(crate) async fn read(
    database: impl PgExecutor<'_>,
    projection: &str,
    generation: u32,
) -> Result<Option<Checkpoint>, sqlx::Error> {
    let row: Option<(Uuid, i64)> =
        sqlx::query_as("SELECT epoch, position FROM checkpoints WHERE name = $1 AND generation = $2")
            .bind(projection)
            .bind(column(generation))
            .fetch_optional(database)
            .await?;
    Ok(row.map(|(epoch, position)| Checkpoint { epoch, position: unsigned(position) }))
}

/// Moves a checkpoint on, if it still is where the caller left it. False: somebody else is at work.
///
/// The first statement of a batch: from here to the commit, the row's lock keeps other projectors of the name out.
pub(crate) async fn advance(
    connection: &mut PgConnection,
    projection: &str,
    generation: u32,
    from: Checkpoint,
    to: u64,
) -> Result<bool, sqlx::Error> {
    let moved = bind(sqlx::query(&advancing(1)), (projection, generation), from, to).execute(connection).await?;
    Ok(moved.rows_affected() == 1)
}

/// The same, and what depends on it, in one statement and one commit: `write` happens if there is a row in `moved`, from which
/// it selects.
pub(crate) async fn advance_and_write(
    connection: &mut PgConnection,
    projection: &str,
    generation: u32,
    from: Checkpoint,
    to: u64,
    mut write: Query<'static, Postgres, PgArguments>,
) -> Result<bool, sqlx::Error> {
    let arguments = write.take_arguments().map_err(sqlx::Error::Encode)?.unwrap_or_default();
    let statement = format!(
        "WITH moved AS ({} RETURNING position), written AS ({}) SELECT position FROM moved",
        advancing(arguments.len() + 1),
        write.sql()
    );
    let query = bind(sqlx::query_with(&statement, arguments), (projection, generation), from, to);
    Ok(query.fetch_optional(connection).await?.is_some())
}

/// Moves a checkpoint on; its parameters, from the `first` on, are those of [`bind`].
fn advancing(first: usize) -> String {
    let [to, name, generation, epoch, from, unfenced] = std::array::from_fn(|n| first + n);
    format!(
        "UPDATE checkpoints SET position = ${to}, updated_at = now()
         WHERE name = ${name} AND generation = ${generation} AND epoch = ${epoch} AND (position = ${from} OR ${unfenced})"
    )
}

fn bind<'q>(
    query: Query<'q, Postgres, PgArguments>,
    (projection, generation): (&'q str, u32),
    from: Checkpoint,
    to: u64,
) -> Query<'q, Postgres, PgArguments> {
    query
        .bind(signed(to))
        .bind(projection)
        .bind(column(generation))
        .bind(from.epoch)
        .bind(signed(from.position))
        .bind(plays("unfenced-checkpoint"))
}

fn column(generation: u32) -> i32 {
    i32::try_from(generation).unwrap_or(i32::MAX)
}
