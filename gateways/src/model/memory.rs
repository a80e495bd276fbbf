//! The ledger in memory: each step is one change of the world, with a pause before it and one after.

use async_trait::async_trait;
use chrono::TimeDelta;
use rand::RngExt;
use tandem_domain::{Customer, CustomerId, RemoteId};
use tandem_eventlog::zoo::plays;
use tandem_eventlog::{Executed, Loaded};
use uuid::Uuid;

use super::world::{Kept, Side, State, Told, World, pause};
use crate::deletions::Asked;
use crate::inbox::Row;
use crate::intent::{Intent, Outcome};
use crate::ledger::{Change, Decision, Draft, Ledger, NotCommitted, Sighting, Step};
use crate::link::Link;
use crate::{RemoteChange, RunError};

/// How long a link is kept from others.
pub(super) const LEASE: TimeDelta = TimeDelta::seconds(6);

/// One gateway's part of the world.
pub(super) struct Memory {
    pub world: World,
    pub side: usize,
}

#[async_trait]
impl Ledger for Memory {
    async fn look_around(&self, link: &Link) -> Result<(Option<Intent>, Vec<Row>, Loaded<Customer>), RunError> {
        pause().await;
        // Three looks, in any order, and others may write in between.
        let open = {
            let state = self.world.lock();
            let kept =
                state.sides[self.side].intents.iter().find(|one| one.link_id == link.id && one.outcome.is_none());
            kept.map(|kept| kept.intent.clone())
        };
        let (told, customer) = self.look_again(link).await?;
        Ok((open, told, self.world.lock().as_remembered(customer, link.due_version)))
    }

    async fn look_again(&self, link: &Link) -> Result<(Vec<Row>, Loaded<Customer>), RunError> {
        pause().await;
        let told = {
            let state = self.world.lock();
            let told = state.sides[self.side].inbox.iter().enumerate();
            told.filter(|(_, told)| told.link_id == Some(link.id) && !told.ended && !told.held)
                .map(|(id, told)| Row { id: id as i64, change: told.change.clone() })
                .collect()
        };
        Ok((told, self.load(link.customer_id).await?))
    }

    async fn load(&self, customer: CustomerId) -> Result<Loaded<Customer>, RunError> {
        pause().await;
        let loaded = self.world.lock().load(customer);
        pause().await;
        Ok(loaded)
    }

    async fn intents(&self, link: &Link, keys: &[&str]) -> Result<Vec<Intent>, RunError> {
        pause().await;
        let state = self.world.lock();
        let kept = state.sides[self.side].intents.iter().filter(|kept| kept.link_id == link.id);
        Ok(kept.filter(|kept| keys.contains(&kept.intent.key.as_str())).map(|kept| kept.intent.clone()).collect())
    }

    async fn hold(&self, link: &Link) -> Result<(), RunError> {
        pause().await;
        let mut state = self.world.lock();
        state.hold(self.side, link)?;
        state.count_step(self.side, link);
        Ok(())
    }

    async fn commit(&self, link: &Link, step: Step) -> Result<Option<Executed<Customer>>, NotCommitted> {
        pause().await;
        if let Some(decision) = &step.decision
            && (plays("append-before-base") || plays("event-id-as-command-key"))
        {
            self.world.lock().append_first(self.side, decision);
            pause().await;
        }
        let (committed, lost) = {
            let mut state = self.world.lock();
            (state.commit(self.side, link, step), state.fails(0.02))
        };
        pause().await;
        if lost {
            return Err(RunError::Database(sqlx::Error::WorkerCrashed).into());
        }
        committed
    }

    async fn is_told(&self) -> Result<bool, RunError> {
        Ok(true)
    }

    async fn twins(&self, _: &str) -> Result<Vec<Uuid>, RunError> {
        Ok(vec![])
    }

    async fn told(&self, _email: &str) -> Result<Vec<(String, Option<CustomerId>)>, RunError> {
        Ok(vec![])
    }

    async fn unlinked(&self, _: &[&str]) -> Result<Vec<String>, RunError> {
        Ok(vec![])
    }

    async fn no_longer_ambiguous(&self, _: &Link) -> Result<(), RunError> {
        Ok(())
    }

    async fn no_candidate_but_of(&self, _: &Link, _: &[String]) -> Result<(), RunError> {
        Ok(())
    }

    async fn unite(&self, _: &Link, _: Uuid, _: &RemoteId) -> Result<(), RunError> {
        Err(RunError::Restless)
    }

    fn remembered(&self, link: &Link) -> Option<Loaded<Customer>> {
        let mut state = self.world.lock();
        let now = state.load(link.customer_id);
        Some(state.as_remembered(now, link.due_version))
    }

    async fn take_in(
        &self,
        link: &Link,
        seal: i64,
        change: &RemoteChange,
        draft: Draft,
        _contested: usize,
    ) -> Result<Option<i64>, RunError> {
        pause().await;
        let (seal, lost) = {
            let mut state = self.world.lock();
            (state.take_in(self.side, (link, seal), change, draft), state.fails(0.02))
        };
        pause().await;
        if lost { Err(RunError::Database(sqlx::Error::WorkerCrashed)) } else { Ok(seal) }
    }

    async fn last_origin(&self, customer: &str) -> Result<Option<String>, RunError> {
        let state = self.world.lock();
        let stored = customer.parse().ok().and_then(|id: CustomerId| state.customers.get(&id));
        let last = stored.and_then(|stored| stored.events.last());
        Ok(last.map(|(_, origin)| origin.as_ref().map_or("api".to_owned(), ToString::to_string)))
    }
}

impl State {
    fn load(&self, customer: CustomerId) -> Loaded<Customer> {
        let (aggregate, version) = match self.customers.get(&customer) {
            Some(stored) => (stored.customer.clone(), stored.events.len() as u64),
            None => (Customer::Unborn, 0),
        };
        Loaded { id: customer.to_string(), aggregate, version, last: None }
    }

    /// At times an older state that this process remembers, not older than what made the link due.
    fn as_remembered(&mut self, now: Loaded<Customer>, least: u64) -> Loaded<Customer> {
        let oldest = least.max(1);
        if oldest >= now.version || !self.fails(0.2) {
            return now;
        }
        let version = self.dice.random_range(oldest..now.version);
        let Some(stored) = now.id.parse().ok().and_then(|id: CustomerId| self.customers.get(&id)) else { return now };
        let mut aggregate = Customer::Unborn;
        for (event, _) in &stored.events[..version as usize] {
            cqrs_es::Aggregate::apply(&mut aggregate, event.clone());
        }
        Loaded { id: now.id, aggregate, version, last: None }
    }

    fn hold(&mut self, side: usize, link: &Link) -> Result<(), RunError> {
        let now = self.now;
        let Some(row) = self.sides[side].row(link.id) else { return Err(RunError::LeaseLost) };
        if row.leased_until.is_some() && (row.link.token, row.link.step) == (link.token, link.step) {
            row.leased_until = Some(now + LEASE);
            return Ok(());
        }
        if plays("unfenced-writes") { Ok(()) } else { Err(RunError::LeaseLost) }
    }

    fn count_step(&mut self, side: usize, link: &Link) {
        if let Some(row) = self.sides[side].row(link.id) {
            row.link.step += 1;
        }
    }

    /// For the zoo: events in a transaction of their own, before the base.
    fn append_first(&mut self, side: usize, decision: &Decision) {
        if plays("event-id-as-command-key")
            && let Some(key) = &decision.context.causation_id
            && !self.command_keys.insert(key.clone())
        {
            return;
        }
        let Ok(id) = decision.customer.id.parse() else { return };
        let origin = self.sides[side].name.clone();
        let events = self.load(id).aggregate.decide(decision.command.clone()).unwrap_or_default();
        self.append(id, &events, Some(&origin));
    }

    fn commit(&mut self, side: usize, link: &Link, step: Step) -> Result<Option<Executed<Customer>>, NotCommitted> {
        self.hold(side, link)?;
        let claimed = |seen: &Sighting, side: &Side| {
            side.links.iter().any(|row| row.link.id != link.id && row.link.remote_id.as_ref() == Some(&seen.remote_id))
        };
        let executed = match step.decision {
            Some(decision) => Some(self.decide(link.customer_id, decision)?),
            None => None,
        };
        if step.sighting.as_ref().is_some_and(|seen| claimed(seen, &self.sides[side])) {
            return Err(NotCommitted::Claimed);
        }
        if let Some(executed) = &executed {
            let origin = self.sides[side].name.clone();
            self.append(link.customer_id, &executed.events, Some(&origin));
        }
        let version = executed.as_ref().map(|executed| executed.version);
        if let Some(seen) = step.sighting {
            self.tell(|| format!("link {} of gateway {side}: {seen:?}", link.id));
            self.sides[side].see(link.id, &seen, version);
        }
        for change in step.changes {
            self.tell(|| format!("link {} of gateway {side}: {change:?}", link.id));
            self.sides[side].write(link.id, change);
        }
        self.count_step(side, link);
        Ok(executed)
    }

    fn take_in(&mut self, nth: usize, (link, seal): (&Link, i64), change: &RemoteChange, draft: Draft) -> Option<i64> {
        let Draft { base, spellings, decided, .. } = draft;
        let (id, version) = (link.customer_id, decided.version());
        let events = decided.executed().events;
        let others_appended = self.load(id).version + events.len() as u64 != version;
        let side = &mut self.sides[nth];
        let told_before = side.inbox.iter().any(|told| told.change.event_id == change.event_id);
        let row = side.row(link.id)?;
        let is_as_remembered = row.seal() == seal || plays("at-rest-as-remembered");
        if others_appended || told_before || !is_as_remembered {
            return None;
        }
        (row.link.base, row.link.spellings) = (Some(base), spellings);
        (row.link.due_version, row.link.step) = (row.link.due_version.max(version), row.link.step + 1);
        let seal = row.seal();
        side.inbox.push(Told { change: change.clone(), link_id: Some(link.id), ended: true, held: false });
        let origin = side.name.clone();
        self.tell(|| format!("link {} of gateway {nth} took in {} at once", link.id, change.event_id));
        self.append(id, &events, Some(&origin));
        Some(seal)
    }

    fn decide(&self, id: CustomerId, decision: Decision) -> Result<Executed<Customer>, NotCommitted> {
        let Decision { customer: Loaded { id: name, mut aggregate, version, last }, command, .. } = decision;
        let events = aggregate.decide(command).map_err(RunError::Refused)?;
        if !events.is_empty() && self.customers.get(&id).map_or(0, |stored| stored.events.len() as u64) != version {
            return Err(NotCommitted::Conflict);
        }
        for event in &events {
            cqrs_es::Aggregate::apply(&mut aggregate, event.clone());
        }
        let version = version + events.len() as u64;
        Ok(Executed { id: name, aggregate, version, last, events, replayed: false })
    }
}

impl Side {
    fn see(&mut self, link_id: i64, seen: &Sighting, version: Option<u64>) {
        if let Some(row) = self.row(link_id) {
            row.link.saw(seen, version);
        }
        self.told(&seen.told_by, |told| told.ended = true);
    }

    fn write(&mut self, link_id: i64, change: Change) {
        match change {
            Change::Finish(rows) => self.told(&rows, |told| told.ended = true),
            Change::HandBack(rows) => self.told(&rows, |told| told.link_id = None),
            Change::Checked(keys) => self.kept(&keys, |kept| {
                kept.intent.echo_checked = true;
                if kept.outcome.is_some() {
                    (kept.outcome, kept.intent.executed) = (Some(Outcome::Executed), true);
                }
            }),
            Change::Close(key, outcome) => self.kept(&[key], |kept| {
                kept.outcome = Some(outcome);
                kept.intent.executed = outcome == Outcome::Executed;
            }),
            Change::Spoil(key) => self.kept(&[key], |kept| kept.intent.spoilt = true),
            Change::Open(intent) => self.open(link_id, *intent),
            Change::Become(state) => {
                self.links.iter_mut().filter(|row| row.link.id == link_id).for_each(|row| row.link.state = state)
            }
            Change::Reject { refused, .. } => {
                if let (Some(row), Some(refused)) = (self.row(link_id), refused) {
                    row.link.refused = refused;
                }
            }
            Change::Unread { refused, .. } => {
                if let Some(row) = self.row(link_id) {
                    row.link.refused = refused;
                }
            }
            Change::Supersede(kept) => {
                if let Some(row) = self.row(link_id) {
                    row.link.refused = kept;
                }
            }
            Change::AskOfDeletion { direction, .. } => {
                if let Some(row) = self.row(link_id) {
                    (row.link.asked, row.link.look) = (Some(Asked { direction, verdict: None }), true);
                }
            }
            Change::Hold(rows) => {
                let open = self.row(link_id).is_some_and(|row| row.link.asked.is_some_and(Asked::is_open));
                self.told(&rows, |told| told.held = open);
            }
            Change::Withdraw => {
                self.let_go_of_what_is_held(link_id);
                if let Some(row) = self.row(link_id) {
                    row.link.asked = None;
                }
            }
            Change::Relabelled => self.row(link_id).into_iter().for_each(|row| row.link.relabel = false),
            Change::LetCopiesGo | Change::NeverBorn | Change::NothingToPush => {}
            // Nobody looks for twins here.
            Change::Ask(_) | Change::LetGo(_) => {}
        }
    }

    pub fn let_go_of_what_is_held(&mut self, link_id: i64) {
        self.inbox.iter_mut().filter(|told| told.link_id == Some(link_id)).for_each(|told| told.held = false);
    }

    fn open(&mut self, link_id: i64, intent: Intent) {
        // For the zoo: a key that was used before.
        self.intents.retain(|kept| kept.intent.key != intent.key);
        self.intents.push(Kept { link_id, intent, outcome: None });
    }

    fn told(&mut self, rows: &[i64], change: impl Fn(&mut Told)) {
        for id in rows {
            if let Some(told) = self.inbox.get_mut(*id as usize) {
                change(told);
            }
        }
    }

    fn kept(&mut self, keys: &[String], change: impl Fn(&mut Kept)) {
        self.intents.iter_mut().filter(|kept| keys.contains(&kept.intent.key)).for_each(change);
    }
}
