//! A gateway in memory, as Stripe's documentation describes it: whole seconds, keys that live a day, saved 500s.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use http::HeaderMap;
use rand::RngExt;
use tandem_domain::{CustomerId, Field, GatewayName, Interval, Profile, RemoteId, Value};
use tandem_eventlog::zoo::plays;

use super::history::Setting;
use super::world::{State, World, pause};
use crate::stripe::Offset;
use crate::{
    Call, CallError, ChangeKind, Changes, Gateway, Listed, Notice, Object, Pace, RemoteChange, Reply, Seen, Untold,
    WebhookError, Write,
};

/// How long a client waits for a reply.
pub(super) const TIMEOUT: TimeDelta = TimeDelta::seconds(3);

/// How many changes are on a page: few, so that there are several.
const PAGE: usize = 3;

pub(super) struct Remote {
    n: usize,
    /// How far its clock is ahead of ours.
    offset: TimeDelta,
    pub objects: BTreeMap<RemoteId, Held>,
    /// All that ever changed, in the order in which it did.
    pub changes: Vec<RemoteChange>,
    /// Changes that wait to be told by webhook.
    pub webhooks: Vec<RemoteChange>,
    keys: BTreeMap<String, Saved>,
    /// Each key's first body, and when it was sent.
    sent: BTreeMap<String, (String, DateTime<Utc>)>,
    pub requests: Vec<Request>,
    requested: u64,
    pub writes: usize,
}

#[derive(Clone)]
pub(super) struct Held {
    pub profile: Profile,
    pub customer: Option<CustomerId>,
    created: DateTime<Utc>,
    pub gone: bool,
}

#[derive(Clone)]
struct Saved {
    at: DateTime<Utc>,
    /// `None`: a 500.
    object: Option<Object>,
}

/// A write on its way there, or its reply on the way back.
pub(super) struct Request {
    id: u64,
    pub write: Write,
    key: String,
    pub answer: Option<Answer>,
}

pub(super) struct Answer {
    date: DateTime<Utc>,
    result: Result<(Object, bool), CallError>,
}

impl Remote {
    pub fn new(n: usize, setting: &Setting) -> Self {
        Self {
            n,
            offset: setting.offset,
            objects: BTreeMap::new(),
            changes: vec![],
            webhooks: vec![],
            keys: BTreeMap::new(),
            sent: BTreeMap::new(),
            requests: vec![],
            requested: 0,
            writes: 0,
        }
    }

    fn spell(&self, setting: &Setting, mut profile: Profile) -> Profile {
        if setting.normalises {
            let spelled = profile.text(&Field::Name).map(|name| match self.n {
                0 => name.to_lowercase(),
                _ => name.to_uppercase(),
            });
            profile.set(Field::Name, spelled.map(Value::Text));
        }
        profile
    }

    fn object(&self, remote_id: &RemoteId) -> Option<Object> {
        let held = self.objects.get(remote_id)?;
        let remote_id = remote_id.clone();
        Some(if held.gone {
            Object::Gone { remote_id }
        } else {
            Object::Present {
                remote_id,
                profile: held.profile.clone(),
                customer: held.customer,
                untold: Untold::default(),
            }
        })
    }
}

/// Carries out a write at a gateway: a person's, or, with a key, a call of ours. `None`: there is no such object.
pub(super) fn carry_out(state: &mut State, side: usize, write: &Write, key: Option<&str>) -> Option<Object> {
    let now = state.now + state.sides[side].remote.offset;
    // A stamp is taken before or after the change by as much as a second.
    let stamp =
        now + TimeDelta::milliseconds(if state.healed { 0 } else { [0, 0, -400, 400][state.dice.random_range(0..4)] });
    let setting = state.setting.clone();
    // A test clock: what happens under it is stamped with its time.
    let stamp = if setting.test_clock && state.dice.random_bool(0.3) { stamp + TimeDelta::days(180) } else { stamp };
    let remote = &mut state.sides[side].remote;
    let (remote_id, kind, before) = match write {
        Write::Create { customer, profile } => {
            let remote_id = RemoteId::from(format!("cus_{}_{}", remote.n, remote.objects.len()));
            let customer = key.map(|_| *customer);
            let profile = remote.spell(&setting, profile.clone());
            remote.objects.insert(remote_id.clone(), Held { profile, customer, created: now, gone: false });
            (remote_id, ChangeKind::Created, None)
        }
        Write::Update { remote_id, patch } => {
            let held = remote.objects.get(remote_id).filter(|held| !held.gone)?.clone();
            let profile = remote.spell(&setting, patch.applied_to(&held.profile));
            let known = remote.objects.get_mut(remote_id)?;
            known.profile = profile;
            (remote_id.clone(), ChangeKind::Updated, Some(held.profile))
        }
        Write::Claim { remote_id, customer } => {
            let held = remote.objects.get_mut(remote_id).filter(|held| !held.gone)?;
            held.customer = Some(*customer);
            (remote_id.clone(), ChangeKind::Updated, Some(held.profile.clone()))
        }
        Write::Delete { remote_id } => {
            let held = remote.objects.get_mut(remote_id).filter(|held| !held.gone)?;
            held.gone = true;
            (remote_id.clone(), ChangeKind::Deleted, None)
        }
    };
    let held = remote.objects.get(&remote_id)?.clone();
    let previous: BTreeMap<Field, Option<Value>> = before
        .iter()
        .flat_map(|before| {
            let fields = before.fields_with(&held.profile).filter(|field| before.get(field) != held.profile.get(field));
            fields.map(|field| (field.clone(), before.get(field).cloned())).collect::<Vec<_>>()
        })
        .collect();
    // What changes nothing is no event.
    if kind != ChangeKind::Updated || !previous.is_empty() {
        let change = RemoteChange {
            event_id: format!("evt_{}_{}", remote.n, remote.changes.len()),
            kind,
            created: stamp.duration_trunc(TimeDelta::seconds(1)).unwrap(),
            remote_id: remote_id.clone(),
            profile: held.profile,
            customer: held.customer,
            untold: Untold::default(),
            previous,
            idempotency_key: key.map(str::to_owned),
        };
        remote.changes.push(change.clone());
        remote.webhooks.push(change.clone());
        state.tell(|| format!("at gateway {side}: {change:?}"));
    }
    state.sides[side].remote.object(&remote_id)
}

/// A request arrives: carried out, unless its key was used, or it fails before, or after.
pub(super) fn arrive(state: &mut State, side: usize, nth: usize) {
    let (day, now) = (TimeDelta::hours(24), state.now);
    let remote = &mut state.sides[side].remote;
    remote.keys.retain(|_, saved| now - saved.at < day);
    let date = now + remote.offset;
    let request = &remote.requests[nth];
    let (write, key) = (request.write.clone(), request.key.clone());
    let result = match remote.keys.get(&key) {
        Some(Saved { object: Some(object), .. }) => Ok((object.clone(), true)),
        Some(Saved { object: None, .. }) => Err(failed()),
        None => {
            let often = state.setting.failing;
            let fails = state.fails(often);
            let done = !fails || state.dice.random_bool(0.5);
            match done.then(|| carry_out(state, side, &write, Some(&key))).flatten() {
                _ if fails => Err(failed()),
                Some(object) => Ok((object, false)),
                None => Err(CallError::Missing),
            }
        }
    };
    let saved = match &result {
        Ok((object, _)) => Some(Some(object.clone())),
        Err(CallError::Failed { .. }) => Some(None),
        Err(_) => None,
    };
    state.tell(|| format!("gateway {side} carried out {key}: {write:?}: {result:?}"));
    let remote = &mut state.sides[side].remote;
    if let Some(object) = saved {
        remote.keys.entry(key).or_insert(Saved { at: now, object });
    }
    remote.requests[nth].answer = Some(Answer { date, result });
}

fn failed() -> CallError {
    CallError::Failed { reason: "a 500".to_owned() }
}

fn unavailable() -> CallError {
    CallError::Unavailable { reason: "no reply".to_owned(), retry_after: None }
}

/// The adapter.
#[derive(Clone)]
pub(super) struct Adapter {
    pub world: World,
    pub side: usize,
    pub name: GatewayName,
    pub offset: Arc<Offset>,
}

impl Adapter {
    /// Reads something: asked, answered, told.
    async fn read<T>(&self, what: impl FnOnce(&Remote) -> T + Send) -> Result<(T, Interval), CallError>
    where
        T: Send,
    {
        let sent = self.world.lock().now;
        pause().await;
        let (read, date) = {
            let mut state = self.world.lock();
            if state.fails(0.05) {
                return Err(unavailable());
            }
            let remote = &state.sides[self.side].remote;
            (what(remote), state.now + remote.offset)
        };
        pause().await;
        Ok((read, self.interval(sent, date)?))
    }

    fn interval(&self, sent: DateTime<Utc>, date: DateTime<Utc>) -> Result<Interval, CallError> {
        let received = self.world.lock().now;
        if received - sent > TIMEOUT {
            return Err(unavailable());
        }
        let date = date.duration_trunc(TimeDelta::seconds(1)).unwrap();
        self.offset.note(sent, received, date);
        Ok(Interval::of_call(date, received - sent))
    }
}

#[async_trait]
impl Gateway for Adapter {
    fn name(&self) -> &GatewayName {
        &self.name
    }

    fn in_bulk(&self) -> Arc<dyn Gateway> {
        Arc::new(self.clone())
    }

    fn pace(&self) -> Option<&dyn Pace> {
        None
    }

    fn call_timeout(&self) -> Duration {
        TIMEOUT.to_std().unwrap()
    }

    fn freeze(&self, write: &Write, _: &Profile) -> String {
        format!("{write:?}")
    }

    async fn send(&self, call: &Call<'_>) -> Result<Reply, CallError> {
        let (sent, id) = {
            let mut state = self.world.lock();
            let now = state.now;
            let remote = &mut state.sides[self.side].remote;
            remote.requested += 1;
            remote.writes += 1;
            let id = remote.requested;
            let (first, at) =
                remote.sent.entry(call.key.to_owned()).or_insert_with(|| (call.body.to_owned(), now)).clone();
            let request = Request { id, write: call.write.clone(), key: call.key.to_owned(), answer: None };
            remote.requests.push(request);
            if first != call.body {
                state.breaks(|| format!("two bodies under {}: {first} and {}", call.key, call.body));
            }
            if now - at > TimeDelta::hours(23) {
                state.breaks(|| format!("{} was sent {} after its first time", call.key, now - at));
            }
            state.tell(|| format!("sent to gateway {}: {} {}", self.side, call.key, call.body));
            (now, id)
        };
        let Answer { date, result } = loop {
            pause().await;
            let mut state = self.world.lock();
            let late = state.now - sent > TIMEOUT;
            let requests = &mut state.sides[self.side].remote.requests;
            let answered = requests.iter().position(|one| one.id == id && one.answer.is_some());
            if late {
                return Err(unavailable());
            }
            if let Some(answer) = answered.and_then(|nth| requests.remove(nth).answer) {
                break answer;
            }
        };
        let interval = self.interval(sent, date)?;
        let (object, replayed) = result?;
        Ok(Reply { seen: Seen { object, interval }, replayed })
    }

    async fn retrieve(&self, remote_id: &RemoteId) -> Result<Seen, CallError> {
        let (object, interval) = self.read(|remote| remote.object(remote_id)).await?;
        Ok(Seen { object: object.ok_or(CallError::Missing)?, interval })
    }

    async fn changes(
        &self,
        since: DateTime<Utc>,
        of: Option<&RemoteId>,
        after: Option<&str>,
    ) -> Result<Changes, CallError> {
        let read = |remote: &Remote| {
            let listed = remote.changes.iter().rev().skip_while(|change| after.is_some_and(|id| change.event_id != id));
            let listed: Vec<&RemoteChange> =
                listed.skip(usize::from(after.is_some())).filter(|change| change.created >= since).collect();
            let page = &listed[..listed.len().min(PAGE)];
            let next = page.last().filter(|_| listed.len() > PAGE).map(|last| last.event_id.clone());
            let wanted = |change: &&&RemoteChange| of.is_none_or(|of| *of == change.remote_id);
            Changes { changes: page.iter().filter(wanted).map(|change| (*change).clone()).collect(), next }
        };
        Ok(self.read(read).await?.0)
    }

    async fn created_for(&self, customer: CustomerId, since: DateTime<Utc>) -> Result<Vec<Seen>, CallError> {
        // For the zoo: a search finds what was written a minute ago.
        let until = self.world.lock().now + TimeDelta::minutes(if plays("search-instead-of-list") { -1 } else { 60 });
        let ours = |held: &Held| {
            held.customer == Some(customer) && held.created >= since && held.created < until && !held.gone
        };
        let read = |remote: &Remote| -> Vec<Object> {
            let found = remote.objects.iter().filter(|(_, held)| ours(held));
            found.filter_map(|(id, _)| remote.object(id)).collect()
        };
        let (found, interval) = self.read(read).await?;
        Ok(found.into_iter().map(|object| Seen { object, interval }).collect())
    }

    async fn list(&self, _: Option<DateTime<Utc>>, _: Option<&RemoteId>) -> Result<Listed, CallError> {
        Ok(Listed { seen: vec![], next: None })
    }

    async fn with_email(&self, _: &str) -> Result<Vec<Seen>, CallError> {
        Ok(vec![])
    }

    fn may_be_genuine(&self, _: &HeaderMap, _: DateTime<Utc>) -> Result<(), WebhookError> {
        Ok(())
    }

    fn verify(&self, _: &HeaderMap, _: &[u8], _: DateTime<Utc>) -> Result<Notice, WebhookError> {
        Err(WebhookError::Signature)
    }

    fn clock_offset(&self) -> TimeDelta {
        self.offset.now()
    }

    fn least_clock_offset(&self) -> TimeDelta {
        self.offset.least()
    }
}
