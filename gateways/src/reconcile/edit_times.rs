//! Edit times: when a person at the gateway chose a value. On a conflict they decide.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use tandem_domain::{Customer, Field, Overwritten, Value};

use super::merge::{Observation, Sighted};
use super::{Run, RunError, history};
use crate::intent::Intent;
use crate::{ChangeKind, RemoteChange};

/// How far before the catalog's own edit an edit at the gateway is looked for: as far as the clocks may differ.
const LOOK_BACK: TimeDelta = TimeDelta::minutes(5);

/// On a conflict the edit times decide, and the gateway's list of changes has them. What was edited there before the oldest
/// edit here that is in question loses anyhow: it need not be found.
pub(super) async fn look_up(
    run: &mut Run<'_>,
    observation: &mut Observation,
    customer: &Customer,
    guessed: &BTreeSet<Field>,
) -> Result<(), RunError> {
    let offset = run.gateway().clock_offset();
    let sent = observation.overwritten.iter().filter_map(|overwritten| overwritten.sent_edited_at);
    let here = guessed.iter().filter_map(|field| customer.stamp(field)).map(|stamp| stamp.edited_at);
    let Some(oldest) = sent.chain(here).min() else { return Ok(()) };
    let enough = |found: &[RemoteChange]| {
        guessed.iter().all(|field| found.iter().any(|change| changed_fields(change).contains(&field)))
            && observation.overwritten.iter().all(|one| found.iter().any(|change| made(change, one)))
    };
    let since = oldest + offset - LOOK_BACK;
    let changes = history::changes(run, since, Some(&observation.remote_id), |_| true, enough).await?;
    let keys: Vec<&str> = changes.iter().filter_map(|change| change.idempotency_key.as_deref()).collect();
    let ours = run.with.ledger.intents(&run.link, &keys).await?;
    let found = last_edits(&changes, &ours, offset);
    if let Sighted::Present(profile, _) = &observation.sight {
        for field in guessed {
            match found.get(field) {
                Some((value, at)) if profile.get(field) == value.as_ref() => {
                    observation.edited_at.insert(field.clone(), *at);
                }
                // A change so new that it is not listed yet: the time of the sight is as good as any.
                Some(_) => {}
                None => {
                    observation.edited_at.insert(field.clone(), oldest - LOOK_BACK);
                }
            }
        }
    }
    for overwritten in &mut observation.overwritten {
        let edit = changes.iter().rev().find(|change| made(change, overwritten));
        let at = edit.map(|change| edited_at(change, &overwritten.field, &ours, offset));
        overwritten.previous.edited_at = Some(at.unwrap_or(oldest - LOOK_BACK));
    }
    Ok(())
}

/// Whether that change set what was overwritten.
fn made(change: &RemoteChange, overwritten: &Overwritten) -> bool {
    change.previous.contains_key(&overwritten.field)
        && change.profile.get(&overwritten.field) == overwritten.previous.value.as_ref()
}

/// The last edit of each field, by our clock, with the value that it set.
fn last_edits(
    changes: &[RemoteChange],
    ours: &[Intent],
    offset: TimeDelta,
) -> BTreeMap<Field, (Option<Value>, DateTime<Utc>)> {
    let mut edits = BTreeMap::new();
    for change in changes {
        for field in changed_fields(change) {
            let at = edited_at(change, field, ours, offset);
            edits.insert(field.clone(), (change.profile.get(field).cloned(), at));
        }
    }
    edits
}

/// When a person chose what a change set, by our clock: here, if a call of ours made it.
fn edited_at(change: &RemoteChange, field: &Field, ours: &[Intent], offset: TimeDelta) -> DateTime<Utc> {
    let intent = ours.iter().find(|intent| change.idempotency_key.as_deref() == Some(intent.key.as_str()));
    intent.and_then(|intent| intent.edited_at(field)).unwrap_or(edit_time(change) - offset)
}

/// The fields that a change set: at a creation, all.
pub(super) fn changed_fields(change: &RemoteChange) -> Vec<&Field> {
    match change.kind {
        ChangeKind::Created => change.profile.iter().map(|(field, _)| field).collect(),
        ChangeKind::Updated | ChangeKind::Deleted => change.previous.keys().collect(),
    }
}

/// A stamp of whole seconds says that the edit was made within the second that it begins: its middle is the fairest
/// guess.
pub(super) fn edit_time(change: &RemoteChange) -> DateTime<Utc> {
    change.created + TimeDelta::milliseconds(500)
}
