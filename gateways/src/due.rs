//! Marking links due as the catalog changes: by the feed, which misses nothing, and sooner by what this process appends
//! itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use cqrs_es::Aggregate;
use sqlx::{PgExecutor, PgPool, PgTransaction};
use tandem_domain::{Customer, CustomerEvent, CustomerId, GatewayName, Policy, upcasters};
use tandem_eventlog::{Appended, EventUpcaster, Projection, ProjectionError, Recorded, Wake};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;
use tracing::debug;
use uuid::Uuid;

use crate::error_chain;

/// The projection that marks one gateway's links due. It has no other effect, so marking again does no harm.
pub(crate) struct Due {
    name: String,
    gateway: GatewayName,
    wake: Wake,
    upcasters: Vec<Box<dyn EventUpcaster>>,
}

impl Due {
    pub fn new(gateway: &GatewayName, wake: Wake) -> Arc<Self> {
        let name = format!("gateway.{gateway}");
        Arc::new(Self { name, gateway: gateway.clone(), wake, upcasters: upcasters() })
    }

    /// Whose links an event makes due. What a reconciler itself records changes nothing that must be pushed.
    fn concerns(&self, recorded: &Recorded) -> Result<Option<CustomerId>, ProjectionError> {
        if recorded.aggregate_type != Customer::TYPE {
            return Ok(None);
        }
        let id: CustomerId =
            recorded.aggregate_id.parse().map_err(|error| ProjectionError::CannotApply(Box::new(error)))?;
        Ok(match recorded.event::<Customer>(&self.upcasters)? {
            CustomerEvent::Created { .. } | CustomerEvent::Updated { .. } | CustomerEvent::Deleted { .. } => Some(id),
            // What was held back until a person decided.
            CustomerEvent::ConflictResolved(contest) if contest.policy == Policy::Ask => Some(id),
            CustomerEvent::Linked { .. }
            | CustomerEvent::Unlinked { .. }
            | CustomerEvent::ConflictOpened(_)
            | CustomerEvent::ConflictResolved(_) => None,
        })
    }
}

#[async_trait]
impl Projection for Due {
    fn name(&self) -> &str {
        &self.name
    }

    async fn apply(&self, tx: &mut PgTransaction<'_>, batch: &[Recorded]) -> Result<(), ProjectionError> {
        let mut changed = BTreeMap::new();
        for recorded in batch {
            changed.extend(self.concerns(recorded)?.map(|customer| (customer, recorded.version)));
        }
        mark_changed(&mut **tx, &self.gateway, &changed).await?;
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
