//! Merge: one transaction takes in what was seen, and everything that this settles.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use tandem_domain::{
    Customer, CustomerCommand, CustomerEvent, Field, Interval, Observe, Overwritten, Profile, RemoteId, Sight,
    Spellings, Unlink,
};
use tandem_eventlog::zoo::plays;
use tandem_eventlog::{Context, Loaded};

use super::{Run, RunError, deletions, edit_times, twins};
use crate::deletions::Asked;
use crate::intent::Outcome;
use crate::ledger::{Change, Decision, NotCommitted, Sighting, Step};
use crate::link::LinkState;
use crate::{Direction, OnDelete};

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
    /// The same as far as the inbox tells of what was looked at: later edits may not be told of yet.
    pub told_at: BTreeMap<Field, DateTime<Utc>>,
    pub overwritten: Vec<Overwritten>,
    /// The inbox rows that end with this.
    pub rows: Vec<i64>,
    /// The intents whose echo was looked at.
    pub echoes: Vec<String>,
    /// The object carries the customer's id now.
    pub claimed: bool,
    /// The intent that ends with this.
    pub closes: Option<(String, Outcome)>,
    /// The gateway's id of the event that this follows from.
    pub causation: Option<String>,
    /// Of a deletion: when it was made, by our clock, as far as is known.
    pub gone_at: Option<DateTime<Utc>>,
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
            told_at: BTreeMap::new(),
            overwritten: vec![],
            rows: vec![],
            echoes: vec![],
            claimed: false,
            closes: None,
            causation: None,
            gone_at: None,
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
    let mut gone = matches!(observation.sight, Sighted::Gone(_));
    let unlinked = run.link.state == LinkState::Unlinked;
    if gone && unlinked && matches!(loaded.aggregate, Customer::Deleted { .. }) {
        // It was left as it was, and nobody here follows it any more.
        (gone, observation.sight) = (false, Sighted::Nothing);
    }
    if matches!(observation.sight, Sighted::Nothing) && observation.overwritten.is_empty() {
        tidy(run, &observation).await?;
        return Ok(loaded);
    }
    if matches!(loaded.aggregate, Customer::Active { .. }) {
        edit_times::date(run, &mut observation).await?;
    }
    let mut looked_up = false;
    for _ in 0..ATTEMPTS {
        let alive = matches!(loaded.aggregate, Customer::Active { .. });
        let dies = gone && alive && !unlinked;
        // Here and below: while inbound is paused, what ends a call of ours may show what nobody has told of.
        if dies {
            run.link.may(Direction::Inbound)?;
        }
        let on_delete = run.on_delete(Direction::Inbound);
        if dies && on_delete == OnDelete::Ask {
            return match deletions::ask_here(run, &observation).await {
                Ok(()) => Ok(loaded),
                Err(NotCommitted::Claimed) => {
                    park_claimed(run, &observation).await?;
                    run.load().await
                }
                Err(not) => Err(not.into()),
            };
        }
        let observe = as_command(run, &observation, &loaded.aggregate);
        let intake = loaded.aggregate.take_in(&observe);
        if !intake.guessed.is_empty() && !looked_up {
            edit_times::look_up(run, &mut observation, &loaded.aggregate, &intake.guessed).await?;
            looked_up = true;
            loaded = run.load().await?;
            continue;
        }
        let only_linked = intake.events.iter().all(|event| matches!(event, CustomerEvent::Linked { .. }));
        if alive && !only_linked {
            run.link.may(Direction::Inbound)?;
        }
        // What is told of an unlinked one later links nothing again.
        let unlinks = alive && (unlinked || gone && on_delete == OnDelete::Unlink);
        let state = match &observation.sight {
            Sighted::Gone(_) if unlinks => LinkState::Unlinked,
            Sighted::Gone(_) => LinkState::Deleted,
            Sighted::Present(..) | Sighted::Nothing => run.link.state,
        };
        // Dead on both sides: whoever was asked has nothing to decide any more.
        let moot = gone && !dies && run.link.asked.is_some_and(Asked::is_open);
        let mut context = Context::from_origin(run.name().as_str());
        context.causation_id = observation.causation.clone();
        let command = if unlinks {
            CustomerCommand::Unlink(Unlink {
                gateway: run.name().clone(),
                last: Some(Box::new(observe)),
                at: run.now(),
            })
        } else {
            CustomerCommand::Observe(Box::new(observe))
        };
        let seen = sighting(run, &observation, state, intake.spellings);
        let mut changes: Vec<Change> = checked(&observation).into_iter().collect();
        changes.extend(observation.closes.iter().map(|(key, outcome)| Change::Close(key.clone(), *outcome)));
        changes.extend(moot.then_some(Change::Withdraw));
        changes.extend(observation.claimed.then_some(Change::Relabelled));
        let dies_out = state == LinkState::Deleted && run.link.state != state;
        changes.extend(dies_out.then_some(Change::LetCopiesGo));
        let never_born = dies_out && matches!(loaded.aggregate, Customer::Unborn);
        changes.extend(never_born.then_some(Change::NeverBorn));
        let deletes = (dies && !unlinks).then_some(Direction::Inbound);
        let decision = Decision { customer: loaded, command, context };
        // Nobody acts on this before a later commit that does wait for the disk, the relay's or an intent's; and should
        // the database lose it in a crash, it loses all of it, and what it came from is there as before.
        let step = Step { sighting: Some(seen.clone()), decision: Some(decision), changes, deletes, relaxed: true };
        match run.commit(step).await {
            Ok(executed) => {
                match &observation.closes {
                    Some((_, Outcome::Executed)) => run.crossed(Direction::Outbound),
                    None if !only_linked => run.crossed(Direction::Inbound),
                    Some(_) | None => {}
                }
                let had_none = run.link.remote_id.is_none();
                run.link.saw(&seen, executed.as_ref().map(|executed| executed.version));
                run.link.relabel &= !observation.claimed;
                // Objects that were taken for its twin have to look for another.
                if had_none {
                    twins::no_longer_in_question(run).await?;
                }
                return match executed {
                    Some(executed) => Ok(executed.into()),
                    None => run.load().await,
                };
            }
            Err(NotCommitted::Claimed) => {
                park_claimed(run, &observation).await?;
                return run.load().await;
            }
            Err(NotCommitted::Conflict) => loaded = run.load().await?,
            Err(NotCommitted::Failed(error)) => return Err(error),
        }
    }
    Err(RunError::Restless)
}

/// Nothing new was seen: usually the echo of a call whose reply told us.
async fn tidy(run: &mut Run<'_>, observation: &Observation) -> Result<(), RunError> {
    // Should the database lose this in a crash, it finds nothing new once more.
    let finished = (!observation.rows.is_empty()).then(|| Change::Finish(observation.rows.clone()));
    let changes = finished.into_iter().chain(checked(observation)).collect();
    run.commit(Step { changes, relaxed: true, ..Step::default() }).await?;
    Ok(())
}

fn checked(observation: &Observation) -> Option<Change> {
    (!observation.echoes.is_empty()).then(|| Change::Checked(observation.echoes.clone()))
}

fn as_command(run: &Run<'_>, observation: &Observation, customer: &Customer) -> Observe {
    let local = &customer.profile().cloned().unwrap_or_default();
    let link = &run.link;
    let known = link.base.as_ref().map(|base| base.profile.clone()).unwrap_or_default();
    let sight = match &observation.sight {
        Sighted::Present(profile, interval) => Sight::Present {
            profile: profile.clone(),
            edited_at: observation.edited_at.clone(),
            told_at: observation.told_at.clone(),
            seen_at: interval.until().min(run.now() + run.gateway().clock_offset()) - run.gateway().clock_offset(),
        },
        Sighted::Nothing => {
            let (edited_at, told_at) = (BTreeMap::new(), BTreeMap::new());
            Sight::Present { profile: known.clone(), edited_at, told_at, seen_at: run.now() }
        }
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

/// What the remote was seen to hold.
fn sighting(run: &Run<'_>, observation: &Observation, state: LinkState, spellings: Spellings) -> Sighting {
    let base = match &observation.sight {
        Sighted::Present(..) if plays("base-not-advanced-by-the-reply") && observation.closes.is_some() => None,
        Sighted::Present(profile, interval) => {
            // What only a later version looks at stays as it was seen then.
            let known = run.link.base.as_ref().map(|base| &base.profile);
            let profile = known.into_iter().fold(profile.clone(), Profile::with_unknown_of);
            Some((profile, Some(*interval)))
        }
        Sighted::Nothing => None,
        // So that the same deletion, told again, finds nothing that nobody had seen.
        Sighted::Gone(last) => {
            let known = run.link.base.as_ref().map(|base| base.interval);
            last.clone().filter(|_| known.is_some()).map(|last| (last, known))
        }
    };
    Sighting {
        remote_id: observation.remote_id.clone(),
        state,
        spellings,
        base,
        looked: !matches!(observation.sight, Sighted::Nothing),
        told_by: observation.rows.clone(),
    }
}

/// The object is linked to another customer: somebody took our id off it before its creation was told, and it was imported.
/// A person must say which of the two customers it is.
async fn park_claimed(run: &mut Run<'_>, observation: &Observation) -> Result<(), RunError> {
    let closes = observation.closes.iter().map(|(key, outcome)| Change::Close(key.clone(), *outcome));
    let reason = format!("{} is linked to another customer", observation.remote_id);
    let fields = vec!["metadata.tandem_id".to_owned()];
    let rejected = Change::Reject { refused: None, fields, code: None, reason };
    run.store(closes.chain([Change::Become(LinkState::Unlinked), rejected])).await?;
    run.link.state = LinkState::Unlinked;
    Ok(())
}
