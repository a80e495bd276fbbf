//! Edit times: when a person at the gateway chose a value. On a conflict they decide.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use tandem_domain::{Customer, Field, Overwritten, Value};

use super::history::{self, Found};
use super::merge::{Observation, Sighted};
use super::order::made_at;
use super::{Run, RunError};
use crate::intent::Intent;
use crate::link::Base;
use crate::{ChangeKind, RemoteChange};

/// How far before the catalog's own edit an edit at the gateway is looked for: as far as the clocks may differ.
const LOOK_BACK: TimeDelta = TimeDelta::minutes(5);

/// How long ago an edit may have been made for "just now" to be near enough: about as long as a sight takes.
const JUST_NOW: TimeDelta = TimeDelta::seconds(10);

/// How many pages of the account's changes are read.
const PAGES: usize = 10;

/// What nobody told of, and a sight after a long time shows, is as old as the gateway's list of changes says: it may be
/// taken in without a conflict now, and decide one with a third side later.
pub(super) async fn date(run: &mut Run<'_>, observation: &mut Observation) -> Result<(), RunError> {
    let Some(base) = &run.link.base else { return Ok(()) };
    let since = base.interval.from();
    let untold = untold(observation, base);
    if untold.is_empty() {
        return Ok(());
    }
    let enough = |found: &[RemoteChange]| are_set(&untold, found);
    // What is older than that reads back stays undated, and counts as edited when it was seen.
    let Found { changes, .. } =
        history::changes(run, since, Some(&observation.remote_id), PAGES, |_| true, enough).await?;
    let ours = ours_among(run, &changes).await?;
    let Sighted::Present(profile, _) = &observation.sight else { return Ok(()) };
    for field in untold {
        let stands = |change: &&RemoteChange| {
            changed_fields(change).contains(&&field) && change.profile.get(&field) == profile.get(&field)
        };
        if let Some(change) = changes.iter().rev().find(stands) {
            observation.edited_at.insert(field.clone(), edited_at(run, change, &field, &ours));
        }
    }
    Ok(())
}

/// The fields that hold what we neither knew nor sent, and that nobody has told of.
fn untold(observation: &Observation, base: &Base) -> BTreeSet<Field> {
    let Sighted::Present(profile, interval) = &observation.sight else { return BTreeSet::new() };
    if interval.until() - base.interval.from() <= JUST_NOW {
        return BTreeSet::new();
    }
    let known = observation.base.as_ref().unwrap_or(&base.profile);
    let is_told = |field: &Field| {
        observation.edited_at.contains_key(field)
            || observation.told_at.contains_key(field)
            || observation.spellings.get(field).is_some_and(|spelling| spelling.held.as_ref() == profile.get(field))
    };
    profile
        .fields_with(known)
        .filter(|field| profile.get(field) != known.get(field) && !is_told(field))
        .cloned()
        .collect()
}

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
        are_set(guessed, found)
            && observation.overwritten.iter().all(|one| found.iter().any(|change| made(change, one)))
    };
    let since = oldest + offset - LOOK_BACK;
    let Found { changes, is_cut } =
        history::changes(run, since, Some(&observation.remote_id), PAGES, |_| true, enough).await?;
    // What the list does not tell was edited before it begins; where it was not read so far, it was edited when it was seen, for all
    // that is known.
    let otherwise = if is_cut { run.now() } else { oldest - LOOK_BACK };
    let ours = ours_among(run, &changes).await?;
    let found = last_edits(run, &changes, &ours);
    if let Sighted::Present(profile, _) = &observation.sight {
        for field in guessed {
            match found.get(field) {
                Some((value, at)) if profile.get(field) == value.as_ref() => {
                    observation.edited_at.insert(field.clone(), *at);
                }
                // A change so new that it is not listed yet: the time of the sight is as good as any.
                Some(_) => {}
                None => {
                    observation.edited_at.insert(field.clone(), otherwise);
                }
            }
        }
    }
    for overwritten in &mut observation.overwritten {
        let edit = changes.iter().rev().find(|change| made(change, overwritten));
        let at = edit.map(|change| edited_at(run, change, &overwritten.field, &ours));
        overwritten.previous.edited_at = Some(at.unwrap_or(otherwise));
    }
    Ok(())
}

/// Whether these changes set all of these fields.
fn are_set(fields: &BTreeSet<Field>, changes: &[RemoteChange]) -> bool {
    fields.iter().all(|field| changes.iter().any(|change| changed_fields(change).contains(&field)))
}

/// The calls of ours that made some of these changes.
async fn ours_among(run: &Run<'_>, changes: &[RemoteChange]) -> Result<Vec<Intent>, RunError> {
    let keys: Vec<&str> = changes.iter().filter_map(|change| change.idempotency_key.as_deref()).collect();
    if keys.is_empty() {
        return Ok(vec![]);
    }
    run.with.ledger.intents(&run.link, &keys).await
}

/// Whether that change set what was overwritten.
fn made(change: &RemoteChange, overwritten: &Overwritten) -> bool {
    change.previous.contains_key(&overwritten.field)
        && change.profile.get(&overwritten.field) == overwritten.previous.value.as_ref()
}

/// The last edit of each field, by our clock, with the value that it set.
fn last_edits(
    run: &Run<'_>,
    changes: &[RemoteChange],
    ours: &[Intent],
) -> BTreeMap<Field, (Option<Value>, DateTime<Utc>)> {
    let mut edits = BTreeMap::new();
    for change in changes {
        for field in changed_fields(change) {
            let at = edited_at(run, change, field, ours);
            edits.insert(field.clone(), (change.profile.get(field).cloned(), at));
        }
    }
    edits
}

/// When a person chose what a change set, by our clock: here, if a call of ours made it.
fn edited_at(run: &Run<'_>, change: &RemoteChange, field: &Field, ours: &[Intent]) -> DateTime<Utc> {
    let intent = ours.iter().find(|intent| change.idempotency_key.as_deref() == Some(intent.key.as_str()));
    intent.and_then(|intent| intent.edited_at(field)).unwrap_or_else(|| made_at(run, change))
}

/// The fields that a change set: at a creation, all.
pub(super) fn changed_fields(change: &RemoteChange) -> Vec<&Field> {
    match change.kind {
        ChangeKind::Created => change.profile.iter().map(|(field, _)| field).collect(),
        ChangeKind::Updated | ChangeKind::Deleted => change.previous.keys().collect(),
    }
}
