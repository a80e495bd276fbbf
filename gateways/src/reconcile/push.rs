//! Push: what the remote must be told, stored as an intent.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use tandem_domain::{Customer, Field, Profile, differences};

use super::{Run, RunError};
use crate::intent::{self, Intent};
use crate::link::LinkState;
use crate::{Write, parked};

/// Stores the next call as the link's open intent. Returns false when nothing differs.
///
/// Local against base decides, for every gateway alike. Where a change came from never does: a value that came from
/// here and was changed back elsewhere must be told again.
pub(super) async fn push(run: &mut Run<'_>) -> Result<bool, RunError> {
    let loaded = run.with.store.load(&run.link.customer_id.to_string()).await?;
    let Some(write) = next_write(run, &loaded.aggregate) else {
        return Ok(false);
    };
    if run.link.refused.as_ref() == Some(&write) {
        return Ok(false);
    }
    let body = run.gateway().freeze(&write);
    let base = run.link.base.as_ref().map(|base| base.profile.clone()).unwrap_or_default();
    let mut intent = Intent::new(write, body, &base, BTreeMap::new(), run.now());
    intent.edited_at = edit_times(&loaded.aggregate, &intent);

    let mut tx = run.begin().await?;
    intent::store(&mut tx, run.link.id, &intent).await?;
    if run.link.refused.is_some() {
        parked::supersede(&mut tx, run.link.id).await?;
    }
    tx.commit().await?;
    run.link.refused = None;
    Ok(true)
}

fn next_write(run: &Run<'_>, customer: &Customer) -> Option<Write> {
    if run.link.state != LinkState::Active {
        return None;
    }
    match (customer, &run.link.remote_id) {
        (Customer::Unborn, _) | (Customer::Deleted { .. }, None) => None,
        (Customer::Active { profile, .. }, None) => {
            Some(Write::Create { customer: run.link.customer_id, profile: profile.clone() })
        }
        (Customer::Active { profile, .. }, Some(remote_id)) => {
            let nothing = Profile::default();
            let base = run.link.base.as_ref().map_or(&nothing, |base| &base.profile);
            let patch = differences(profile, base, &run.link.spellings);
            (!patch.is_empty()).then(|| Write::Update { remote_id: remote_id.clone(), patch })
        }
        (Customer::Deleted { .. }, Some(remote_id)) => Some(Write::Delete { remote_id: remote_id.clone() }),
    }
}

fn edit_times(customer: &Customer, intent: &Intent) -> BTreeMap<Field, DateTime<Utc>> {
    intent
        .sent()
        .into_keys()
        .filter_map(|field| customer.stamp(&field).map(|stamp| (field.clone(), stamp.edited_at)))
        .collect()
}
