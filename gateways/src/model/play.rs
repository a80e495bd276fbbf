//! Playing a history: at each turn the dice say who goes on, what arrives, what is lost, and how much time passes.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Waker};

use chrono::TimeDelta;
use rand::RngExt;
use tandem_domain::{
    Create, Customer, CustomerCommand, CustomerId, Delete, Field, Patch, Policies, Profile, Update, Value,
};

use super::asked::{self, ASK};
use super::history::{Act, BEGINS, Edit, Scenario, Setting};
use super::memory::{LEASE, Memory};
use super::remote::{Adapter, arrive, carry_out};
use super::world::{Row, Side, State, Told, World, pause};
use crate::inbox::{Destination, Ours, by_our_id, owner};
use crate::link::{Link, LinkState};
use crate::reconcile::{Reconciler, Run, RunError, reconcile, take_in};
use crate::rest::AtRest;
use crate::worker::wait_after;
use crate::{Deletes, Gateway, Matching, RemoteChange, Write};

/// How many turns a healed world may take to come to rest.
const PATIENCE: usize = 2_000;

/// How many calls that change something a healed gateway may hear.
const CALLS: usize = 6;

/// A history under way.
pub(super) struct Play {
    pub world: World,
    with: Vec<Arc<Reconciler>>,
    runs: Vec<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Play {
    pub fn new(setting: Setting, tells: bool) -> Self {
        let (gateways, policy) = (setting.gateways, setting.policy);
        let deletes = if setting.asks.is_some() { ASK } else { Deletes::default() };
        let world = World::new(setting, tells);
        let with = (0..gateways).map(|side| {
            let name = world.lock().sides[side].name.clone();
            let now = world.clone();
            let gateway = Adapter { world: world.clone(), side, name, offset: Arc::default() };
            Arc::new(Reconciler {
                ledger: Arc::new(Memory { world: world.clone(), side }),
                in_bulk: gateway.in_bulk(),
                gateway: Arc::new(gateway),
                policies: Policies::all(policy),
                deletes,
                filter: None,
                matching: Matching::Never,
                lease: LEASE.to_std().unwrap(),
                clock: Arc::new(move || now.lock().now),
                timer: Arc::new(world.clone()),
            })
        });
        Self { with: with.collect(), world, runs: vec![] }
    }

    /// Plays it to the end, and until everything is at rest.
    pub fn play(&mut self) -> Result<(), String> {
        let setting = self.world.lock().setting.clone();
        match setting.scenario {
            Scenario::Linked | Scenario::Deletes => {
                self.world.lock().born_here();
                self.rest()?;
            }
            Scenario::Fresh | Scenario::FreshDeletes => self.world.lock().born_here(),
            Scenario::Import => self.world.lock().born_there(),
        }
        self.world.lock().healed = false;
        for step in 0..setting.steps {
            for edit in setting.edits.iter().filter(|edit| edit.at == step) {
                self.world.lock().edit(edit);
            }
            self.turn();
        }
        self.world.lock().healed = true;
        let before = self.world.lock().writes();
        self.rest()?;
        asked::answered(self)?;
        let calls = self.world.lock().writes() - before;
        let bound = CALLS * setting.gateways;
        if calls > bound { Err(format!("{calls} calls that change something after the last edit")) } else { Ok(()) }
    }

    fn turn(&mut self) {
        let mut state = self.world.lock();
        let sides = state.sides.len();
        let side = state.dice.random_range(0..sides);
        let trouble = state.setting.trouble;
        if state.setting.asks.is_some() && state.dice.random_bool(0.03) {
            state.answer();
        }
        match state.dice.random_range(0..100) {
            0..12 => {
                if !state.sides[side].remote.requests.is_empty() {
                    state.network(side);
                }
            }
            12..20 => {
                if let Some(change) = state.webhook(side) {
                    drop(state);
                    self.tell(side, change);
                }
            }
            20..26 => state.route(side),
            26..34 => state.feed(),
            34..42 => {
                if let Some(link) = state.lease(side) {
                    drop(state);
                    self.start(side, link);
                }
            }
            42..52 => {
                let gap = [0, 50, 200, 500, 1_000, 2_500, 7_000][state.dice.random_range(0..7)];
                state.now += TimeDelta::milliseconds(gap);
                if state.dice.random_bool(0.04 * trouble) {
                    state.day();
                    drop(state);
                    self.runs.clear();
                }
            }
            52..54 => {
                if !self.runs.is_empty() && state.dice.random_bool(0.7 * trouble) {
                    let dies = state.dice.random_range(0..self.runs.len());
                    state.tell(|| "a process dies".to_owned());
                    drop(state);
                    drop(self.runs.swap_remove(dies));
                }
            }
            _ => {
                if !self.runs.is_empty() {
                    let next = state.dice.random_range(0..self.runs.len());
                    drop(state);
                    self.poll(next);
                }
            }
        }
    }

    fn poll(&mut self, nth: usize) {
        if self.runs[nth].as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready() {
            drop(self.runs.swap_remove(nth));
        }
    }

    fn start(&mut self, side: usize, link: Link) {
        let (with, world) = (Arc::clone(&self.with[side]), self.world.clone());
        self.runs.push(Box::pin(async move {
            let mut run = Run::new(&with, link);
            let ended = reconcile(&mut run).await;
            pause().await;
            world.lock().end(side, &run.link, ended);
        }));
    }

    /// Tells of a change: taken in with it, or stored to be taken in.
    fn tell(&mut self, side: usize, change: RemoteChange) {
        let (with, world) = (Arc::clone(&self.with[side]), self.world.clone());
        self.runs.push(Box::pin(async move {
            let rest = world.lock().sides[side].resting.get(&change.remote_id).cloned();
            let taken = match rest {
                Some(rest) => take_in(&with, rest, &change).await,
                None => Ok(None),
            };
            let side = &mut world.lock().sides[side];
            match taken {
                Ok(Some(taken)) => drop(side.resting.insert(change.remote_id, taken)),
                Ok(None) | Err(_) => side.take(change),
            }
        }));
    }

    /// Everything arrives, and everybody goes on until nothing is due.
    pub fn rest(&mut self) -> Result<(), String> {
        for _ in 0..PATIENCE {
            {
                let mut state = self.world.lock();
                for side in 0..state.sides.len() {
                    while state.sides[side].remote.requests.iter().any(|one| one.answer.is_none()) {
                        state.network(side);
                    }
                    state.sweep(side);
                    state.route(side);
                }
                state.feed();
            }
            for side in 0..self.with.len() {
                let leased = self.world.lock().lease(side);
                if let Some(link) = leased {
                    self.start(side, link);
                }
            }
            for nth in (0..self.runs.len()).rev() {
                self.poll(nth);
            }
            let mut state = self.world.lock();
            if let Some(broken) = &state.broken {
                return Err(broken.clone());
            }
            if self.runs.is_empty() {
                if state.at_rest() {
                    return Ok(());
                }
                state.now += TimeDelta::milliseconds(500);
            }
            state.now += TimeDelta::milliseconds(10);
        }
        Err("it never comes to rest".to_owned())
    }
}

impl State {
    /// How many calls that change something the gateways have heard.
    pub fn writes(&self) -> usize {
        self.sides.iter().map(|side| side.remote.writes).sum()
    }

    fn born_here(&mut self) {
        let id = CustomerId(self.id());
        let profile = Profile::default().with(Field::Name, Value::Text(BEGINS.to_owned()));
        let command = CustomerCommand::Create(Create { profile, at: self.now });
        let events = Customer::Unborn.decide(command).unwrap_or_default();
        self.append(id, &events, None);
    }

    fn born_there(&mut self) {
        let profile = Profile::default().with(Field::Name, Value::Text(BEGINS.to_owned()));
        let write = Write::Create { customer: CustomerId(uuid::Uuid::nil()), profile };
        carry_out(self, 0, &write, None);
    }

    /// A person acts, on what is there.
    fn edit(&mut self, edit: &Edit) {
        let set = |name: &String| Patch::default().with(Field::Name, Some(Value::Text(name.clone())));
        match edit.side {
            None => {
                let Some(id) = self.customers.keys().next().copied() else { return };
                let command = match &edit.act {
                    Act::Set(name) => CustomerCommand::Update(Update { patch: set(name), at: self.now }),
                    Act::Delete => CustomerCommand::Delete(Delete { at: self.now }),
                };
                // What is deleted refuses.
                let events = self.customers[&id].customer.decide(command).unwrap_or_default();
                if let (Act::Set(name), false) = (&edit.act, events.is_empty()) {
                    self.written.push((self.now, name.clone()));
                }
                self.append(id, &events, None);
            }
            Some(side) => {
                let remote = &self.sides[side].remote;
                let Some(remote_id) = remote.objects.iter().find(|(_, held)| !held.gone).map(|(id, _)| id.clone())
                else {
                    return;
                };
                let write = match &edit.act {
                    Act::Set(name) => Write::Update { remote_id, patch: set(name) },
                    Act::Delete => Write::Delete { remote_id },
                };
                let known = self.sides[side].remote.changes.len();
                carry_out(self, side, &write, None);
                if let (Act::Set(name), true) = (&edit.act, self.sides[side].remote.changes.len() > known) {
                    self.written.push((self.now, name.clone()));
                }
            }
        }
    }

    /// A request arrives, or is lost, and so its reply.
    fn network(&mut self, side: usize) {
        let nth = self.dice.random_range(0..self.sides[side].remote.requests.len());
        if self.fails(0.1) {
            self.sides[side].remote.requests.swap_remove(nth);
            return;
        }
        if self.sides[side].remote.requests[nth].answer.is_some() {
            // A reply that nobody waits for any more stays where it is.
            if self.healed {
                self.sides[side].remote.requests.swap_remove(nth);
            }
            return;
        }
        arrive(self, side, nth);
        if self.fails(0.15) {
            self.sides[side].remote.requests.swap_remove(nth);
        }
    }

    /// A webhook comes: any of those that wait; perhaps again later, perhaps never.
    fn webhook(&mut self, side: usize) -> Option<RemoteChange> {
        if self.sides[side].remote.webhooks.is_empty() {
            return None;
        }
        let nth = self.dice.random_range(0..self.sides[side].remote.webhooks.len());
        let change = self.sides[side].remote.webhooks[nth].clone();
        if !self.fails(0.2) {
            self.sides[side].remote.webhooks.swap_remove(nth);
        }
        if self.fails(0.1) {
            return None;
        }
        self.tell(|| format!("webhook {}", change.event_id));
        Some(change)
    }

    /// What the webhooks missed.
    fn sweep(&mut self, side: usize) {
        let side = &mut self.sides[side];
        side.remote.webhooks.clear();
        if side.inbox.len() < side.remote.changes.len() {
            for change in side.remote.changes.clone() {
                side.take(change);
            }
        }
    }

    /// As the product has it by SQL.
    fn is_dead(&self, link: &Link) -> bool {
        let customer = self.customers.get(&link.customer_id).map(|stored| &stored.customer);
        link.state == LinkState::Deleted
            && link.remote_id.is_some()
            && matches!(customer, Some(Customer::Deleted { .. }))
    }

    /// By the product's rule.
    fn route(&mut self, side: usize) {
        for nth in 0..self.sides[side].inbox.len() {
            let told = &self.sides[side].inbox[nth];
            if told.link_id.is_some() || told.ended {
                continue;
            }
            let change = told.change.clone();
            let links = &self.sides[side].links;
            let known = links.iter().find(|row| row.link.remote_id.as_ref() == Some(&change.remote_id));
            let destination = match (known, owner(&change)) {
                (Some(row), _) => Destination::Link(row.link.id),
                (None, Some(customer)) => {
                    let ours = links.iter().find(|row| row.link.customer_id == customer);
                    let dead = ours.is_some_and(|row| self.is_dead(&row.link));
                    let known = |row: &Row| row.link.remote_id.as_ref().map(|id| id.as_str().to_owned());
                    by_our_id(&change, ours.map(|row| Ours { link: row.link.id, known: known(row), dead }))
                }
                (None, None) => Destination::Import,
            };
            let link_id = match destination {
                Destination::Link(id) => id,
                Destination::Duplicate(_) => {
                    self.sides[side].inbox[nth].ended = true;
                    continue;
                }
                Destination::Import | Destination::Copy => {
                    let (id, now) = (CustomerId(self.id()), self.now);
                    let row = self.sides[side].link(now, id, Some(change.remote_id));
                    row.link.relabel = destination == Destination::Copy;
                    row.link.look = row.link.relabel;
                    row.link.id
                }
            };
            self.sides[side].inbox[nth].link_id = Some(link_id);
            if let Some(row) = self.sides[side].row(link_id) {
                row.link.due_seq += 1;
            }
        }
    }

    /// Marks due what changed here.
    fn feed(&mut self) {
        let now = self.now;
        for (id, stored) in &self.customers {
            for side in &mut self.sides {
                let row = match side.links.iter_mut().position(|row| row.link.customer_id == *id) {
                    Some(nth) => &mut side.links[nth],
                    None => side.link(now, *id, None),
                };
                if row.link.due_version < stored.telling {
                    row.link.due_version = stored.telling;
                    row.link.due_seq += 1;
                }
            }
        }
    }

    fn lease(&mut self, side: usize) -> Option<Link> {
        let (now, token) = (self.now, self.id());
        let free = self.sides[side].links.iter_mut().find(|row| {
            row.link.due_seq > row.done_seq && row.not_before <= now && row.leased_until.is_none_or(|until| until < now)
        })?;
        free.link.token = token;
        free.leased_until = Some(now + LEASE);
        Some(free.link.clone())
    }

    fn end(&mut self, side: usize, link: &Link, ended: Result<usize, RunError>) {
        let (now, jitter) = (self.now, self.dice.random());
        self.tell(|| format!("a run of link {} at gateway {side} ended: {ended:?}", link.id));
        if let Err(RunError::Refused(error)) = &ended {
            self.breaks(|| format!("the event log refused: {error}"));
        }
        // Other processes end runs, too.
        let remembers = !self.fails(0.3);
        let side = &mut self.sides[side];
        let Some(row) = side.row(link.id).filter(|row| row.link.token == link.token) else { return };
        match ended {
            Ok(_) => {
                row.done_seq = link.due_seq;
                row.link.attempts = 0;
                row.not_before = now;
                row.leased_until = None;
                let rests = row.link.due_seq == row.done_seq;
                let rest = AtRest::of(row.link.clone(), row.seal()).filter(|_| rests);
                if let (true, Some(rest), Some(remote_id)) = (remembers, rest, &link.remote_id) {
                    side.resting.insert(remote_id.clone(), rest);
                }
                return;
            }
            Err(RunError::LeaseLost) => return,
            Err(error) => {
                let wait = wait_after(&error, link.attempts, jitter);
                row.not_before = now + TimeDelta::from_std(wait).unwrap_or_default();
                row.link.attempts += 1;
            }
        }
        row.leased_until = None;
    }

    /// Nobody does anything for a day and more. What was on its way arrives before, or never; a change, but no creation,
    /// may hang all day, and arrive when its key is forgotten.
    fn day(&mut self) {
        for side in 0..self.sides.len() {
            let all = std::mem::take(&mut self.sides[side].remote.requests);
            let (hang, arrive): (Vec<_>, Vec<_>) =
                all.into_iter().partition(|one| !matches!(one.write, Write::Create { .. }) && self.fails(0.3));
            self.sides[side].remote.requests = arrive;
            while !self.sides[side].remote.requests.is_empty() {
                self.network(side);
                self.sides[side].remote.requests.retain(|request| request.answer.is_none());
            }
            self.sides[side].remote.requests = hang;
        }
        self.now += TimeDelta::hours(25);
        self.tell(|| "a day passes".to_owned());
    }

    fn at_rest(&self) -> bool {
        self.sides.iter().all(|side| {
            side.inbox.len() == side.remote.changes.len()
                && side.inbox.iter().all(|told| told.link_id.is_some() || told.ended)
                && side.links.iter().all(|row| row.link.due_seq == row.done_seq && row.leased_until.is_none())
        })
    }
}

impl Side {
    /// Stores a change, once however often it comes.
    fn take(&mut self, change: RemoteChange) {
        if self.inbox.iter().all(|told| told.change.event_id != change.event_id) {
            self.inbox.push(Told { change, link_id: None, ended: false, held: false });
        }
    }
}
