//! Marking links due as the catalog changes: the gateway's place in the feed.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use cqrs_es::Aggregate;
use sqlx::PgTransaction;
use tandem_domain::{Customer, CustomerEvent, CustomerId, GatewayName, upcasters};
use tandem_eventlog::{EventUpcaster, Projection, ProjectionError, Recorded, Wake};
use uuid::Uuid;

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
            CustomerEvent::Linked { .. } | CustomerEvent::Unlinked { .. } | CustomerEvent::ConflictResolved(_) => None,
        })
    }
}

#[async_trait]
impl Projection for Due {
    fn name(&self) -> &str {
        &self.name
    }

    async fn apply(&self, tx: &mut PgTransaction<'_>, batch: &[Recorded]) -> Result<(), ProjectionError> {
        let mut customers: BTreeSet<Uuid> = BTreeSet::new();
        for recorded in batch {
            customers.extend(self.concerns(recorded)?.map(|CustomerId(id)| id));
        }
        if customers.is_empty() {
            return Ok(());
        }
        let customers: Vec<Uuid> = customers.into_iter().collect();
        // In the order of the customers, as everywhere: see mark_due.
        sqlx::query(
            "INSERT INTO links (gateway, customer_id, due_seq) SELECT $1, id, 1 FROM unnest($2) AS id ORDER BY id
             ON CONFLICT (gateway, customer_id) DO UPDATE SET
                 due_seq = links.due_seq + 1,
                 due_since = CASE WHEN links.due_seq > links.done_seq THEN links.due_since ELSE clock_timestamp() END",
        )
        .bind(self.gateway.as_str())
        .bind(&customers)
        .execute(&mut **tx)
        .await?;
        Ok(())
    }

    async fn applied(&self, _batch: &[Recorded]) {
        self.wake.ring();
    }
}
