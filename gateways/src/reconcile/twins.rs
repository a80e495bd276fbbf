//! Before a customer is created there, or an object imported here: whether the other side has its twin.
//!
//! The look and what follows it are no one step: a twin that is born in between stays one. It is found when it is told of,
//! if its other half is not linked by then.

use std::collections::BTreeMap;

use tandem_domain::{Customer, CustomerId, Field, Profile, RemoteId};
use tandem_eventlog::Loaded;
use tracing::info;
use uuid::Uuid;

use super::merge::{Observation, Sighted};
use super::{Run, RunError};
use crate::ledger::Change;
use crate::link::LinkState;
use crate::{Matching, Object};

/// Whether the customer may be created there. If not, it is parked, or linked to its twin.
pub(super) async fn may_be_created(run: &mut Run<'_>, profile: &Profile) -> Result<bool, RunError> {
    let Some(email) = asks(run, profile) else {
        no_longer_ambiguous(run).await?;
        return Ok(true);
    };
    let CustomerId(customer) = run.link.customer_id;
    let objects = objects(run, email).await?;
    let (ours, strangers): (Vec<_>, Vec<_>) = objects.into_iter().partition(|(_, owner)| owner.is_some());
    // What says that it is ours is more than a twin: a copy whose link was lost.
    let certain = !ours.is_empty();
    let found: Vec<String> = if certain { ours } else { strangers }.into_iter().map(|(id, _)| id).collect();
    match found.as_slice() {
        [] => {
            no_longer_ambiguous(run).await?;
            return Ok(true);
        }
        [only] if certain || run.with.matching == Matching::Email && is_alone(run, email, customer).await? => {
            unite(run, customer, RemoteId::from(only.clone())).await?;
        }
        _ => park(run, &found, &[]).await?,
    }
    Ok(false)
}

/// The observation, if the object may be imported, or is already. If not, it is parked, or linked to its twin.
pub(super) async fn may_be_imported(
    run: &mut Run<'_>,
    observation: Observation,
    customer: &Loaded<Customer>,
) -> Result<Option<Observation>, RunError> {
    if !matches!(customer.aggregate, Customer::Unborn) {
        return unless_dead_before(run, observation, &customer.aggregate).await;
    }
    let email = match &observation.sight {
        Sighted::Present(profile, _) => asks(run, profile),
        Sighted::Nothing | Sighted::Gone(_) => None,
    };
    let Some(email) = email else {
        no_longer_in_question(run).await?;
        return Ok(Some(observation));
    };
    // Emails follow the feed: behind it, a customer of a moment ago would be imported once more.
    if !run.with.ledger.is_told().await? {
        return Err(RunError::Behind);
    }
    let found = run.with.ledger.twins(email).await?;
    match found.as_slice() {
        [] => {
            no_longer_in_question(run).await?;
            return Ok(Some(observation));
        }
        [only]
            if run.with.matching == Matching::Email && is_only_object(run, email, &observation.remote_id).await? =>
        {
            unite(run, *only, observation.remote_id).await?;
        }
        _ => {
            let found: Vec<String> = found.iter().map(Uuid::to_string).collect();
            // Others may have been taken for its twin by the email that it had before.
            run.with.ledger.no_candidate_but_of(&run.link, &found).await?;
            park(run, &found, &observation.rows).await?;
        }
    }
    Ok(None)
}

/// The observation, unless it says that a twin, which was linked and never seen since, is dead.
async fn unless_dead_before(
    run: &mut Run<'_>,
    observation: Observation,
    customer: &Customer,
) -> Result<Option<Observation>, RunError> {
    let alive = matches!(customer, Customer::Active { .. }) && run.link.state == LinkState::Active;
    // A deletion that a person was asked about is none of a twin.
    let asked = run.link.asked.is_some();
    let joined =
        !asked && run.link.remote_id.is_some() && run.link.base.is_none() && customer.remote_id(run.name()).is_none();
    if !(alive && joined && matches!(observation.sight, Sighted::Gone(_))) {
        return Ok(Some(observation));
    }
    run.store([Change::Finish(observation.rows), Change::LetGo(observation.remote_id)]).await?;
    (run.link.remote_id, run.link.look) = (None, false);
    Ok(None)
}

/// What it was parked for, if it was, is a question no longer.
pub(super) async fn no_longer_ambiguous(run: &mut Run<'_>) -> Result<(), RunError> {
    if run.link.ambiguous {
        run.with.ledger.no_longer_ambiguous(&run.link).await?;
        run.link.ambiguous = false;
    }
    Ok(())
}

/// The same, and it is no candidate of others: it is dead, has another email, or is somebody's by now. Who is looked at again finds
/// out whether they have another.
pub(super) async fn no_longer_in_question(run: &mut Run<'_>) -> Result<(), RunError> {
    run.with.ledger.no_longer_ambiguous(&run.link).await?;
    run.link.ambiguous = false;
    Ok(())
}

/// The email by which a twin is looked for, if one is.
fn asks<'a>(run: &Run<'_>, profile: &'a Profile) -> Option<&'a str> {
    if run.with.matching == Matching::Never || run.link.apart {
        return None;
    }
    profile.text(&Field::Email)
}

/// The living objects with that email that are nobody's, or say that they are this customer's.
async fn objects(run: &mut Run<'_>, email: &str) -> Result<Vec<(String, Option<CustomerId>)>, RunError> {
    let customer = run.link.customer_id;
    let seen = run.call(run.gateway().with_email(email)).await??;
    let told = run.with.ledger.told(email).await?;
    let mut found: BTreeMap<String, Option<CustomerId>> = seen
        .into_iter()
        .filter_map(|seen| match seen.object {
            Object::Present { remote_id, customer: owner, .. } => Some((remote_id.as_str().to_owned(), owner)),
            Object::Gone { .. } => None,
        })
        .collect();
    for (id, owner) in told {
        found.entry(id).or_insert(owner);
    }
    found.retain(|_, owner| owner.is_none_or(|owner| owner == customer));
    if found.is_empty() {
        return Ok(vec![]);
    }
    let ids: Vec<&str> = found.keys().map(String::as_str).collect();
    let unlinked = run.with.ledger.unlinked(&ids).await?;
    Ok(found.into_iter().filter(|(id, _)| unlinked.contains(id)).collect())
}

/// No other customer with that email waits for an object.
async fn is_alone(run: &Run<'_>, email: &str, customer: Uuid) -> Result<bool, RunError> {
    let customers = run.with.ledger.twins(email).await?;
    Ok(customers.iter().all(|one| *one == customer))
}

async fn is_only_object(run: &mut Run<'_>, email: &str, remote_id: &RemoteId) -> Result<bool, RunError> {
    Ok(objects(run, email).await?.iter().all(|(id, _)| id == remote_id.as_str()))
}

/// Links the two. The run ends without its lease: the next one looks at the object, and merges.
async fn unite(run: &mut Run<'_>, customer: Uuid, remote_id: RemoteId) -> Result<(), RunError> {
    run.with.ledger.unite(&run.link, customer, &remote_id).await?;
    info!(customer.id = %customer, gateway = %run.name(), "linked a customer to the object with the same email");
    Ok(())
}

async fn park(run: &mut Run<'_>, candidates: &[String], rows: &[i64]) -> Result<(), RunError> {
    run.store([Change::Finish(rows.to_vec()), Change::Ask(candidates.to_vec())]).await?;
    (run.link.look, run.link.ambiguous) = (false, true);
    info!(gateway = %run.name(), candidates = candidates.len(), "parked what may be a twin: a person must say");
    Ok(())
}
