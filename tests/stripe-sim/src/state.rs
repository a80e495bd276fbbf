//! Everything that the local Stripe knows.

use std::io;
use std::path::Path;

use crate::calls::Calls;
use crate::clock::Clock;
use crate::customers::Customers;
use crate::endpoints::{Endpoint, Endpoints};
use crate::events::Events;
use crate::faults::Faults;
use crate::idempotency::Keys;
use crate::journal::{self, Journal, Record};
use crate::limits::Limiter;
use crate::lists::Place;
use crate::options::Settings;
use crate::webhooks::{Sending, Switches};

/// Endpoints given at the start are not kept: the next start gives its own, by the same ids.
const GIVEN: &str = "we_1Given";

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) clock: Clock,
    pub(crate) settings: Settings,
    pub(crate) customers: Customers,
    pub(crate) events: Events,
    pub(crate) endpoints: Endpoints,
    pub(crate) keys: Keys,
    pub(crate) calls: Calls,
    pub(crate) faults: Faults,
    pub(crate) limiter: Limiter,
    pub(crate) switches: Switches,
    /// What has changed since the last commit.
    pub(crate) records: Vec<Record>,
    /// What is to be sent once it is committed.
    pub(crate) outbox: Vec<Sending>,
    /// The account's id, if it is a connected one: its events name it.
    pub(crate) connected: Option<String>,
    journal: Option<Journal>,
    last_seq: u64,
}

impl State {
    /// Empty, and in memory alone.
    pub(crate) fn new(settings: Settings) -> Self {
        Self { settings, ..Self::default() }
    }

    /// Takes up where the file ends, and keeps it up to date from here on.
    pub(crate) fn open(path: &Path, settings: Settings) -> io::Result<Self> {
        let mut state = Self::new(settings);
        for record in journal::read(path)? {
            state.restore(record);
        }
        state.journal = Some(Journal::rewrite(path, &state.snapshot())?);
        Ok(state)
    }

    /// An endpoint named at the start.
    pub(crate) fn give_endpoint(&mut self, url: String, secret: String) {
        let number = self.endpoints.iter().filter(|endpoint| endpoint.id.starts_with(GIVEN)).count();
        let id = format!("{GIVEN}{number:018}");
        let place = self.next_place();
        self.endpoints.put(Endpoint::of_all(id, place, url, secret));
    }

    /// Where an object made now stands.
    pub(crate) fn next_place(&mut self) -> Place {
        self.last_seq += 1;
        Place { created: self.clock.now(), seq: self.last_seq }
    }

    /// Everything changed since the last commit goes to the file as one.
    pub(crate) fn commit(&mut self) {
        if self.records.is_empty() {
            return;
        }
        if let Some(journal) = &mut self.journal {
            journal.append(&self.records);
        }
        self.records.clear();
    }

    /// The endpoint has the event, or never will.
    pub(crate) fn delivered(&mut self, event: &str, endpoint: &str) {
        if self.events.delivered(event, endpoint) {
            self.records.push(Record::Delivered { event: event.to_owned(), endpoint: endpoint.to_owned() });
        }
    }

    /// What an earlier process had not delivered is sent now.
    pub(crate) fn resume_deliveries(&mut self) {
        let mut unsent: Vec<Sending> = Vec::new();
        for (id, endpoints) in &self.events.pending {
            let Some(event) = self.events.get(id) else { continue };
            unsent.extend(endpoints.iter().map(|endpoint| Sending::new(event, endpoint)));
        }
        unsent.sort_by_key(|sending| sending.event.place);
        self.outbox.extend(unsent);
    }

    fn restore(&mut self, record: Record) {
        match record {
            Record::Customer { place, object, deleted } => {
                self.last_seq = self.last_seq.max(place.seq);
                self.customers.put(place, object, deleted, None);
            }
            Record::Event { event, pending } => {
                self.last_seq = self.last_seq.max(event.place.seq);
                self.events.insert(event, pending);
            }
            Record::Delivered { event, endpoint } => drop(self.events.delivered(&event, &endpoint)),
            Record::Endpoint { endpoint } => {
                self.last_seq = self.last_seq.max(endpoint.place.seq);
                self.endpoints.put(endpoint);
            }
            Record::EndpointDeleted { id } => self.endpoints.remove(&id),
            Record::Key { key, saved } => self.keys.finish(&key, Some(saved)),
            Record::Clock { clock } => self.clock = clock,
        }
    }

    fn snapshot(&self) -> Vec<Record> {
        let mut records = vec![Record::Clock { clock: self.clock }];
        let kept = self.endpoints.iter().filter(|endpoint| !endpoint.id.starts_with(GIVEN));
        records.extend(kept.map(|endpoint| Record::Endpoint { endpoint: endpoint.clone() }));
        records.extend(self.customers.entries().map(|(_, entry)| Record::Customer {
            place: entry.place,
            object: entry.object.clone(),
            deleted: entry.deleted,
        }));
        records.extend(self.events.by_place.values().map(|event| Record::Event {
            event: event.clone(),
            pending: self.events.pending.get(&event.id).cloned().unwrap_or_default(),
        }));
        let mut keys: Vec<_> = self.keys.saved().collect();
        keys.sort_by_key(|(_, saved)| saved.at_ms);
        records.extend(keys.into_iter().map(|(key, saved)| Record::Key { key: key.clone(), saved: saved.clone() }));
        records
    }
}
