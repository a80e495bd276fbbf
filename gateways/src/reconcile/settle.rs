//! Settle: find out what became of the link's open call, by sending it or by looking.

use sqlx::types::Json;
use tandem_domain::{Profile, Spelling, Spellings};
use tracing::{info, warn};

use super::merge::{Observation, Sighted, merge};
use super::observe::{look, overwritten};
use super::{Run, RunError};
use crate::intent::{self, Intent, Outcome};
use crate::{Call, CallError, Object, Reply, Seen, Write, parked};

/// Settles the open intent, if there is one: afterwards there is none, or an error says when to try again.
pub(super) async fn settle(run: &mut Run<'_>) -> Result<(), RunError> {
    let Some(intent) = intent::open(&run.with.pool, run.link.id).await? else { return Ok(()) };
    run.renew().await?;
    if !intent.may_be_sent(run.now()) {
        return look_for(run, intent).await;
    }
    let call = Call { write: &intent.write, body: &intent.body, key: &intent.key };
    match run.gateway().send(&call).await {
        Ok(Reply { seen, replayed: false }) => {
            let mut observation = sighted(seen);
            observation.spellings = spellings(&intent, &observation.sight);
            observation.base = created_as(&intent);
            close(run, &intent, observation, Outcome::Executed).await
        }
        Ok(Reply { seen, replayed: true }) => replayed(run, intent, seen).await,
        Err(CallError::Missing) => gone(run, &intent).await,
        Err(CallError::Failed { reason }) => {
            warn!(customer.id = %run.link.customer_id, gateway = %run.name(), "a call failed half-way: {reason}");
            let mut tx = run.begin().await?;
            intent::spoil(&mut tx, &intent.key).await?;
            tx.commit().await?;
            look_for(run, intent).await
        }
        Err(CallError::Rejected { field, code, reason }) => park(run, &intent, field, code, reason).await,
        Err(error @ (CallError::Unavailable { .. } | CallError::Unauthorised { .. })) => Err(error.into()),
    }
}

/// The old answer proves only that our call ran once. What is so now is asked, and closes the intent.
async fn replayed(run: &mut Run<'_>, intent: Intent, then: Seen) -> Result<(), RunError> {
    let then = sighted(then);
    let mut now = look(run, then.remote_id.clone()).await?;
    now.spellings = spellings(&intent, &then.sight);
    now.base = created_as(&intent);
    close(run, &intent, now, Outcome::Executed).await
}

/// A call that must not be sent again: too old for its key, or answered with an error that would be repeated.
async fn look_for(run: &mut Run<'_>, intent: Intent) -> Result<(), RunError> {
    match intent.write.clone() {
        Write::Create { customer, profile } => {
            let since = intent.created_at + run.gateway().clock_offset() - SLACK;
            let mut found = run.gateway().created_for(customer, since).await?;
            match found.pop() {
                Some(seen) => {
                    let mut observation = sighted(seen);
                    // What we sent is what it last was, as far as anybody here has seen.
                    observation.base = Some(profile);
                    close(run, &intent, observation, Outcome::Executed).await
                }
                None => abandon(run, &intent).await,
            }
        }
        Write::Update { remote_id, .. } | Write::Delete { remote_id } => {
            let since = intent.created_at + run.gateway().clock_offset() - SLACK;
            let changes = run.gateway().changes(since, Some(&remote_id)).await?;
            let ours = changes.iter().find(|change| change.idempotency_key.as_deref() == Some(intent.key.as_str()));
            run.renew().await?;
            let mut now = look(run, remote_id).await?;
            match ours {
                Some(change) => {
                    now.spellings = spellings_of(&intent, &change.profile);
                    now.overwritten = overwritten(&intent, change);
                    now.echoes.push(intent.key.clone());
                    close(run, &intent, now, Outcome::Executed).await
                }
                None => close(run, &intent, now, Outcome::Abandoned).await,
            }
        }
    }
}

/// How much earlier than our first attempt, by the remote's clock, its effect is looked for.
const SLACK: chrono::TimeDelta = chrono::TimeDelta::minutes(5);

async fn close(
    run: &mut Run<'_>,
    intent: &Intent,
    mut observation: Observation,
    outcome: Outcome,
) -> Result<(), RunError> {
    observation.closes = Some((intent.key.clone(), outcome));
    merge(run, observation).await
}

async fn abandon(run: &mut Run<'_>, intent: &Intent) -> Result<(), RunError> {
    let mut tx = run.begin().await?;
    intent::close(&mut tx, &intent.key, Outcome::Abandoned).await?;
    Ok(tx.commit().await?)
}

/// A 404 is a deletion that nobody has told us of yet.
async fn gone(run: &mut Run<'_>, intent: &Intent) -> Result<(), RunError> {
    match &intent.write {
        // Of a create it says nothing about the customer.
        Write::Create { .. } => {
            let reason = "the gateway knows nothing of what the call names".to_owned();
            park(run, intent, None, Some("resource_missing".to_owned()), reason).await
        }
        Write::Update { remote_id, .. } => {
            let observation = Observation::new(remote_id.clone(), Sighted::Gone(None));
            close(run, intent, observation, Outcome::Abandoned).await
        }
        Write::Delete { remote_id } => {
            let observation = Observation::new(remote_id.clone(), Sighted::Gone(None));
            close(run, intent, observation, Outcome::Executed).await
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
    let mut tx = run.begin().await?;
    intent::close(&mut tx, &intent.key, Outcome::Abandoned).await?;
    sqlx::query("UPDATE links SET refused = $2 WHERE id = $1")
        .bind(run.link.id)
        .bind(Json(&intent.write))
        .execute(&mut *tx)
        .await?;
    parked::rejected(&mut tx, run.name(), &run.link, field.as_deref(), code.as_deref(), &reason).await?;
    tx.commit().await?;
    run.link.refused = Some(intent.write.clone());
    Ok(())
}

fn sighted(seen: Seen) -> Observation {
    match seen.object {
        Object::Present { remote_id, profile, .. } => {
            Observation::new(remote_id, Sighted::Present(profile, seen.interval))
        }
        Object::Gone { remote_id } => Observation::new(remote_id, Sighted::Gone(None)),
    }
}

/// Of a create, the fields that we sent are what the remote was last known to hold.
fn created_as(intent: &Intent) -> Option<Profile> {
    match &intent.write {
        Write::Create { profile, .. } => Some(profile.clone()),
        Write::Update { .. } | Write::Delete { .. } => None,
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
