//! Merge: one transaction takes in what was seen, and everything that this settles.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sqlx::PgTransaction;
use sqlx::types::Json;
use tandem_domain::{
    Customer, CustomerCommand, Field, Interval, Observe, Overwritten, Profile, RemoteId, Sight, Spellings, Unlink,
};
use tandem_eventlog::zoo::plays;
use tandem_eventlog::{CommandKey, Context, ExecuteError, Loaded, crash};

use super::{Run, RunError, edit_times};
use crate::intent::{self, Outcome};
use crate::link::{Base, LinkState};
use crate::{Direction, OnDelete, inbox, parked};

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

/// Takes in an observation. Returns the customer as it is then.
pub(super) async fn merge(
    run: &mut Run<'_>,
    mut observation: Observation,
    mut loaded: Loaded<Customer>,
) -> Result<Loaded<Customer>, RunError> {
    if matches!(observation.sight, Sighted::Nothing) && observation.overwritten.is_empty() {
        tidy(run, &observation).await?;
        return Ok(loaded);
    }
    let mut looked_up = false;
    for _ in 0..ATTEMPTS {
        let observe = as_command(run, &observation, &loaded.aggregate);
        let intake = loaded.aggregate.take_in(&observe);
        if !intake.guessed.is_empty() && !looked_up {
            edit_times::look_up(run, &mut observation, &loaded.aggregate, &intake.guessed).await?;
            looked_up = true;
            loaded = run.load().await?;
            continue;
        }
        let unlinks = run.with.deletes.inbound == OnDelete::Unlink
            && matches!((&observation.sight, &loaded.aggregate), (Sighted::Gone(_), Customer::Active { .. }));
        let state = match &observation.sight {
            Sighted::Gone(_) if unlinks => LinkState::Unlinked,
            Sighted::Gone(_) => LinkState::Deleted,
            Sighted::Present(..) | Sighted::Nothing => run.link.state,
        };
        if plays("append-before-base") {
            append_first(run, &observe, Context::from_origin(run.name().as_str())).await?;
        }
        if plays("event-id-as-command-key") {
            let mut context = Context::from_origin(run.name().as_str());
            context.key = observation.causation.clone().map(|key| CommandKey { key, fingerprint: vec![] });
            append_first(run, &observe, context).await?;
        }
        // Nobody acts on this before a later commit that does wait for the disk, the relay's or an intent's; and should
        // the database lose it in a crash, it loses all of it, and what it came from is there as before.
        let mut tx = run.begin_in(&run.with.relaxed).await?;
        if matches!((&observation.sight, &loaded.aggregate), (Sighted::Gone(_), Customer::Active { .. })) && !unlinks {
            tx = run.guard_deletion(tx, Direction::Inbound).await?;
        }
        let mut context = Context::from_origin(run.name().as_str());
        context.causation_id = observation.causation.clone();
        let command = if unlinks {
            CustomerCommand::Unlink(Unlink { gateway: run.name().clone(), at: run.now() })
        } else {
            CustomerCommand::Observe(Box::new(observe))
        };
        match run.with.store.execute_in(&mut tx, loaded, command, context).await {
            Ok(executed) => {
                match settle_link(run, &mut tx, &observation, state, &intake.spellings).await {
                    Err(sqlx::Error::Database(error)) if error.is_unique_violation() => {
                        tx.rollback().await?;
                        park_claimed(run, &observation).await?;
                        return run.load().await;
                    }
                    settled => settled?,
                }
                finish(&mut tx, &observation).await?;
                if let Some((key, outcome)) = &observation.closes {
                    intent::close(&mut tx, key, *outcome).await?;
                }
                crash::at("merge-written");
                tx.commit().await?;
                crash::at("merge-committed");
                remember(run, observation, state, intake.spellings);
                if !executed.events.is_empty() {
                    run.with.store.wake().ring();
                    run.with.store.remember(&executed);
                }
                return Ok(executed.into());
            }
            Err(ExecuteError::Conflict) => {
                tx.rollback().await?;
                loaded = run.load().await?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(RunError::Restless)
}

/// For the zoo: events in a transaction of their own, before the base.
async fn append_first(run: &Run<'_>, observe: &Observe, context: Context) -> Result<(), RunError> {
    let command = CustomerCommand::Observe(Box::new(observe.clone()));
    run.with.store.execute(&run.link.customer_id.to_string(), command, context).await?;
    Ok(())
}

/// Nothing new was seen: usually the echo of a call whose reply told us.
async fn tidy(run: &mut Run<'_>, observation: &Observation) -> Result<(), RunError> {
    // Should the database lose this in a crash, it finds nothing new once more.
    let mut tx = run.begin_in(&run.with.relaxed).await?;
    finish(&mut tx, observation).await?;
    Ok(tx.commit().await?)
}

/// Ends what the observation came from.
async fn finish(tx: &mut PgTransaction<'_>, observation: &Observation) -> Result<(), sqlx::Error> {
    if !observation.rows.is_empty() {
        inbox::finish(tx, &observation.rows).await?;
    }
    if !observation.echoes.is_empty() {
        intent::echoes_checked(tx, &observation.echoes).await?;
    }
    Ok(())
}

fn as_command(run: &Run<'_>, observation: &Observation, customer: &Customer) -> Observe {
    let local = &customer.profile().cloned().unwrap_or_default();
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
    if plays("adopting-over-an-edit") && matches!(observation.closes, Some((_, Outcome::Executed))) {
        for (field, spelling) in &mut spellings {
            spelling.sent = local.get(field).cloned();
        }
    }
    // Against our own record everything that differs is news: the later sight wins over whole records.
    let base = if plays("whole-records") { local.clone() } else { observation.base.clone().unwrap_or(known) };
    Observe {
        gateway: run.name().clone(),
        remote_id: observation.remote_id.clone(),
        base,
        sight,
        spellings,
        overwritten: observation.overwritten.clone(),
        policies: run.with.policies.clone(),
        at: run.now(),
    }
}

/// Stores what the remote was seen to hold.
async fn settle_link(
    run: &Run<'_>,
    tx: &mut PgTransaction<'_>,
    observation: &Observation,
    state: LinkState,
    spellings: &Spellings,
) -> Result<(), sqlx::Error> {
    let (base, interval) = match &observation.sight {
        Sighted::Present(..) if plays("base-not-advanced-by-the-reply") && observation.closes.is_some() => (None, None),
        Sighted::Present(profile, interval) => (Some(profile), Some(*interval)),
        Sighted::Nothing => (None, None),
        // So that the same deletion, told again, finds nothing that nobody had seen.
        Sighted::Gone(last) => {
            let known = run.link.base.as_ref().map(|base| base.interval);
            (last.as_ref().filter(|_| known.is_some()), known)
        }
    };
    sqlx::query(
        "UPDATE links SET remote_id = $2, state = $3, spellings = $4, look = look AND $8,
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
    .bind(interval.map(|interval| interval.from()))
    .bind(interval.map(|interval| interval.until()))
    .bind(matches!(observation.sight, Sighted::Nothing))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// The object is linked to another customer: somebody took our id off it before its creation was told, and it was imported.
/// A person must say which of the two customers it is.
async fn park_claimed(run: &mut Run<'_>, observation: &Observation) -> Result<(), RunError> {
    let mut tx = run.begin().await?;
    if let Some((key, outcome)) = &observation.closes {
        intent::close(&mut tx, key, *outcome).await?;
    }
    sqlx::query("UPDATE links SET state = 'unlinked' WHERE id = $1").bind(run.link.id).execute(&mut *tx).await?;
    let reason = format!("{} is linked to another customer", observation.remote_id);
    parked::rejected(&mut tx, run.name(), &run.link, Some("metadata.tandem_id"), None, &reason).await?;
    tx.commit().await?;
    run.link.state = LinkState::Unlinked;
    Ok(())
}

/// The same, in the run's own picture of the link.
fn remember(run: &mut Run<'_>, observation: Observation, state: LinkState, spellings: Spellings) {
    let link = &mut run.link;
    link.remote_id = Some(observation.remote_id);
    link.state = state;
    link.spellings = spellings;
    link.look &= matches!(observation.sight, Sighted::Nothing);
    match observation.sight {
        Sighted::Present(..) if plays("base-not-advanced-by-the-reply") && observation.closes.is_some() => {}
        Sighted::Present(profile, interval) => link.base = Some(Base { profile, interval }),
        Sighted::Nothing | Sighted::Gone(None) => {}
        Sighted::Gone(Some(last)) => {
            if let Some(base) = &mut link.base {
                base.profile = last;
            }
        }
    }
}
