//! Merge: one transaction takes in what was seen, and everything that this settles.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgTransaction;
use sqlx::types::Json;
use tandem_domain::{
    Customer, CustomerCommand, Field, Interval, Observe, Overwritten, Profile, RemoteId, Sight, Spellings, Value,
};
use tandem_eventlog::{Context, ExecuteError, Executed};

use super::{Run, RunError};
use crate::RemoteChange;
use crate::inbox;
use crate::intent::{self, Outcome};
use crate::link::{Base, LinkState};

/// A sight of the remote, with all that it settles.
#[derive(Clone, Debug)]
pub(super) struct Observation {
    pub remote_id: RemoteId,
    pub sight: Sighted,
    /// What the remote was last seen to hold, where that is not the link's base.
    pub base: Option<Profile>,
    /// What the remote made of what we sent, learnt just now.
    pub spellings: Spellings,
    /// When fields got their value there, by our clock, as far as is known.
    pub edited_at: BTreeMap<Field, DateTime<Utc>>,
    pub overwritten: Vec<Overwritten>,
    /// The inbox rows that end with this.
    pub rows: Vec<i64>,
    /// The intents whose echo was looked at.
    pub echoes: Vec<String>,
    /// The intent that ends with this.
    pub closes: Option<(String, Outcome)>,
    /// The gateway's id of the event that this follows from.
    pub causation: Option<String>,
}

/// What was seen.
#[derive(Clone, Debug)]
pub(super) enum Sighted {
    /// A living object at some time.
    Present(Profile, Interval),
    /// Nothing that was not known: the base stays.
    Nothing,
    /// A deletion, with the last fields where they are known.
    Gone(Option<Profile>),
}

impl Observation {
    pub fn new(remote_id: RemoteId, sight: Sighted) -> Self {
        Self {
            remote_id,
            sight,
            base: None,
            spellings: Spellings::new(),
            edited_at: BTreeMap::new(),
            overwritten: vec![],
            rows: vec![],
            echoes: vec![],
            closes: None,
            causation: None,
        }
    }
}

/// How often a step begins again because others appended to the customer meanwhile.
const ATTEMPTS: usize = 20;

/// Takes in an observation.
pub(super) async fn merge(run: &mut Run<'_>, mut observation: Observation) -> Result<(), RunError> {
    if matches!(observation.sight, Sighted::Nothing) && observation.overwritten.is_empty() {
        return tidy(run, &observation).await;
    }
    let mut looked_up = false;
    for _ in 0..ATTEMPTS {
        let loaded = run.with.store.load(&run.link.customer_id.to_string()).await?;
        let observe = as_command(run, &observation);
        let intake = loaded.aggregate.take_in(&observe);
        if !intake.guessed.is_empty() && !looked_up {
            look_up_edit_times(run, &mut observation).await?;
            looked_up = true;
            continue;
        }
        let mut tx = run.begin().await?;
        let mut context = Context::from_origin(run.name().as_str());
        context.causation_id = observation.causation.clone();
        let command = CustomerCommand::Observe(Box::new(observe));
        match run.with.store.execute_in(&mut tx, loaded, command, context).await {
            Ok(executed) => {
                settle_link(run, &mut tx, &observation, &intake.spellings, &executed).await?;
                inbox::finish(&mut tx, &observation.rows).await?;
                intent::echoes_checked(&mut tx, &observation.echoes).await?;
                if let Some((key, outcome)) = &observation.closes {
                    intent::close(&mut tx, key, *outcome).await?;
                }
                tx.commit().await?;
                remember(run, observation, intake.spellings);
                if !executed.events.is_empty() {
                    run.with.store.wake().ring();
                }
                return Ok(());
            }
            Err(ExecuteError::Conflict) => tx.rollback().await?,
            Err(error) => return Err(error.into()),
        }
    }
    Err(RunError::Restless)
}

/// Nothing new was seen: usually the echo of a call whose reply told us.
async fn tidy(run: &Run<'_>, observation: &Observation) -> Result<(), RunError> {
    let mut tx = run.begin().await?;
    inbox::finish(&mut tx, &observation.rows).await?;
    intent::echoes_checked(&mut tx, &observation.echoes).await?;
    Ok(tx.commit().await?)
}

fn as_command(run: &Run<'_>, observation: &Observation) -> Observe {
    let link = &run.link;
    let known = link.base.as_ref().map(|base| base.profile.clone()).unwrap_or_default();
    let sight = match &observation.sight {
        Sighted::Present(profile, interval) => Sight::Present {
            profile: profile.clone(),
            edited_at: observation.edited_at.clone(),
            seen_at: interval.until().min(run.now() + run.gateway().clock_offset()) - run.gateway().clock_offset(),
        },
        Sighted::Nothing => Sight::Present { profile: known.clone(), edited_at: BTreeMap::new(), seen_at: run.now() },
        Sighted::Gone(last) => Sight::Gone { last: last.clone() },
    };
    let mut spellings = link.spellings.clone();
    spellings.extend(observation.spellings.clone());
    Observe {
        gateway: run.name().clone(),
        remote_id: observation.remote_id.clone(),
        base: observation.base.clone().unwrap_or(known),
        sight,
        spellings,
        overwritten: observation.overwritten.clone(),
        policy: run.with.policy,
        at: run.now(),
    }
}

/// Stores what the remote was seen to hold.
async fn settle_link(
    run: &Run<'_>,
    tx: &mut PgTransaction<'_>,
    observation: &Observation,
    spellings: &Spellings,
    executed: &Executed<Customer>,
) -> Result<(), RunError> {
    let (base, interval, state) = match &observation.sight {
        Sighted::Present(profile, interval) => (Some(profile), Some(interval), run.link.state),
        Sighted::Nothing => (None, None, run.link.state),
        Sighted::Gone(last) => {
            let known = run.link.base.as_ref();
            (last.as_ref().filter(|_| known.is_some()), known.map(|base| &base.interval), LinkState::Deleted)
        }
    };
    let version = i64::try_from(executed.version).unwrap_or(i64::MAX);
    tracing::debug!(customer.id = %executed.id, customer.version = version, "took in an observation");
    sqlx::query(
        "UPDATE links SET remote_id = $2, state = $3, spellings = $4,
                          base = COALESCE($5, base),
                          base_from = CASE WHEN $5::jsonb IS NULL THEN base_from ELSE $6 END,
                          base_until = CASE WHEN $5::jsonb IS NULL THEN base_until ELSE $7 END
         WHERE id = $1",
    )
    .bind(run.link.id)
    .bind(observation.remote_id.as_str())
    .bind(state.as_str())
    .bind(Json(spellings))
    .bind(base.map(Json))
    .bind(interval.map(Interval::from))
    .bind(interval.map(Interval::until))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// The same, in the run's own picture of the link.
fn remember(run: &mut Run<'_>, observation: Observation, spellings: Spellings) {
    let link = &mut run.link;
    link.remote_id = Some(observation.remote_id);
    link.spellings = spellings;
    match observation.sight {
        Sighted::Present(profile, interval) => link.base = Some(Base { profile, interval }),
        Sighted::Nothing => {}
        Sighted::Gone(last) => {
            link.state = LinkState::Deleted;
            if let (Some(base), Some(last)) = (&mut link.base, last) {
                base.profile = last;
            }
        }
    }
}

/// How far before the base's time edits are looked for: they may have been made before it was seen.
const LOOK_BACK: TimeDelta = TimeDelta::minutes(10);

/// How long Stripe keeps events ("List all events").
const EVENTS_KEPT: TimeDelta = TimeDelta::days(30);

/// On a conflict the edit times decide, and the gateway's list of events has them.
async fn look_up_edit_times(run: &Run<'_>, observation: &mut Observation) -> Result<(), RunError> {
    let offset = run.gateway().clock_offset();
    let since = match &run.link.base {
        Some(base) => base.interval.from() - LOOK_BACK,
        None => run.now() + offset - EVENTS_KEPT,
    };
    run.renew().await?;
    let changes = run.gateway().changes(since, Some(&observation.remote_id)).await?;
    if let Sighted::Present(profile, _) = &observation.sight {
        for (field, (value, at)) in last_edits(&changes) {
            if profile.get(&field) == value.as_ref() {
                observation.edited_at.insert(field, at - offset);
            }
        }
    }
    for overwritten in &mut observation.overwritten {
        let made = changes.iter().rev().find(|change| {
            change.previous.contains_key(&overwritten.field)
                && change.profile.get(&overwritten.field) == overwritten.previous.value.as_ref()
        });
        if let Some(change) = made {
            overwritten.previous.edited_at = Some(edit_time(change) - offset);
        }
    }
    Ok(())
}

/// The last change of each field, with the value that it set.
fn last_edits(changes: &[RemoteChange]) -> BTreeMap<Field, (Option<Value>, DateTime<Utc>)> {
    let mut edits = BTreeMap::new();
    for change in changes {
        for field in changed_fields(change) {
            edits.insert(field.clone(), (change.profile.get(field).cloned(), edit_time(change)));
        }
    }
    edits
}

/// The fields that a change set: at a creation, all.
pub(super) fn changed_fields(change: &RemoteChange) -> Vec<&Field> {
    match change.kind {
        crate::ChangeKind::Created => change.profile.iter().map(|(field, _)| field).collect(),
        crate::ChangeKind::Updated | crate::ChangeKind::Deleted => change.previous.keys().collect(),
    }
}

/// A stamp of whole seconds says that the edit was made within the second that it begins: its middle is the fairest
/// guess.
pub(super) fn edit_time(change: &RemoteChange) -> DateTime<Utc> {
    change.created + TimeDelta::milliseconds(500)
}
