//! Marking links due as the catalog changes: by the feed, which misses nothing, and sooner by what this process appends
//! itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use cqrs_es::Aggregate;
use sqlx::{PgExecutor, PgPool, PgTransaction};
use tandem_domain::{Customer, CustomerEvent, CustomerId, Field, GatewayName, Policy, Value, upcasters};
use tandem_eventlog::{Appended, EventUpcaster, Projection, ProjectionError, Recorded, Wake};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;
use tracing::debug;
use uuid::Uuid;

use crate::{Direction, GuardConfig, erase, error_chain, guard, twins};

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

    /// Whose links an event makes due, with the email that it set and the fields that it changed. What a reconciler itself records changes nothing that must
    /// be pushed.
    fn concerns(&self, recorded: &Recorded) -> Result<Option<Concern>, ProjectionError> {
        if recorded.aggregate_type != Customer::TYPE {
            return Ok(None);
        }
        let id: CustomerId =
            recorded.aggregate_id.parse().map_err(|error| ProjectionError::CannotApply(Box::new(error)))?;
        Ok(match recorded.event::<Customer>(&self.upcasters)? {
            CustomerEvent::Created { profile, .. } => {
                Some((id, Some(profile.text(&Field::Email).map(str::to_owned)), vec![]))
            }
            CustomerEvent::Updated { mut changes, .. } => {
                let fields = changes.keys().map(ToString::to_string).collect();
                Some((id, changes.remove(&Field::Email).map(|change| change.after.and_then(as_text)), fields))
            }
            CustomerEvent::Deleted { .. } => Some((id, Some(None), vec![])),
            // So that its link is locked with the others.
            CustomerEvent::Erased { .. } => Some((id, None, vec![])),
            // What was held back until a person decided.
            CustomerEvent::ConflictResolved(contest) if contest.policy == Policy::Ask => Some((id, None, vec![])),
            CustomerEvent::Linked { .. }
            | CustomerEvent::Unlinked { .. }
            | CustomerEvent::ConflictOpened(_)
            | CustomerEvent::ConflictResolved(_) => None,
        })
    }
}

/// Whose links are due, the email if it was set or unset, and the changed fields.
type Concern = (CustomerId, Option<Email>, Vec<String>);

/// The name of a gateway's projection.
pub(crate) fn projection_name(gateway: &GatewayName) -> String {
    format!("gateway.{gateway}")
}

/// Unset or set.
type Email = Option<String>;

fn as_text(value: Value) -> Option<String> {
    match value {
        Value::Text(text) => Some(text),
        Value::Address(_) => None,
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
            let Some((customer, email, fields)) = self.concerns(recorded)? else { continue };
            let direction =
                if recorded.origin == self.gateway.as_str() { Direction::Inbound } else { Direction::Outbound };
            guarded.extend(fields.into_iter().map(|field| (direction, field, customer)));
            if recorded.event_type == "erased" {
                erased.push(customer.0);
            }
            changed.insert(customer, recorded.version);
            emails.extend(email.map(|email| (customer, email)));
        }
        mark_changed(&mut **tx, &self.gateway, &changed).await?;
        erase::forget(tx, &self.gateway, &erased).await?;
        guard::count(tx, &self.gateway, &guarded, self.guard).await?;
        twins::keep_emails(tx, &self.gateway, &emails.into_iter().collect::<Vec<_>>()).await?;
        Ok(())
    }

    async fn applied(&self, _batch: &[Recorded]) {
        self.wake.ring();
    }
}

/// Marks links due by what this process appends, before the feed tells of it.
pub(crate) async fn hear(
    relaxed: PgPool,
    gateway: GatewayName,
    mut appended: broadcast::Receiver<Appended>,
    due: Wake,
    shutdown: CancellationToken,
) {
    loop {
        let first = tokio::select! {
            first = appended.recv() => first,
            () = shutdown.cancelled() => return,
        };
        let mut changed = BTreeMap::new();
        let mut next = match first {
            Ok(first) => Some(first),
            Err(RecvError::Lagged(_)) => None,
            Err(RecvError::Closed) => return,
        };
        while let Some(Appended { id, version }) = next {
            changed.extend(id.parse().ok().map(|id: CustomerId| (id, version)));
            next = appended.try_recv().ok();
        }
        match mark_changed(&relaxed, &gateway, &changed).await {
            Ok(()) => due.ring(),
            Err(error) => debug!(error = %error_chain(&error), "what was appended is left to the feed"),
        }
    }
}

/// Marks the customers' links due, each once for a version; a customer that has none gets one.
async fn mark_changed(
    database: impl PgExecutor<'_>,
    gateway: &GatewayName,
    changed: &BTreeMap<CustomerId, u64>,
) -> Result<(), sqlx::Error> {
    if changed.is_empty() {
        return Ok(());
    }
    let customers: Vec<Uuid> = changed.keys().map(|CustomerId(id)| *id).collect();
    let versions: Vec<i64> = changed.values().map(|version| i64::try_from(*version).unwrap_or(i64::MAX)).collect();
    sqlx::query(
        // In the order of the customers, as everywhere: see mark_due.
        "INSERT INTO links (gateway, customer_id, due_seq, due_version)
         SELECT $1, id, 1, version FROM unnest($2::uuid[], $3::bigint[]) AS changed (id, version) ORDER BY id
         ON CONFLICT (gateway, customer_id) DO UPDATE SET
             due_seq = links.due_seq + 1, due_version = excluded.due_version,
             due_since = CASE WHEN links.due_seq > links.done_seq THEN links.due_since ELSE clock_timestamp() END
         WHERE links.due_version < excluded.due_version",
    )
    .bind(gateway.as_str())
    .bind(customers)
    .bind(versions)
    .execute(database)
    .await?;
    Ok(())
}
