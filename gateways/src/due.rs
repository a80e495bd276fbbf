//! Marking links due as the catalog changes: by the feed, which misses nothing, and sooner by what this process appends
//! itself, which it leases at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use cqrs_es::Aggregate;
use sqlx::postgres::PgRow;
use sqlx::{FromRow, PgExecutor, PgPool, PgTransaction, Row};
use tandem_domain::{Customer, CustomerEvent, CustomerId, Field, GatewayName, Policy, Value, upcasters};
use tandem_eventlog::{Appended, EventUpcaster, Projection, ProjectionError, Recorded, Wake};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tracing::debug;
use uuid::Uuid;

use crate::link::{self, LEASE, LEASED, Link, READY, Terms};
use crate::{Direction, GuardConfig, erase, error_chain, guard, join, twins};

/// The projection that marks one gateway's links due, and keeps the emails by which twins are found. Marking again does no
/// harm.
pub(crate) struct Due {
    name: String,
    gateway: GatewayName,
    guard: GuardConfig,
    wake: Wake,
    upcasters: Vec<Box<dyn EventUpcaster>>,
}

impl Due {
    pub fn new(gateway: &GatewayName, guard: GuardConfig, wake: Wake) -> Arc<Self> {
        Arc::new(Self { name: projection_name(gateway), gateway: gateway.clone(), guard, wake, upcasters: upcasters() })
    }

    /// Whose links an event makes due, and why. What a reconciler itself records changes nothing that must be pushed.
    fn concerns(&self, recorded: &Recorded) -> Result<Option<Concern>, ProjectionError> {
        if recorded.aggregate_type != Customer::TYPE {
            return Ok(None);
        }
        let id: CustomerId =
            recorded.aggregate_id.parse().map_err(|error| ProjectionError::CannotApply(Box::new(error)))?;
        let mut concern = Concern { customer: id, email: None, fields: vec![], erased: false };
        match recorded.event::<Customer>(&self.upcasters)? {
            CustomerEvent::Created { profile, .. } => {
                concern.email = Some(profile.text(&Field::Email).map(str::to_owned));
            }
            CustomerEvent::Updated { mut changes, .. } => {
                // Any number of characters fits the log; an index takes fewer, and the beginning is enough to count them.
                concern.fields = changes.keys().map(|field| field.to_string().chars().take(300).collect()).collect();
                concern.email = changes.remove(&Field::Email).map(|change| change.after.and_then(as_text));
            }
            CustomerEvent::Deleted { .. } => concern.email = Some(None),
            CustomerEvent::Erased { .. } => concern.erased = true,
            // What was held back until a person decided.
            CustomerEvent::ConflictResolved(contest) if contest.policy == Policy::Ask => {}
            CustomerEvent::Linked { .. }
            | CustomerEvent::Unlinked { .. }
            | CustomerEvent::ConflictOpened(_)
            | CustomerEvent::ConflictResolved(_) => return Ok(None),
        }
        Ok(Some(concern))
    }
}

/// What an event means for a customer's link.
struct Concern {
    customer: CustomerId,
    /// The email that it set, or unset.
    email: Option<Email>,
    /// The fields that it changed.
    fields: Vec<String>,
    /// What is known of the customer is to be forgotten.
    erased: bool,
}

/// The name of a gateway's projection.
pub(crate) fn projection_name(gateway: &GatewayName) -> String {
    format!("gateway.{gateway}")
}

/// Unset or set.
type Email = Option<String>;

fn as_text(value: Value) -> Option<String> {
    match value {
        Value::Text(text) => Some(text),
        Value::Address(_) | Value::Other(_) => None,
    }
}

#[async_trait]
impl Projection for Due {
    fn name(&self) -> &str {
        &self.name
    }

    async fn apply(&self, tx: &mut PgTransaction<'_>, batch: &[Recorded]) -> Result<(), ProjectionError> {
        let (mut changed, mut emails, mut guarded) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        let mut erased = vec![];
        for recorded in batch {
            let Some(Concern { customer, email, fields, erased: is_erased }) = self.concerns(recorded)? else {
                continue;
            };
            let direction =
                if recorded.origin == self.gateway.as_str() { Direction::Inbound } else { Direction::Outbound };
            guarded.extend(fields.into_iter().map(|field| (direction, field, customer)));
            erased.extend(is_erased.then_some(customer.0));
            changed.insert(customer, (recorded.version, recorded.recorded_at));
            emails.extend(email.map(|email| (customer, email)));
        }
        // What locks no links comes first.
        guard::count(tx, &self.gateway, &guarded, self.guard).await?;
        let named = twins::keep_emails(tx, &self.gateway, &emails.into_iter().collect::<Vec<_>>()).await?;
        let changed = changed.into_iter().map(|(customer, (version, at))| (customer, version, Some(at)));
        let changed = Changed::new(&self.gateway, changed);
        changed.add_missing(&mut **tx).await?;
        if !named.is_empty() {
            changed.lock_with(tx, &named).await?;
            join::look_again(tx, &named).await?;
        }
        changed.mark_known(&mut **tx).await?;
        erase::forget(tx, &self.gateway, &erased).await?;
        Ok(())
    }

    async fn applied(&self, _batch: &[Recorded]) {
        self.wake.ring();
    }
}

/// Waits for what this process appends, but for what came from that gateway itself: the customers, each with its version. None
/// if too much came at once: that is left to the feed.
pub(crate) async fn heard(
    appended: &mut broadcast::Receiver<Appended>,
    gateway: &GatewayName,
) -> BTreeMap<CustomerId, u64> {
    loop {
        let mut next = match appended.recv().await {
            Ok(first) => Some(first),
            Err(RecvError::Lagged(_)) => return BTreeMap::new(),
            Err(RecvError::Closed) => std::future::pending().await,
        };
        let mut changed = BTreeMap::new();
        while let Some(Appended { id, version, origin }) = next {
            // The run that took that in compares it itself.
            let news = id.parse().ok().filter(|_| origin != gateway.as_str());
            changed.extend(news.map(|id: CustomerId| (id, version)));
            next = appended.try_recv().ok();
        }
        if !changed.is_empty() {
            return changed;
        }
    }
}

/// Marks the links of changed customers due before the feed tells of it, and leases those that nobody works on, at most
/// as many as the terms say. What is not marked, because others make its link in this instant, is left to the feed.
pub(crate) async fn lease_changed(
    relaxed: &PgPool,
    gateway: &GatewayName,
    changed: &BTreeMap<CustomerId, u64>,
    terms: Terms,
) -> Result<Vec<Link>, sqlx::Error> {
    let changed = Changed::new(gateway, changed.iter().map(|(customer, version)| (*customer, *version, None)));
    let count = changed.customers.len();
    let (known, mut leased) = if count <= terms.most {
        let marked = changed.lease_known(relaxed, terms).await?;
        (marked.len(), marked.into_iter().flatten().collect())
    } else {
        (changed.mark_known(relaxed).await?, vec![])
    };
    if known == count && count <= terms.most {
        return Ok(leased);
    }
    let others = async {
        if known < count {
            changed.add_missing(relaxed).await?;
        }
        link::lease(relaxed, gateway, Terms { most: terms.most.saturating_sub(leased.len()), ..terms }).await
    };
    match others.await {
        Ok(others) => leased.extend(others),
        Err(error) if leased.is_empty() => return Err(error),
        // What is leased is ours to work on.
        Err(error) => debug!(error = %error_chain(&error), "what was appended is left to the feed"),
    }
    Ok(leased)
}

/// Customers that changed, with the version that they have now.
///
/// A transaction that does both adds first and marks then: one that waits for an added link holds none that was there.
struct Changed<'a> {
    gateway: &'a GatewayName,
    customers: Vec<Uuid>,
    versions: Vec<i64>,
    /// When that was, of what the feed tells; what was just appended is new.
    recorded_at: Vec<Option<DateTime<Utc>>>,
}

/// In a statement on `changed`: nobody waits for it any more, as where a gateway is new and the feed is read from its beginning.
const LONG_AGO: &str = "COALESCE(recorded_at < clock_timestamp() - interval '1 minute', false)";

impl<'a> Changed<'a> {
    /// Customers in their order, each with its version, and when that was.
    fn new(
        gateway: &'a GatewayName,
        changed: impl IntoIterator<Item = (CustomerId, u64, Option<DateTime<Utc>>)>,
    ) -> Self {
        let (mut customers, mut versions, mut recorded_at) = (vec![], vec![], vec![]);
        for (CustomerId(customer), version, at) in changed {
            customers.push(customer);
            versions.push(i64::try_from(version).unwrap_or(i64::MAX));
            recorded_at.push(at);
        }
        Self { gateway, customers, versions, recorded_at }
    }

    /// Makes links, which are due, for those that have none.
    async fn add_missing(&self, database: impl PgExecutor<'_>) -> Result<(), sqlx::Error> {
        if self.customers.is_empty() {
            return Ok(());
        }
        sqlx::query(&format!(
            "INSERT INTO links (gateway, customer_id, due_seq, due_version, bulk)
             SELECT $1, customer, 1, version, {LONG_AGO}
             FROM unnest($2::uuid[], $3::bigint[], $4::timestamptz[]) AS changed (customer, version, recorded_at)
             WHERE NOT EXISTS (SELECT FROM links WHERE gateway = $1 AND customer_id = customer)
             ORDER BY customer ON CONFLICT (gateway, customer_id) DO NOTHING"
        ))
        .bind(self.gateway.as_str())
        .bind(&self.customers)
        .bind(&self.versions)
        .bind(&self.recorded_at)
        .execute(database)
        .await?;
        Ok(())
    }

    /// Marks the links that are there due, each once for a version, and leases those that are free. Returns all that it marked.
    async fn lease_known(&self, relaxed: &PgPool, terms: Terms) -> Result<Vec<Option<Link>>, sqlx::Error> {
        let live = link::due_live();
        let rows = sqlx::query(&format!(
            "WITH known AS MATERIALIZED (
                 SELECT links.id, version, {READY} AS free
                 FROM unnest($2::uuid[], $3::bigint[]) AS changed (customer, version)
                 JOIN links ON gateway = $1 AND customer_id = customer
                 ORDER BY customer_id FOR NO KEY UPDATE OF links
             )
             UPDATE links SET {live}, {LEASE}, due_version = version
             FROM known WHERE links.id = known.id AND links.due_version < version
             RETURNING free, {LEASED}"
        ))
        .bind(self.gateway.as_str())
        .bind(&self.customers)
        .bind(&self.versions)
        .bind(terms.holder)
        .bind(terms.duration.as_secs_f64())
        .fetch_all(relaxed)
        .await?;
        let leased =
            |row: &PgRow| row.try_get("free").and_then(|free: bool| free.then(|| Link::from_row(row)).transpose());
        rows.iter().map(leased).collect()
    }

    /// Marks the links that are there due, each once for a version. Returns how many are there.
    async fn mark_known(&self, database: impl PgExecutor<'_>) -> Result<usize, sqlx::Error> {
        if self.customers.is_empty() {
            return Ok(0);
        }
        let known: i64 = sqlx::query_scalar(&format!(
            // In the order of the customers, as everywhere: see mark_due.
            "WITH known AS MATERIALIZED (
                 SELECT links.id, version, {LONG_AGO} AS long_ago
                 FROM unnest($2::uuid[], $3::bigint[], $4::timestamptz[]) AS changed (customer, version, recorded_at)
                 JOIN links ON gateway = $1 AND customer_id = customer
                 ORDER BY customer_id FOR NO KEY UPDATE OF links
             ), marked AS (
                 UPDATE links SET {}, due_version = version FROM known
                 WHERE links.id = known.id AND links.due_version < version
             )
             SELECT count(*) FROM known",
            link::due("known.long_ago")
        ))
        .bind(self.gateway.as_str())
        .bind(&self.customers)
        .bind(&self.versions)
        .bind(&self.recorded_at)
        .fetch_one(database)
        .await?;
        Ok(usize::try_from(known).unwrap_or(usize::MAX))
    }

    /// Locks their links and these, in one order.
    async fn lock_with(&self, tx: &mut PgTransaction<'_>, others: &[i64]) -> Result<(), sqlx::Error> {
        sqlx::query(
            "SELECT FROM links WHERE gateway = $1 AND customer_id = ANY($2) OR id = ANY($3)
             ORDER BY customer_id FOR NO KEY UPDATE",
        )
        .bind(self.gateway.as_str())
        .bind(&self.customers)
        .bind(others)
        .execute(&mut **tx)
        .await?;
        Ok(())
    }
}
