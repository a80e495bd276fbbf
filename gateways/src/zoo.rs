//! For the zoo: wrong variants that are more than a line. A build without the feature `zoo` never comes here.

use chrono::TimeDelta;
use tandem_domain::Order;
use tandem_eventlog::zoo::plays;
use tandem_eventlog::{CommandKey, Context};

use crate::ledger::{Decision, Postgres};
use crate::link::Base;
use crate::{RemoteChange, RunError};

/// Variants that never need to ask the remote.
pub(crate) const POINTWISE: [&str; 3] = ["time-as-a-point", "order-by-created", "previous-attributes-order"];

/// An observation's time taken as a point. Of two within a second the last to come stays, or the first.
pub(crate) fn as_points(change: &RemoteChange, base: &Base, or_equal: bool) -> Order {
    let seen = base.interval.from() + TimeDelta::seconds(1);
    if change.created > seen || or_equal && change.created == seen { Order::After } else { Order::Before }
}

/// An event is new if what it replaced is what was last seen.
pub(crate) fn by_previous(change: &RemoteChange, base: &Base) -> Order {
    let follows = change.previous.iter().all(|(field, value)| base.profile.get(field) == value.as_ref());
    if follows { Order::After } else { Order::Before }
}

/// Events in a transaction of their own, before the base.
pub(crate) async fn append_first(ledger: &Postgres, decision: &Decision) -> Result<(), RunError> {
    let mut context = Context::from_origin(ledger.gateway.as_str());
    if plays("event-id-as-command-key") {
        context.key = decision.context.causation_id.clone().map(|key| CommandKey { key, fingerprint: vec![] });
    } else if !plays("append-before-base") {
        return Ok(());
    }
    ledger.store.execute(&decision.customer.id, decision.command.clone(), context).await?;
    Ok(())
}
