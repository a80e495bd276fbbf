//! Routing: each new row of the inbox finds its link, and marks it due.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::types::Json;
use sqlx::{FromRow, PgPool, PgTransaction};
use tandem_domain::{CustomerId, GatewayName, RemoteId};
use tandem_eventlog::zoo::plays;
use uuid::Uuid;

use super::{BLANK, finish, unstorable};
use crate::copies::DEAD;
use crate::link::{self, Priority, mark_due};
use crate::{ChangeKind, RemoteChange};

/// What a look at the inbox found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Routed {
    /// Nothing new, or somebody else routes it.
    Nothing,
    /// All that was new.
    All,
    /// As many as fit in one transaction; there may be more.
    Some,
}

/// How many rows one transaction routes.
const BATCH: i64 = 200;

/// Finds the link of each new row and marks it due.
///
/// One router at a time for a gateway; a second one finds nothing to do.
pub(crate) async fn route(relaxed: &PgPool, gateway: &GatewayName) -> Result<Routed, sqlx::Error> {
    match route_new(relaxed, gateway, None).await {
        Err(error) if unstorable::is_of_a_value(&error) => one_by_one(relaxed, gateway).await,
        routed => routed,
    }
}

/// Routes each new row by itself, since all of them together fail for what one of them says. That one is set aside.
async fn one_by_one(relaxed: &PgPool, gateway: &GatewayName) -> Result<Routed, sqlx::Error> {
    let rows: Vec<i64> =
        sqlx::query_scalar("SELECT id FROM inbox WHERE gateway = $1 AND state = 'new' ORDER BY bulk, id LIMIT $2")
            .bind(gateway.as_str())
            .bind(BATCH)
            .fetch_all(relaxed)
            .await?;
    // Where another router works, nothing moves here, and there is no hurry.
    let mut routed = Routed::Nothing;
    for id in rows {
        match route_new(relaxed, gateway, Some(id)).await {
            Err(error) if unstorable::is_of_a_value(&error) => {
                unstorable::set_aside(relaxed, gateway, id, &unstorable::reason(&error)).await?;
                routed = Routed::Some;
            }
            Ok(Routed::Nothing) => {}
            Ok(Routed::All | Routed::Some) => routed = Routed::Some,
            Err(error) => return Err(error),
        }
    }
    Ok(routed)
}

/// Routes what is new, or only that row of it.
async fn route_new(relaxed: &PgPool, gateway: &GatewayName, only: Option<i64>) -> Result<Routed, sqlx::Error> {
    // Losing this in a crash of the database loses nothing: the rows are new again.
    let (known, new) = route_known(relaxed, gateway, only).await?;
    let routed = match (known, new) {
        (0, _) => Routed::Nothing,
        (BATCH, _) => return Ok(Routed::Some),
        _ => Routed::All,
    };
    if known == new {
        return Ok(routed);
    }
    let mut tx = relaxed.begin().await?;
    let alone: bool = sqlx::query_scalar("SELECT pg_try_advisory_xact_lock(hashtextextended('inbox ' || $1, 0))")
        .bind(gateway.as_str())
        .fetch_one(&mut *tx)
        .await?;
    if !alone {
        return Ok(routed);
    }
    // Rows first, then links, as route_known in another process locks them.
    let rows: Vec<(i64, Json<RemoteChange>, bool)> = sqlx::query_as(
        "SELECT id, change, bulk FROM inbox WHERE gateway = $1 AND state = 'new' AND ($3::bigint IS NULL OR id = $3)
         ORDER BY bulk, id LIMIT $2 FOR UPDATE SKIP LOCKED",
    )
    .bind(gateway.as_str())
    .bind(BATCH)
    .bind(only)
    .fetch_all(&mut *tx)
    .await?;
    let routed = match rows.len() as i64 {
        0 => return Ok(routed),
        BATCH => Routed::Some,
        _ => Routed::All,
    };
    let (mut found, mut aside) = (vec![], vec![]);
    for (id, Json(mut change), bulk) in rows {
        if !change.remote_id.is_linkable() {
            aside.push(id);
            continue;
        }
        if change.customer.is_none() {
            change.customer = created_by_us(&mut tx, gateway, &change).await?;
        }
        let destination = find_link(&mut tx, gateway, &change).await?;
        found.push(Found { id, change, destination, priority: if bulk { Priority::Bulk } else { Priority::Live } });
    }
    // Before a row names its link, which keeps others from setting the link's remote id: a run that is about to may hold what
    // this waits for.
    let links: BTreeSet<i64> = found.iter().filter_map(|found| found.destination.named()).collect();
    link::lock(&mut tx, &links.into_iter().collect::<Vec<_>>()).await?;
    let due = found.iter().filter_map(|found| Some((found.destination.link()?, found.priority)));
    let held = mark(&mut tx, &due.collect()).await?;
    let (new, known): (Vec<_>, Vec<_>) =
        found.into_iter().partition(|found| matches!(found.destination, Destination::Import | Destination::Copy));
    let mut singular = vec![];
    let mut left = false;
    for Found { id, change, destination, .. } in known {
        match destination {
            Destination::Duplicate(link) => set_aside(&mut tx, gateway, link, id, &change.remote_id).await?,
            Destination::Link(link) if held.get(&link).is_some_and(|held| held.has(&change)) => {
                put(&mut tx, id, link, "waiting").await?;
                singular.push(change.remote_id);
            }
            // It has let go of the object meanwhile.
            Destination::Link(_) | Destination::Import | Destination::Copy => left = true,
        }
    }
    // Links for what is new come last: a run that is about to say that this object is its own waits for them.
    for Found { id, change, destination, priority } in new {
        match import(&mut tx, gateway, &change, destination == Destination::Copy, priority).await? {
            Some(link) => {
                put(&mut tx, id, link, "waiting").await?;
                singular.push(change.remote_id);
            }
            None => left = true,
        }
    }
    no_second_objects(&mut tx, gateway, &singular).await?;
    tx.commit().await?;
    for id in aside {
        unstorable::set_aside(relaxed, gateway, id, unstorable::NO_ID).await?;
    }
    // What was left finds its link the next time.
    Ok(if left { Routed::Some } else { routed })
}

/// Routes what names an object that is linked, which is nearly all, by one statement. Returns how many it routed, of how
/// many that are new.
async fn route_known(relaxed: &PgPool, gateway: &GatewayName, only: Option<i64>) -> Result<(i64, i64), sqlx::Error> {
    let (live, bulk) = (link::due_live(), link::due("true"));
    sqlx::query_as(&format!(
        "WITH new AS MATERIALIZED (
             SELECT id, change->>'remote_id' AS remote_id, bulk FROM inbox
             WHERE gateway = $1 AND state = 'new' AND ($3::bigint IS NULL OR id = $3)
             ORDER BY bulk, id LIMIT $2 FOR UPDATE SKIP LOCKED
         ), known AS MATERIALIZED (
             -- Locked, and if somebody had to be waited for, compared once more.
             SELECT new.id, links.id AS link_id, links.erased, new.bulk
             FROM new JOIN links ON links.gateway = $1 AND links.remote_id = new.remote_id
             ORDER BY links.customer_id FOR NO KEY UPDATE OF links
         ), moved AS (
             UPDATE inbox SET state = 'waiting', link_id = known.link_id,
                              change = CASE WHEN known.erased THEN {BLANK} ELSE change END,
                              email_key = CASE WHEN known.erased THEN NULL ELSE email_key END
             FROM known WHERE inbox.id = known.id
         ), marked AS (
             UPDATE links SET {live} WHERE id = ANY(ARRAY(SELECT link_id FROM known WHERE NOT bulk))
         ), marked_in_bulk AS (
             UPDATE links SET {bulk} WHERE id = ANY(ARRAY(SELECT link_id FROM known GROUP BY link_id HAVING bool_and(bulk)))
         )
         SELECT (SELECT count(*) FROM known), (SELECT count(*) FROM new)"
    ))
    .bind(gateway.as_str())
    .bind(BATCH)
    .bind(only)
    .fetch_one(relaxed)
    .await
}

/// A row of the inbox, and where it goes.
struct Found {
    id: i64,
    change: RemoteChange,
    destination: Destination,
    priority: Priority,
}

/// Where a change goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Destination {
    Link(i64),
    /// A second object that claims to be a copy of a customer which has one.
    Duplicate(i64),
    /// It is new here.
    Import,
    /// It is new here, and carries the id of a customer that is dead.
    Copy,
}

/// The link of the customer whose id an object carries.
#[derive(FromRow)]
pub(crate) struct Ours {
    pub link: i64,
    /// The object that it knows.
    pub known: Option<String>,
    /// The customer is deleted, and so is that object.
    pub dead: bool,
}

impl Destination {
    /// The link that the row will name.
    fn named(self) -> Option<i64> {
        match self {
            Self::Link(id) | Self::Duplicate(id) => Some(id),
            Self::Import | Self::Copy => None,
        }
    }

    /// The link that it makes due.
    fn link(self) -> Option<i64> {
        match self {
            Self::Link(id) => Some(id),
            Self::Duplicate(_) | Self::Import | Self::Copy => None,
        }
    }
}

/// By our id in the object.
pub(crate) fn by_our_id(change: &RemoteChange, ours: Option<Ours>) -> Destination {
    match ours {
        // Compared once more: the reply of our create may have been stored since the look by the remote's id.
        Some(Ours { link, known, .. }) if known.as_ref().is_none_or(|known| known == change.remote_id.as_str()) => {
            Destination::Link(link)
        }
        // The death of a second copy needs nobody's attention.
        Some(_) if change.kind == ChangeKind::Deleted => Destination::Import,
        Some(Ours { dead: true, .. }) => Destination::Copy,
        Some(Ours { link, .. }) => Destination::Duplicate(link),
        None => Destination::Import,
    }
}

/// Whose copy the object says it is.
pub(crate) fn owner(change: &RemoteChange) -> Option<CustomerId> {
    change.customer.filter(|_| !plays("import-without-tandem-id"))
}

/// The customer for whom a call of ours made the object. One that had no room for our id says by the event of its creation
/// alone whose copy it is.
async fn created_by_us(
    tx: &mut PgTransaction<'_>,
    gateway: &GatewayName,
    change: &RemoteChange,
) -> Result<Option<CustomerId>, sqlx::Error> {
    let Some(key) = change.idempotency_key.as_deref().filter(|_| change.kind == ChangeKind::Created) else {
        return Ok(None);
    };
    let customer: Option<Uuid> = sqlx::query_scalar(
        "SELECT customer_id FROM intents JOIN links ON links.id = link_id WHERE key = $1 AND gateway = $2",
    )
    .bind(key)
    .bind(gateway.as_str())
    .fetch_optional(&mut **tx)
    .await?;
    Ok(customer.map(CustomerId))
}

/// By the remote's id; else by our id in the object (our own create, whose reply is still out); else it is new here.
async fn find_link(
    tx: &mut PgTransaction<'_>,
    gateway: &GatewayName,
    change: &RemoteChange,
) -> Result<Destination, sqlx::Error> {
    if let Some(link_id) = by_remote_id(tx, gateway, &change.remote_id).await? {
        return Ok(Destination::Link(link_id));
    }
    if let Some(CustomerId(customer_id)) = owner(change) {
        let ours = sqlx::query_as(&format!(
            "SELECT l.id AS link, l.remote_id AS known, {DEAD} AS dead FROM links l
             WHERE l.gateway = $1 AND l.customer_id = $2"
        ))
        .bind(gateway.as_str())
        .bind(customer_id)
        .fetch_optional(&mut **tx)
        .await?;
        return Ok(by_our_id(change, ours));
    }
    Ok(Destination::Import)
}

/// A link that was found, once nobody can change it any more.
#[derive(FromRow)]
struct Held {
    id: i64,
    customer_id: Uuid,
    remote_id: Option<String>,
}

impl Held {
    /// It has the object, or waits for it.
    fn has(&self, change: &RemoteChange) -> bool {
        match &self.remote_id {
            Some(remote_id) => remote_id == change.remote_id.as_str(),
            None => owner(change) == Some(CustomerId(self.customer_id)),
        }
    }
}

/// Marks links due, which are locked, and looks at them then.
async fn mark(tx: &mut PgTransaction<'_>, due: &BTreeSet<(i64, Priority)>) -> Result<BTreeMap<i64, Held>, sqlx::Error> {
    if due.is_empty() {
        return Ok(BTreeMap::new());
    }
    let of = |priority| -> Vec<i64> { due.iter().filter(|(_, one)| *one == priority).map(|(link, _)| *link).collect() };
    mark_due(tx, &of(Priority::Live), Priority::Live).await?;
    mark_due(tx, &of(Priority::Bulk), Priority::Bulk).await?;
    let held: Vec<Held> = sqlx::query_as("SELECT id, customer_id, remote_id FROM links WHERE id = ANY($1)")
        .bind(due.iter().map(|(link, _)| *link).collect::<Vec<_>>())
        .fetch_all(&mut **tx)
        .await?;
    Ok(held.into_iter().map(|held| (held.id, held)).collect())
}

/// Gives a row to its link, which is locked.
async fn put(tx: &mut PgTransaction<'_>, id: i64, link_id: i64, state: &str) -> Result<(), sqlx::Error> {
    let statement = format!(
        "UPDATE inbox SET state = $2, link_id = links.id, change = CASE WHEN links.erased THEN {BLANK} ELSE change END,
                          email_key = CASE WHEN links.erased THEN NULL ELSE email_key END
         FROM links WHERE inbox.id = $1 AND links.id = $3"
    );
    sqlx::query(&statement).bind(id).bind(state).bind(link_id).execute(&mut **tx).await?;
    Ok(())
}

/// Makes a link, which is due, for an object that is new here. `None` if it is no longer new. A deletion makes one, too: it
/// blocks an import by an older event that comes later, and keeps no values, which may be those of somebody who was erased. A
/// copy of a dead customer's is looked at: what is told of it may have waited long.
async fn import(
    tx: &mut PgTransaction<'_>,
    gateway: &GatewayName,
    change: &RemoteChange,
    is_copy: bool,
    priority: Priority,
) -> Result<Option<i64>, sqlx::Error> {
    sqlx::query_scalar(
        "INSERT INTO links (gateway, customer_id, remote_id, due_seq, relabel, look, erased, bulk)
         VALUES ($1, $2, $3, 1, $4, $4, $5, $6)
         ON CONFLICT (gateway, remote_id) DO NOTHING RETURNING id",
    )
    .bind(gateway.as_str())
    .bind(Uuid::now_v7())
    .bind(change.remote_id.as_str())
    .bind(is_copy)
    .bind(change.kind == ChangeKind::Deleted)
    .bind(priority == Priority::Bulk)
    .fetch_optional(&mut **tx)
    .await
}

async fn by_remote_id(
    tx: &mut PgTransaction<'_>,
    gateway: &GatewayName,
    remote_id: &RemoteId,
) -> Result<Option<i64>, sqlx::Error> {
    sqlx::query_scalar("SELECT id FROM links WHERE gateway = $1 AND remote_id = $2")
        .bind(gateway.as_str())
        .bind(remote_id.as_str())
        .fetch_optional(&mut **tx)
        .await
}

/// Asks a person about a second object, once. What is told of it later takes the place of what was told before; one that a
/// person let be is asked about no more.
async fn set_aside(
    tx: &mut PgTransaction<'_>,
    gateway: &GatewayName,
    link_id: i64,
    inbox_id: i64,
    remote_id: &RemoteId,
) -> Result<(), sqlx::Error> {
    let asked: Option<(i64, bool, Option<i64>)> = sqlx::query_as(
        "SELECT id, state = 'open', inbox_id FROM parked
         WHERE gateway = $1 AND remote_id = $2 AND kind = 'duplicate'
           AND (state = 'open' OR state = 'dismissed' AND link_id = $3)
         ORDER BY state = 'open' DESC LIMIT 1 FOR UPDATE",
    )
    .bind(gateway.as_str())
    .bind(remote_id.as_str())
    .bind(link_id)
    .fetch_optional(&mut **tx)
    .await?;
    match asked {
        Some((_, false, _)) => return put(tx, inbox_id, link_id, "done").await,
        Some((parked, true, before)) => {
            sqlx::query("UPDATE parked SET inbox_id = $2 WHERE id = $1")
                .bind(parked)
                .bind(inbox_id)
                .execute(&mut **tx)
                .await?;
            finish(tx, before.as_slice()).await?;
        }
        None => {
            sqlx::query(
                "INSERT INTO parked (gateway, link_id, kind, remote_id, inbox_id, field, reason)
                 VALUES ($1, $2, 'duplicate', $3, $4, 'metadata.tandem_id',
                         'a second object carries the id of a customer that has one: delete one of the two there, or take \
                          metadata.tandem_id off the second, and it is a customer of its own; dismiss leaves it unlinked')",
            )
            .bind(gateway.as_str())
            .bind(link_id)
            .bind(remote_id.as_str())
            .bind(inbox_id)
            .execute(&mut **tx)
            .await?;
        }
    }
    put(tx, inbox_id, link_id, "parked").await
}

/// These have links of their own now: where a person was asked about them, there is nothing to say any more.
async fn no_second_objects(
    tx: &mut PgTransaction<'_>,
    gateway: &GatewayName,
    objects: &[RemoteId],
) -> Result<(), sqlx::Error> {
    if objects.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "WITH moot AS (
             UPDATE parked SET state = 'superseded', closed_at = clock_timestamp()
             WHERE gateway = $1 AND remote_id = ANY($2) AND state = 'open' AND kind = 'duplicate' RETURNING inbox_id
         )
         UPDATE inbox SET state = 'done' WHERE id IN (SELECT inbox_id FROM moot)",
    )
    .bind(gateway.as_str())
    .bind(objects.iter().map(RemoteId::as_str).collect::<Vec<_>>())
    .execute(&mut **tx)
    .await?;
    Ok(())
}
