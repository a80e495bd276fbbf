//! The calls that were made are those that were intended: each stored before it was sent, under a lease, and as it was stored.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chrono::{DateTime, Utc};
use reqwest::Url;
use stripe_sim::Call;

use super::play::{World, account_of};

/// An intent is stored in one statement that holds the link by its lease. So a call whose intent is there was decided under
/// a valid lease, whoever sent it, and however late.
#[derive(Debug, sqlx::FromRow)]
struct Intent {
    key: String,
    link_id: i64,
    remote_id: Option<String>,
    body: String,
    state: String,
    created_at: DateTime<Utc>,
}

/// No key is sent when it is older.
const KEY_LIFE_MS: i64 = 23 * 3600 * 1000;

/// A call that was on its way when a day passed may arrive so much later: the timeout of calls, and some.
const ON_ITS_WAY: Duration = Duration::from_secs(4);

/// Checks all calls since the beginning against the intents.
pub async fn in_order(world: &World) -> Result<(), String> {
    let accounts = world.tandem.gateways().enumerate();
    for (account, gateway) in accounts {
        in_order_at(world, account, gateway).await.map_err(|wrong| format!("at {gateway}: {wrong}"))?;
    }
    Ok(())
}

async fn in_order_at(world: &World, account: usize, gateway: &str) -> Result<(), String> {
    let World { tandem, passed, .. } = world;
    let calls = account_of(tandem, account).calls().await.unwrap();
    let calls: Vec<Call> = calls.into_iter().filter(Call::is_write).collect();
    let sql = "SELECT key, link_id, remote_id, body, intents.state, intents.created_at
               FROM intents JOIN links ON links.id = link_id WHERE gateway = $1 ORDER BY link_id, intents.created_at";
    let intents: Vec<Intent> = sqlx::query_as(sql).bind(gateway).fetch_all(&tandem.database).await.unwrap();
    let by_key: BTreeMap<&str, &Intent> = intents.iter().map(|intent| (intent.key.as_str(), intent)).collect();
    let mut first: BTreeMap<&str, &Call> = BTreeMap::new();
    for call in calls.iter().filter(|call| call.method == "POST") {
        let key = call.idempotency_key.as_deref().unwrap_or_default();
        let Some(intent) = by_key.get(key) else { return Err(format!("never intended: {call:?}")) };
        if call.params != form(&intent.body) {
            return Err(format!("{call:?} is not what was intended: {intent:?}"));
        }
        if call.at_ms - intent.created_at.timestamp_millis() > KEY_LIFE_MS && !was_on_its_way(call, passed) {
            return Err(format!("an old key: {call:?} by {intent:?}"));
        }
        let first = first.entry(key).or_insert(call);
        let named = call.path.strip_prefix("/v1/customers/");
        if call.path != first.path || named.is_some() && named != intent.remote_id.as_deref() {
            return Err(format!("{call:?} is of another object than {intent:?}"));
        }
    }
    one_after_the_other(&intents, &first)
}

/// A link's next call is begun only when the one before it is settled. And none is settled as done that never arrived.
fn one_after_the_other(intents: &[Intent], first: &BTreeMap<&str, &Call>) -> Result<(), String> {
    let sent = |intent: &&Intent| first.contains_key(intent.key.as_str());
    let sent: Vec<&Intent> = intents.iter().filter(sent).collect();
    for pair in sent.windows(2) {
        let [before, after] = pair else { continue };
        if before.link_id == after.link_id && first[before.key.as_str()].number > first[after.key.as_str()].number {
            return Err(format!("{after:?} was begun before {before:?}"));
        }
    }
    let deletes = |intent: &Intent| intent.body.is_empty();
    let unsent = |intent: &&Intent| intent.state == "executed" && !first.contains_key(intent.key.as_str());
    match intents.iter().filter(unsent).find(|intent| !deletes(intent)) {
        Some(unsent) => Err(format!("done, and never sent: {unsent:?}")),
        None => Ok(()),
    }
}

fn was_on_its_way(call: &Call, passed: &[SystemTime]) -> bool {
    let received = UNIX_EPOCH + Duration::from_micros(u64::try_from(call.received_us).unwrap_or_default());
    passed.iter().any(|passed| received.duration_since(*passed).is_ok_and(|later| later < ON_ITS_WAY))
}

fn form(body: &str) -> BTreeMap<String, String> {
    let mut url = Url::parse("http://form").unwrap();
    url.set_query(Some(body));
    url.query_pairs().into_owned().collect()
}
