//! An intent: a call that changes something at a gateway, stored before it is sent.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use sqlx::types::Json;
use sqlx::{FromRow, PgExecutor, PgPool, PgTransaction, Postgres};
use tandem_domain::{Field, Profile, Value};
use tandem_eventlog::zoo::plays;
use uuid::Uuid;

use crate::link::{self, HELD, Link, RENEW};
use crate::{RunError, Write};

/// Stripe forgets a key after 24 hours at the earliest ("Idempotent requests"); an hour is left for a slow call.
const KEY_LIFE: TimeDelta = TimeDelta::hours(23);

/// A call that changes something, frozen.
#[derive(Clone, Debug, FromRow)]
pub(crate) struct Intent {
    pub key: String,
    #[sqlx(json)]
    pub write: Write,
    pub body: String,
    #[sqlx(json)]
    pub against: BTreeMap<Field, Option<Value>>,
    #[sqlx(json)]
    pub edited_at: BTreeMap<Field, DateTime<Utc>>,
    pub created_at: DateTime<Utc>,
    pub spoilt: bool,
    pub executed: bool,
    pub echo_checked: bool,
}

/// How an intent ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It was carried out once.
    Executed,
    /// It was not carried out, as far as can be seen, and will not be sent again.
    Abandoned,
}

impl Intent {
    /// A new one, with a random key: a key made from a version meets, in the gateway's memory of keys, a late send of
    /// the same version.
    pub fn new(
        write: Write,
        body: String,
        base: &Profile,
        edited_at: BTreeMap<Field, DateTime<Utc>>,
        now: DateTime<Utc>,
    ) -> Self {
        let against = sent_fields(&write).into_keys().map(|field| (field.clone(), base.get(&field).cloned())).collect();
        Self {
            key: format!("tandem-{}", Uuid::new_v4()),
            write,
            body,
            against,
            edited_at,
            created_at: now,
            spoilt: false,
            executed: false,
            echo_checked: false,
        }
    }

    /// Whether it may still be sent: asked in the instant of sending.
    pub fn may_be_sent(&self, now: DateTime<Utc>) -> bool {
        !self.spoilt && (self.is_remembered(now) || plays("key-past-its-life"))
    }

    /// Whether the remote still knows its key, if it ever came there: then it was carried out once at most.
    pub fn is_remembered(&self, now: DateTime<Utc>) -> bool {
        now - self.created_at < KEY_LIFE
    }

    /// The fields that it sends, with what it makes of them.
    pub fn sent(&self) -> BTreeMap<Field, Option<Value>> {
        sent_fields(&self.write)
    }

    /// When a person chose what it sends.
    pub fn edited_at(&self, field: &Field) -> Option<DateTime<Utc>> {
        self.edited_at.get(field).copied()
    }
}

fn sent_fields(write: &Write) -> BTreeMap<Field, Option<Value>> {
    match write {
        Write::Create { profile, .. } => {
            profile.iter().map(|(field, value)| (field.clone(), Some(value.clone()))).collect()
        }
        Write::Update { patch, .. } => {
            // One of a later version's fields is that version's to look after.
            let known = patch.iter().filter(|(field, _)| field.is_known());
            known.map(|(field, value)| (field.clone(), value.cloned())).collect()
        }
        Write::Claim { .. } | Write::Delete { .. } => BTreeMap::new(),
    }
}

/// What an [`Intent`] is read from.
pub(crate) const INTENTS: &str = "
    SELECT key, write, body, against, edited_at, created_at, spoilt, echo_checked, state = 'executed' AS executed FROM intents";

/// A link's intents with these keys.
pub(crate) async fn with_keys(pool: &PgPool, link_id: i64, keys: &[&str]) -> Result<Vec<Intent>, sqlx::Error> {
    sqlx::query_as(&format!("{INTENTS} WHERE link_id = $1 AND key = ANY($2)"))
        .bind(link_id)
        .bind(keys)
        .fetch_all(pool)
        .await
}

/// Stores an intent as the link's open one, in the transaction that holds the link.
pub(crate) async fn store(tx: &mut PgTransaction<'_>, link: &Link, intent: &Intent) -> Result<(), sqlx::Error> {
    let statement = format!("{INSERT} VALUES ($1, $2, $3, $4, $5, $6, $7)");
    let statement = sqlx::query(&statement).bind(link.id);
    values(statement, intent).execute(&mut **tx).await?;
    Ok(())
}

/// Stores an intent as the link's open one by a statement that is a step of its own: as `link::hold` does, it renews the lease
/// and counts.
///
/// # Errors
/// [`RunError::LeaseLost`] if somebody else has it.
pub(crate) async fn store_holding(
    database: impl PgExecutor<'_>,
    link: &Link,
    lease: Duration,
    intent: &Intent,
) -> Result<(), RunError> {
    let statement = format!(
        "WITH held AS (UPDATE links SET {RENEW} WHERE {HELD} RETURNING id)
         {INSERT} SELECT id, $6, $7, $8, $9, $10, $11 FROM held"
    );
    let stored = values(link::holding(&statement, link, lease), intent).execute(database).await?;
    if stored.rows_affected() == 1 { Ok(()) } else { Err(RunError::LeaseLost) }
}

const INSERT: &str = "INSERT INTO intents (link_id, key, write, body, against, edited_at, created_at)";

/// That statement, with an intent's values.
fn values<'q>(statement: Query<'q, Postgres, PgArguments>, intent: &'q Intent) -> Query<'q, Postgres, PgArguments> {
    statement
        .bind(&intent.key)
        .bind(Json(&intent.write))
        .bind(&intent.body)
        .bind(Json(&intent.against))
        .bind(Json(&intent.edited_at))
        .bind(intent.created_at)
}

/// Says that sending it again would only repeat an answer.
pub(crate) async fn spoil(tx: &mut PgTransaction<'_>, key: &str) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE intents SET spoilt = true WHERE key = $1").bind(key).execute(&mut **tx).await?;
    Ok(())
}

/// Ends an intent, in the transaction that stores what came of it. That of an erased customer is forgotten: it says what was sent.
pub(crate) async fn close(tx: &mut PgTransaction<'_>, key: &str, outcome: Outcome) -> Result<(), sqlx::Error> {
    let state = match outcome {
        Outcome::Executed => "executed",
        Outcome::Abandoned => "abandoned",
    };
    sqlx::query(
        "WITH forgotten AS (DELETE FROM intents USING links WHERE key = $1 AND links.id = link_id AND erased RETURNING key)
         UPDATE intents SET state = $2 WHERE key = $1 AND NOT EXISTS (SELECT FROM forgotten)",
    )
    .bind(key)
    .bind(state)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Says that these intents' echoes have been looked at, in the transaction that acts on what they showed.
pub(crate) async fn echoes_checked(tx: &mut PgTransaction<'_>, keys: &[String]) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE intents SET echo_checked = true, state = CASE state WHEN 'open' THEN state ELSE 'executed' END
         WHERE key = ANY($1)",
    )
    .bind(keys)
    .execute(&mut **tx)
    .await?;
    Ok(())
}
