//! The world of one history: a clock that only the history moves, what the database holds, and the gateways.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures::FutureExt;
use futures::future::BoxFuture;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tandem_domain::{Customer, CustomerEvent, CustomerId, GatewayName, RemoteId};
use uuid::Uuid;

use super::history::Setting;
use super::remote::Remote;
use crate::RemoteChange;
use crate::intent::{Intent, Outcome};
use crate::link::{Link, LinkState};
use crate::parked::Refused;
use crate::pause::Paused;
use crate::rest::AtRest;
use crate::timer::Timer;

/// Shared by everything that happens in one history, one thing at a time.
#[derive(Clone)]
pub(super) struct World(Arc<Mutex<State>>);

pub(super) struct State {
    pub now: DateTime<Utc>,
    pub dice: StdRng,
    /// Nothing goes wrong any more.
    pub healed: bool,
    pub setting: Setting,
    pub customers: BTreeMap<CustomerId, Stored>,
    pub sides: Vec<Side>,
    /// What people wrote, in the order in which they did.
    pub written: Vec<(DateTime<Utc>, String)>,
    /// For the zoo: keys of commands.
    pub command_keys: BTreeSet<String>,
    /// The first promise that was broken.
    pub broken: Option<String>,
    /// What happened, for whoever reads a failure.
    pub told: Option<Vec<String>>,
    ids: u128,
}

/// A customer in the event log.
#[derive(Default)]
pub(super) struct Stored {
    pub customer: Customer,
    /// With the gateway that it came from; `None`: a person here.
    pub events: Vec<(CustomerEvent, Option<GatewayName>)>,
    /// The version of the last event that the feed marks links due for.
    pub telling: u64,
}

/// One gateway: what it is, and what the database knows of it.
pub(super) struct Side {
    pub name: GatewayName,
    pub remote: Remote,
    pub links: Vec<Row>,
    pub intents: Vec<Kept>,
    pub inbox: Vec<Told>,
    /// The links at rest that its process remembers.
    pub resting: BTreeMap<RemoteId, AtRest>,
}

pub(super) struct Row {
    pub link: Link,
    pub done_seq: i64,
    pub not_before: DateTime<Utc>,
    pub leased_until: Option<DateTime<Utc>>,
}

impl Row {
    /// Of all that it says.
    pub fn seal(&self) -> i64 {
        let mut hasher = DefaultHasher::new();
        format!("{:?} {} {:?}", self.link, self.done_seq, self.leased_until).hash(&mut hasher);
        hasher.finish().cast_signed()
    }
}

pub(super) struct Kept {
    pub link_id: i64,
    pub intent: Intent,
    pub outcome: Option<Outcome>,
}

/// A row of the inbox.
pub(super) struct Told {
    pub change: RemoteChange,
    pub link_id: Option<i64>,
    pub ended: bool,
    /// Until a person says what a deletion means.
    pub held: bool,
}

impl World {
    pub fn new(setting: Setting, tells: bool) -> Self {
        let now = DateTime::from_timestamp(1_800_000_000, 250_000_000).unwrap();
        let sides = (0..setting.gateways)
            .map(|n| Side {
                name: ["one", "two"][n].parse().unwrap(),
                remote: Remote::new(n, &setting),
                links: vec![],
                intents: vec![],
                inbox: vec![],
                resting: BTreeMap::new(),
            })
            .collect();
        Self(Arc::new(Mutex::new(State {
            now,
            dice: StdRng::seed_from_u64(setting.seed),
            healed: true,
            setting,
            customers: BTreeMap::new(),
            sides,
            written: vec![],
            command_keys: BTreeSet::new(),
            broken: None,
            told: tells.then(Vec::new),
            ids: 0,
        })))
    }

    /// Nobody else runs while this is held: a step of a history has one thread.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    pub fn id(&mut self) -> Uuid {
        self.ids += 1;
        Uuid::from_u128(self.ids)
    }

    /// Something may go wrong here, this often.
    pub fn fails(&mut self, often: f64) -> bool {
        !self.healed && self.dice.random_bool(often)
    }

    pub fn breaks(&mut self, promise: impl FnOnce() -> String) {
        if self.broken.is_none() {
            self.broken = Some(promise());
        }
    }

    pub fn tell(&mut self, what: impl FnOnce() -> String) {
        let now = self.now;
        if let Some(told) = &mut self.told {
            told.push(format!("{} {}", now.format("%d %H:%M:%S%.3f"), what()));
        }
    }

    /// Appends a customer's events.
    pub fn append(&mut self, id: CustomerId, events: &[CustomerEvent], origin: Option<&GatewayName>) {
        for event in events {
            self.tell(|| format!("event of {}: {event:?}", origin.map_or("a person", GatewayName::as_str)));
        }
        let stored = self.customers.entry(id).or_default();
        for event in events {
            cqrs_es::Aggregate::apply(&mut stored.customer, event.clone());
            stored.events.push((event.clone(), origin.cloned()));
            if matches!(
                event,
                CustomerEvent::Created { .. } | CustomerEvent::Updated { .. } | CustomerEvent::Deleted { .. }
            ) {
                stored.telling = stored.events.len() as u64;
            }
        }
    }
}

impl Side {
    pub fn row(&mut self, id: i64) -> Option<&mut Row> {
        self.links.iter_mut().find(|row| row.link.id == id)
    }

    /// A link that is not there yet. Its token is nobody's.
    pub fn link(&mut self, now: DateTime<Utc>, customer_id: CustomerId, remote_id: Option<RemoteId>) -> &mut Row {
        let link = Link {
            id: self.links.len() as i64 + 1,
            customer_id,
            remote_id,
            state: LinkState::Active,
            base: None,
            spellings: BTreeMap::new(),
            refused: Refused::default(),
            look: false,
            relabel: false,
            apart: false,
            ambiguous: false,
            erased: false,
            asked: None,
            rested: None,
            due_seq: 0,
            due_for: Duration::ZERO,
            bulk: false,
            due_version: 0,
            attempts: 0,
            paused: Paused::default(),
            token: Uuid::nil(),
            step: 0,
        };
        self.links.push(Row { link, done_seq: 0, not_before: now, leased_until: None });
        let last = self.links.len() - 1;
        &mut self.links[last]
    }
}

/// A point at which others may overtake, time may pass, or the process may die.
pub(super) fn pause() -> impl Future<Output = ()> + Send {
    struct Pause(bool);
    impl Future for Pause {
        type Output = ();
        fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
            if std::mem::replace(&mut self.0, true) { Poll::Ready(()) } else { Poll::Pending }
        }
    }
    Pause(false)
}

impl Timer for World {
    fn reading(&self) -> Duration {
        let since = self.lock().now - DateTime::UNIX_EPOCH;
        since.to_std().unwrap_or_default()
    }

    fn wait(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let world = self.clone();
        let until = world.lock().now + TimeDelta::from_std(duration).unwrap();
        async move {
            while world.lock().now < until {
                pause().await;
            }
        }
        .boxed()
    }
}
