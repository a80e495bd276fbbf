//! Observe: what the inbox says that the remote holds, or, where that is unclear, the remote itself.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use tandem_domain::{Field, Interval, Order, Profile, RemoteId};
use tandem_eventlog::zoo::plays;

use super::echoes::{self, Echo};
use super::edit_times::changed_fields;
use super::merge::{Observation, Sighted};
use super::order::{is_to_come, made_at, order};
use super::settle::spellings_told;
use super::{Run, RunError};
use crate::inbox::Row;
use crate::intent::Intent;
use crate::ledger::Change;
use crate::link::LinkState;
use crate::{ChangeKind, Object, RemoteChange, zoo};

/// What there is to take in of what the inbox says; `None` if nothing waits.
pub(super) async fn observe(run: &mut Run<'_>, mut rows: Vec<Row>) -> Result<Option<Observation>, RunError> {
    let named = run.link.remote_id.clone().or_else(|| rows.first().map(|row| row.change.remote_id.clone()));
    let Some(remote_id) = named else { return Ok(None) };
    // Of several objects that carry our id only one is ours. The router finds the others again, and parks them.
    let strays: Vec<i64> = rows.extract_if(.., |row| row.change.remote_id != remote_id).map(|row| row.id).collect();
    if !strays.is_empty() {
        run.store([Change::HandBack(strays)]).await?;
    }
    let asked = run.link.look && run.link.state == LinkState::Active;
    if rows.is_empty() && !asked {
        return Ok(None);
    }
    let echoes = echoes::among(run, &rows).await?;

    let mut observation = match judge(run, &rows, &echoes) {
        Judgement::Known | Judgement::News(_) if asked => look_after(run, remote_id, &rows, &echoes).await?,
        Judgement::Gone(change) => {
            let mut gone = Observation::new(remote_id, Sighted::Gone(Some(last_of(run, change))));
            gone.causation = Some(change.event_id.clone());
            gone.gone_at = Some(made_at(run, change));
            gone
        }
        Judgement::Known => Observation::new(remote_id, Sighted::Nothing),
        Judgement::News(row) => taken(run, remote_id, row, echoes.get(&row.id)),
        Judgement::Unclear(change) => {
            let mut looked = look_after(run, remote_id, &rows, &echoes).await?;
            looked.causation = Some(change.event_id.clone());
            looked
        }
    };
    observation.rows = rows.iter().map(|row| row.id).collect();
    for row in &rows {
        let Some(echo) = echoes.get(&row.id) else { continue };
        if echo.is_late() {
            observation.spellings.extend(spellings_told(&echo.intent, &row.change));
        }
        if echo.is_first() {
            observation.echoes.push(echo.intent.key.clone());
        }
        observation.overwritten.extend(echo.overwritten(run, &row.change));
    }
    Ok(Some(observation))
}

/// Whether the inbox says anything that is to be taken in: more than our last sight includes, or of an edit that a call of
/// ours wrote over. That the open call arrived is no news: its repeat is answered as it was.
pub(super) async fn is_news(run: &Run<'_>, open: Option<&Intent>, told: &[Row]) -> Result<bool, RunError> {
    let ours = |row: &&Row| run.link.remote_id.as_ref().is_none_or(|ours| row.change.remote_id == *ours);
    let arrived = |row: &&Row| open.is_some_and(|open| row.change.idempotency_key.as_ref() == Some(&open.key));
    let rows: Vec<Row> = told.iter().filter(ours).filter(|row| !arrived(row)).cloned().collect();
    let echoes = echoes::among(run, &rows).await?;
    let wrote_over = |row: &Row| echoes.get(&row.id).is_some_and(|echo| !echo.overwritten(run, &row.change).is_empty());
    Ok(match judge(run, &rows, &echoes) {
        Judgement::Known => rows.iter().any(wrote_over),
        // Our own delete, which was told to end what we knew.
        Judgement::Gone(change) if run.link.state == LinkState::Deleted => {
            run.link.base.as_ref().is_none_or(|base| !base.profile.equals(&last_of(run, change)))
        }
        Judgement::Gone(_) | Judgement::News(_) | Judgement::Unclear(_) => true,
    })
}

/// Asks the remote. Taken without comparing: nobody else can have seen anything later under our lease.
pub(super) async fn look(run: &mut Run<'_>, remote_id: RemoteId) -> Result<Observation, RunError> {
    let known = run.known();
    look_knowing(run, remote_id, &known).await
}

/// The same, where what is known of the remote is not the link's base.
pub(super) async fn look_knowing(
    run: &mut Run<'_>,
    remote_id: RemoteId,
    known: &Profile,
) -> Result<Observation, RunError> {
    let seen = run.call(run.gateway().retrieve(&remote_id)).await??;
    let sight = match seen.object {
        Object::Present { profile, untold, .. } => Sighted::Present(untold.filled(profile, known), seen.interval),
        Object::Gone { .. } => Sighted::Gone(None),
    };
    Ok(Observation::new(remote_id, sight))
}

enum Judgement<'a> {
    /// Deleted: final, whatever its time.
    Gone(&'a RemoteChange),
    /// Nothing that our last sight of it does not include.
    Known,
    /// One change that is surely later than our last sight: its object is what the remote holds.
    News(&'a Row),
    /// It cannot be known without asking.
    Unclear(&'a RemoteChange),
}

fn judge<'a>(run: &Run<'_>, rows: &'a [Row], echoes: &BTreeMap<i64, Echo>) -> Judgement<'a> {
    let deletion = rows.iter().rev().find(|row| row.change.kind == ChangeKind::Deleted);
    match (run.link.state, deletion) {
        (LinkState::Active | LinkState::Deleted, Some(row)) => return Judgement::Gone(&row.change),
        // Of what was unlinked because it is gone, this tells what it held last.
        (LinkState::Unlinked, Some(row)) if run.link.remote_id.is_some() => return Judgement::Gone(&row.change),
        (LinkState::Active, None) => {}
        (LinkState::Deleted, None) | (LinkState::Unlinked, _) => return Judgement::Known,
    }
    let mut news: Option<&Row> = None;
    if plays("every-snapshot-as-it-comes") {
        return rows.last().map_or(Judgement::Known, Judgement::News);
    }
    for row in rows {
        let change = &row.change;
        if echoes.get(&row.id).is_some_and(Echo::is_known) {
            continue;
        }
        let order = match &run.link.base {
            Some(base) if plays("time-as-a-point") => zoo::as_points(change, base, true),
            Some(base) if plays("order-by-created") => zoo::as_points(change, base, false),
            Some(base) if plays("previous-attributes-order") => zoo::by_previous(change, base),
            Some(base) => order(run, change, base),
            None if is_to_come(run, &Interval::of_event(change.created)) => Order::Overlapping,
            // Our own create whose reply was lost: the object says so, or the call's key, but not what became of it since.
            None if change.customer == Some(run.link.customer_id) || echoes.contains_key(&row.id) => Order::Overlapping,
            None => Order::After,
        };
        match order {
            Order::Before => {}
            // What it does not tell is asked.
            Order::After if !change.untold.is_nothing() => return Judgement::Unclear(change),
            Order::After if news.is_none() || zoo::POINTWISE.into_iter().any(plays) => {
                news = Some(row);
            }
            Order::After | Order::Overlapping => return Judgement::Unclear(change),
        }
    }
    news.map_or(Judgement::Known, Judgement::News)
}

/// What a deleted object held last: nobody can be asked what the deletion does not tell.
fn last_of(run: &Run<'_>, deletion: &RemoteChange) -> Profile {
    deletion.untold.filled(deletion.profile.clone(), &run.known())
}

/// The object inside an event, with the time of the edit that the event tells of.
fn taken(run: &Run<'_>, remote_id: RemoteId, row: &Row, echo: Option<&Echo>) -> Observation {
    let change = &row.change;
    let interval = Interval::of_event(change.created);
    let mut observation = Observation::new(remote_id, Sighted::Present(change.profile.clone(), interval));
    observation.edited_at = edits(run, change, echo).map(|(field, at)| (field.clone(), at)).collect();
    observation.causation = Some(change.event_id.clone());
    observation
}

/// The fields that a change set, and when a person chose their values, by our clock. A late send of ours tells what a person
/// chose here, when they chose it.
fn edits<'a>(
    run: &Run<'_>,
    change: &'a RemoteChange,
    echo: Option<&'a Echo>,
) -> impl Iterator<Item = (&'a Field, DateTime<Utc>)> {
    let there = made_at(run, change);
    let chosen = move |field| echo.and_then(|echo| echo.intent.edited_at(field)).unwrap_or(there);
    changed_fields(change).into_iter().map(move |field| (field, chosen(field)))
}

/// A look, and when what it saw was set there, as far as the rows tell: it may have been long ago.
async fn look_after(
    run: &mut Run<'_>,
    remote_id: RemoteId,
    rows: &[Row],
    echoes: &BTreeMap<i64, Echo>,
) -> Result<Observation, RunError> {
    let mut looked = look(run, remote_id).await?;
    let Sighted::Present(profile, _) = &looked.sight else { return Ok(looked) };
    let mut rows: Vec<&Row> = rows.iter().collect();
    rows.sort_by_key(|row| row.change.created);
    for row in rows {
        for (field, at) in edits(run, &row.change, echoes.get(&row.id)) {
            if profile.get(field) == row.change.profile.get(field) {
                looked.told_at.insert(field.clone(), at);
            } else {
                looked.told_at.remove(field);
            }
        }
    }
    Ok(looked)
}
