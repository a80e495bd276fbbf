//! Settle: find out what became of the link's open call, by sending it or by looking.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use tandem_domain::{Field, Profile, Spelling, Spellings};
use tandem_eventlog::crash;
use tandem_eventlog::zoo::plays;
use tracing::info;

use super::echoes::overwritten;
use super::history::{self, Found};
use super::merge::{Observation, Sighted, merge};
use super::observe::{look, look_knowing};
use super::{Run, RunError};
use crate::intent::{Intent, Outcome};
use crate::ledger::Change;
use crate::parked::TANDEM_ID;
use crate::{Call, CallError, Object, RemoteChange, Reply, Seen, Write};

/// Settles the open intent: afterwards there is none, or an error says when to try again.
pub(super) async fn settle(run: &mut Run<'_>, intent: &Intent) -> Result<(), RunError> {
    if !intent.may_be_sent(run.now()) {
        look_for(run, intent).await?;
        return Ok(());
    }
    let call = Call { write: &intent.write, body: &intent.body, key: &intent.key };
    let answer = run.call(run.gateway().send(&call)).await?;
    crash::at("call-answered");
    match answer {
        Ok(Reply { seen, replayed }) if !replayed || plays("replay-taken-for-now") => {
            let mut observation = sighted(run, intent, seen);
            observation.spellings = spellings(intent, &observation.sight);
            observation.base = created_as(intent);
            close(run, intent, observation, Outcome::Executed).await
        }
        Ok(Reply { seen, .. }) => replayed(run, intent, seen).await,
        Err(CallError::Missing) => missing(run, intent).await,
        Err(CallError::Failed { reason }) => {
            if plays("resend-after-a-saved-500") {
                return Err(CallError::Failed { reason }.into());
            }
            if plays("new-key-without-a-look") {
                abandon(run, intent).await?;
                return Err(CallError::Failed { reason }.into());
            }
            run.store([Change::Spoil(intent.key.clone())]).await?;
            match look_for(run, intent).await? {
                Outcome::Executed => Ok(()),
                // With a new key, but not before a while: what fails for one often fails for all.
                Outcome::Abandoned => Err(CallError::Failed { reason }.into()),
            }
        }
        Err(CallError::Rejected { field, code, reason }) => park(run, intent, field, code, reason).await,
        Err(error @ (CallError::Unavailable { .. } | CallError::Unauthorised { .. })) => {
            let create = matches!(intent.write, Write::Create { .. });
            if plays("no-stored-intent") && !create || plays("create-again-after-a-lost-reply") && create {
                abandon(run, intent).await?;
            }
            Err(error.into())
        }
    }
}

/// The old answer proves only that our call ran once. What is so now is asked, and closes the intent.
async fn replayed(run: &mut Run<'_>, intent: &Intent, then: Seen) -> Result<(), RunError> {
    let then = sighted(run, intent, then);
    let mut now = look_knowing(run, then.remote_id.clone(), &meant(run, intent)).await?;
    now.spellings = spellings(intent, &then.sight);
    now.base = created_as(intent);
    close(run, intent, now, Outcome::Executed).await
}

/// How much earlier than the intent, by the remote's clock, its effect is looked for: clocks may have been set since.
const SLACK: TimeDelta = TimeDelta::hours(1);

/// How many pages of the account's changes are read. Beyond them the object itself must tell: what was created and deleted since is
/// not found, and created again.
const PAGES: usize = 100;

/// A call that must not be sent again: too old for its key, or answered with an error that would be repeated. What became
/// of it is in the remote's list of changes, by our key, and in the remote itself.
async fn look_for(run: &mut Run<'_>, intent: &Intent) -> Result<Outcome, RunError> {
    let since = intent.created_at + run.gateway().clock_offset() - SLACK;
    let (target, customer) = match &intent.write {
        Write::Create { customer, .. } => (None, Some(*customer)),
        Write::Update { remote_id, .. } | Write::Claim { remote_id, .. } | Write::Delete { remote_id } => {
            (Some(remote_id.clone()), None)
        }
    };
    let carries_key = |change: &RemoteChange| change.idempotency_key.as_deref() == Some(intent.key.as_str());
    // Where the remote may have forgotten the key, a later event with it is of a repeat, and the first one is meant.
    let once = intent.is_remembered(run.now());
    let enough = |found: &[RemoteChange]| once && !found.is_empty();
    let Found { mut changes, .. } = history::changes(run, since, target.as_ref(), PAGES, carries_key, enough).await?;
    if plays("search-instead-of-list") {
        changes.clear();
    }
    let ours = changes.first();
    let mut now = match (ours.map(|change| change.remote_id.clone()).or(target), customer) {
        (Some(remote_id), _) => {
            let known = created_as(intent).unwrap_or_else(|| run.known());
            look_knowing(run, remote_id, &known).await?
        }
        // Not listed, or not yet. The object itself, in a list that lags behind nothing, says whose copy it is.
        (None, Some(customer)) => match run.call(run.gateway().created_for(customer, since)).await??.pop() {
            Some(seen) => sighted(run, intent, seen),
            None => return abandon(run, intent).await,
        },
        (None, None) => return abandon(run, intent).await,
    };
    now.base = created_as(intent);
    let outcome = match ours {
        Some(change) => {
            now.spellings = spellings_told(intent, change);
            now.overwritten = overwritten(intent, change, &intent.against);
            now.echoes.push(intent.key.clone());
            Outcome::Executed
        }
        None => {
            if let Sighted::Present(profile, _) = &now.sight {
                now.edited_at = edited_by_us(intent, profile);
            }
            if customer.is_some() { Outcome::Executed } else { Outcome::Abandoned }
        }
    };
    close(run, intent, now, outcome).await?;
    Ok(outcome)
}

/// Whatever holds what we sent may well hold it from us: no person there chose it later than the person here did.
fn edited_by_us(intent: &Intent, held: &Profile) -> BTreeMap<Field, DateTime<Utc>> {
    let sent = intent.sent().into_iter();
    sent.filter(|(field, value)| held.get(field) == value.as_ref())
        .filter_map(|(field, _)| intent.edited_at(&field).map(|at| (field, at)))
        .collect()
}

async fn close(
    run: &mut Run<'_>,
    intent: &Intent,
    mut observation: Observation,
    outcome: Outcome,
) -> Result<(), RunError> {
    observation.closes = Some((intent.key.clone(), outcome));
    observation.claimed = outcome == Outcome::Executed && matches!(intent.write, Write::Claim { .. });
    let customer = run.load().await?;
    merge(run, observation, customer).await?;
    Ok(())
}

async fn abandon(run: &mut Run<'_>, intent: &Intent) -> Result<Outcome, RunError> {
    run.store([Change::Close(intent.key.clone(), Outcome::Abandoned)]).await?;
    Ok(Outcome::Abandoned)
}

/// A deleted object can still be looked at, and says so. One that was never there is no deletion: the key may be of another
/// account, and a catalog must not follow it into the void.
async fn missing(run: &mut Run<'_>, intent: &Intent) -> Result<(), RunError> {
    let remote_id = match &intent.write {
        Write::Create { .. } => None,
        Write::Update { remote_id, .. } | Write::Claim { remote_id, .. } | Write::Delete { remote_id } => {
            Some(remote_id.clone())
        }
    };
    if let Some(remote_id) = remote_id.clone() {
        match look(run, remote_id).await {
            Ok(observation) => return close(run, intent, observation, Outcome::Abandoned).await,
            Err(RunError::Call(CallError::Missing)) => {}
            Err(error) => return Err(error),
        }
    }
    match (&intent.write, remote_id) {
        // What is not there is deleted enough.
        (Write::Delete { .. }, Some(remote_id)) => {
            close(run, intent, Observation::new(remote_id, Sighted::Gone(None)), Outcome::Abandoned).await
        }
        _ => {
            let reason = "the gateway knows no such object: is the key of another account?".to_owned();
            park(run, intent, None, Some("resource_missing".to_owned()), reason).await
        }
    }
}

/// Repeating cannot help: a person must look. The link goes on observing, and a different push is tried.
async fn park(
    run: &mut Run<'_>,
    intent: &Intent,
    field: Option<String>,
    code: Option<String>,
    reason: String,
) -> Result<(), RunError> {
    info!(
        customer.id = %run.link.customer_id, gateway = %run.name(), field, code,
        "parked a push that the gateway rejected"
    );
    let field = if matches!(intent.write, Write::Claim { .. }) { Some(TANDEM_ID.to_owned()) } else { field };
    let reason =
        format!("{reason}. A change of it here is sent again, and so is all of it by POST /parked/{{id}}/retry");
    let mut refused = run.link.refused.clone();
    let left_out = refused.add(intent, field.as_deref());
    let fields =
        if left_out.is_empty() { field.into_iter().collect() } else { left_out.iter().map(Field::to_string).collect() };
    let closes = Change::Close(intent.key.clone(), Outcome::Abandoned);
    run.store([closes, Change::Reject { refused: Some(refused.clone()), fields, code, reason }]).await?;
    run.link.refused = refused;
    Ok(())
}

/// The object as our call left it.
fn sighted(run: &Run<'_>, intent: &Intent, seen: Seen) -> Observation {
    match seen.object {
        Object::Present { remote_id, profile, untold, .. } => {
            let profile = untold.filled(profile, &meant(run, intent));
            Observation::new(remote_id, Sighted::Present(profile, seen.interval))
        }
        Object::Gone { remote_id } => Observation::new(remote_id, Sighted::Gone(None)),
    }
}

/// Of a create, the fields that we sent are what the remote was last known to hold.
fn created_as(intent: &Intent) -> Option<Profile> {
    match &intent.write {
        Write::Create { profile, .. } => Some(profile.clone()),
        Write::Update { .. } | Write::Claim { .. } | Write::Delete { .. } => None,
    }
}

/// What the call was to make of the object, as far as it was known before.
fn meant(run: &Run<'_>, intent: &Intent) -> Profile {
    match &intent.write {
        Write::Create { profile, .. } => profile.clone(),
        Write::Update { patch, .. } => patch.applied_to(&run.known()),
        Write::Claim { .. } | Write::Delete { .. } => run.known(),
    }
}

/// What the remote made of each field that we sent.
fn spellings(intent: &Intent, held: &Sighted) -> Spellings {
    match held {
        Sighted::Present(profile, _) => spellings_of(intent, profile),
        Sighted::Nothing | Sighted::Gone(_) => Spellings::new(),
    }
}

fn spellings_of(intent: &Intent, held: &Profile) -> Spellings {
    intent
        .sent()
        .into_iter()
        .map(|(field, sent)| (field.clone(), Spelling { sent, held: held.get(&field).cloned() }))
        .collect()
}

/// The same as far as a change tells.
pub(super) fn spellings_told(intent: &Intent, change: &RemoteChange) -> Spellings {
    let mut spellings = spellings_of(intent, &change.profile);
    spellings.retain(|field, _| !change.untold.has(field));
    spellings
}
