//! Looking at one, listing changes, finding what was created, the clock, webhooks.

use std::time::Duration;

use super::*;
use chrono::{DateTime, TimeDelta, Utc};
use http::HeaderMap;
use stripe_sim::{Account, ClockChange, sign};
use tandem_gateways::{ChangeKind, Notice, RemoteChange};

fn time(ms: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(ms).unwrap()
}

/// All pages of what changed, turned round: oldest first.
async fn changes(stripe: &Stripe, since: DateTime<Utc>, of: Option<&RemoteId>) -> Result<Vec<RemoteChange>> {
    let (mut all, mut cursor) = (vec![], None::<String>);
    loop {
        let page = stripe.changes(since, of, cursor.as_deref()).await?;
        all.extend(page.changes);
        cursor = page.next;
        if cursor.is_none() {
            all.reverse();
            return Ok(all);
        }
    }
}

#[tokio::test]
async fn a_look_says_when_it_was_so() -> Result<()> {
    let local = local().await?;
    local.control.clock(ClockChange::FreezeAtMs(1_700_000_000_900)).await?;
    let ada = local.ada().await?;
    for seen in [local.stripe.retrieve(&ada).await?, local.send(&rename(&ada, "Eda")).await?.seen] {
        assert!(seen.interval.from() < time(1_700_000_000_900) && time(1_700_000_000_900) < seen.interval.until());
        assert_eq!(seen.interval.until(), time(1_700_000_002_000));
    }
    Ok(())
}

#[tokio::test]
async fn an_unknown_customer_is_missing_and_a_deleted_one_is_gone() -> Result<()> {
    let local = local().await?;
    for id in ["cus_nobody", "a/b?c"] {
        let answer = local.stripe.retrieve(&RemoteId::from(id.to_owned())).await;
        assert!(matches!(answer, Err(CallError::Missing)), "{answer:?}");
    }
    let ada = local.ada().await?;
    local.send(&delete(&ada)).await?;
    assert_eq!(local.stripe.retrieve(&ada).await?.object, Object::Gone { remote_id: ada });
    Ok(())
}

#[tokio::test]
async fn changes_come_complete_and_newest_first() -> Result<()> {
    let local = local().await?;
    let (ada, eve) = (local.ada().await?, local.ada().await?);
    let middle = local.control.now_ms().await? + 3_600_000;
    local.control.advance(Duration::from_secs(7200)).await?;
    for n in 0..205 {
        local.control.edit(ada.as_str(), &[("name", &format!("Ada {n}"))]).await?;
    }
    local.send(&delete(&eve)).await?;

    let told = |changes: &[RemoteChange]| changes.iter().map(|change| change.event_id.clone()).collect::<Vec<_>>();
    let events = local.control.events().await?;
    let all: Vec<_> = events.iter().map(|event| event.id.clone()).collect();
    assert_eq!(told(&changes(&local.stripe, time(0), None).await?), all);
    assert_eq!(told(&changes(&local.stripe, time(middle), None).await?), all[2..]);
    let of_ada = changes(&local.stripe, time(middle), Some(&ada)).await?;
    assert_eq!(of_ada.len(), 205);
    assert_eq!(of_ada[204].profile.text(&Field::Name), Some("Ada 204"));
    assert_eq!(of_ada[204].previous[&Field::Name], Some(text("Ada 203")));
    let of_eve = changes(&local.stripe, time(0), Some(&eve)).await?;
    let kinds: Vec<_> = of_eve.iter().map(|change| change.kind).collect();
    assert_eq!(kinds, [ChangeKind::Created, ChangeKind::Deleted]);
    assert_eq!(of_eve[1].profile.text(&Field::Name), Some("Ada"));
    Ok(())
}

#[tokio::test]
async fn a_change_of_ours_carries_its_key_and_what_was_there_before() -> Result<()> {
    let local = local().await?;
    let created = local.send_as("key-create", &create()).await?;
    let (remote_id, ..) = present(&created.seen.object);
    let address =
        Address { line1: Some("2 Main St".to_owned()), city: Some("London".to_owned()), ..Address::default() };
    let patch = Patch::default()
        .with(Field::Phone, None)
        .with(Field::Address, Some(Value::Address(address)))
        .with(metadata("plan"), Some(text("free")))
        .with(metadata("new"), Some(text("x")));
    local.send_as("key-update", &Write::Update { remote_id: remote_id.clone(), patch: patch.clone() }).await?;
    local.control.edit(remote_id.as_str(), &[("name", "Ada")]).await?;

    let changes = changes(&local.stripe, time(0), None).await?;
    let keys: Vec<_> = changes.iter().map(|change| change.idempotency_key.as_deref()).collect();
    assert_eq!(keys, [Some("key-create"), Some("key-update"), None]);
    for (field, _) in patch.iter() {
        assert_eq!(changes[1].previous[field].as_ref(), profile().get(field), "{field}");
    }
    assert_eq!(changes[1].previous.len(), 4);
    assert_eq!(changes[1].profile, patch.applied_to(&profile()));
    assert_eq!(changes[1].customer, Some(customer_id(1)));
    Ok(())
}

#[tokio::test]
async fn what_was_created_for_a_customer_is_found_among_many() -> Result<()> {
    let local = local().await?;
    let old = local.send(&create()).await?;
    local.control.advance(Duration::from_secs(7200)).await?;
    let since = time(local.control.now_ms().await?);
    local.control.advance(Duration::from_secs(10)).await?;
    let young = local.send(&create()).await?;
    let deleted = local.send(&create()).await?;
    local.send(&delete(present(&deleted.seen.object).0)).await?;
    local.send(&Write::Create { customer: customer_id(2), profile: profile() }).await?;
    for _ in 0..101 {
        local.ada().await?;
    }

    let objects = async |since| -> Result<Vec<Object>> {
        let found = local.stripe.created_for(customer_id(1), since).await?;
        Ok(found.into_iter().map(|seen| seen.object).collect())
    };
    assert_eq!(objects(time(0)).await?, [young.seen.object.clone(), old.seen.object]);
    assert_eq!(objects(since).await?, [young.seen.object]);
    Ok(())
}

#[tokio::test]
async fn all_living_customers_are_listed_page_by_page() -> Result<()> {
    let local = local().await?;
    let mut made = vec![];
    for _ in 0..205 {
        made.push(local.ada().await?);
    }
    let ours = local.send(&create()).await?.seen;
    made.push(present(&ours.object).0.clone());
    local.send(&delete(&made.remove(7))).await?;
    made.reverse();

    let (mut listed, mut pages, mut next) = (vec![], 0, None);
    loop {
        let page = local.stripe.list(None, next.as_ref()).await?;
        // Whoever comes meanwhile is newer than every page that is still to come.
        local.ada().await?;
        pages += 1;
        listed.extend(page.seen);
        next = page.next;
        if next.is_none() {
            break;
        }
    }
    let ids: Vec<RemoteId> = listed.iter().map(|seen| present(&seen.object).0.clone()).collect();
    assert_eq!((pages, ids), (3, made));
    assert_eq!(listed[0].object, ours.object, "with its fields, and whose copy it is");
    assert!(listed[0].interval.from() < listed[0].interval.until());

    let since = time(local.control.now_ms().await?) + TimeDelta::hours(1);
    local.control.advance(Duration::from_secs(7200)).await?;
    let young = local.ada().await?;
    let listed = local.stripe.list(Some(since), None).await?;
    let ids: Vec<&RemoteId> = listed.seen.iter().map(|seen| present(&seen.object).0).collect();
    assert_eq!((ids, listed.next), (vec![&young], None), "those created since then alone");

    let unknown = local.stripe.list(None, Some(&RemoteId::from("cus_nobody".to_owned()))).await;
    assert!(matches!(unknown, Err(CallError::Missing)), "{unknown:?}");
    Ok(())
}

#[tokio::test]
async fn the_offset_of_stripes_clock_is_learnt_from_its_replies() -> Result<()> {
    let local = local().await?;
    let ada = local.ada().await?;
    assert_eq!(local.stripe.clock_offset(), TimeDelta::zero());
    local.stripe.retrieve(&ada).await?;
    assert_eq!(local.stripe.clock_offset(), TimeDelta::zero());
    local.control.clock(ClockChange::OffsetMs(90_000)).await?;
    local.stripe.retrieve(&ada).await?;
    let error = local.stripe.clock_offset() - TimeDelta::seconds(90);
    assert!(error.abs() < TimeDelta::seconds(10), "off by {error}");
    Ok(())
}

#[tokio::test]
async fn a_webhook_tells_what_the_list_of_events_tells() -> Result<()> {
    let local = local_with(Settings::default(), |config| config.webhook_secrets = vec!["whsec_1".into()]).await?;
    let created = local.send(&create()).await?;
    let (remote_id, ..) = present(&created.seen.object);
    local.control.edit(remote_id.as_str(), &[("address[city]", "Paris"), ("metadata[plan]", "")]).await?;
    local.send(&delete(remote_id)).await?;

    let listed = changes(&local.stripe, time(0), None).await?;
    let events = local.control.events().await?;
    assert_eq!(events.len(), 3);
    for (event, listed) in events.iter().zip(listed) {
        let body = event.body.to_string();
        let now = time(1_700_000_000_000);
        let signature = sign("whsec_1", now.timestamp(), body.as_bytes());
        let headers = HeaderMap::from_iter([(http::HeaderName::from_static("stripe-signature"), signature.parse()?)]);
        let notice = local.stripe.verify(&headers, body.as_bytes(), now)?;
        assert_eq!(notice, Notice::Change(Box::new(listed)));
    }
    Ok(())
}

#[tokio::test]
async fn objects_are_found_by_their_email_as_written_and_in_lower_case() -> Result<()> {
    let local = local().await?;
    let create = async |email: &str| anyhow::Ok(local.control.create(&[("email", email)]).await?.id);
    let (written, lower) = (create("Ada@Old.example").await?, create("ada@old.example").await?);
    create("ada@new.example").await?;
    let dead = create("ada@old.example").await?;
    local.control.delete(&dead).await?;
    let found = async |email: &str| {
        let seen = local.stripe.with_email(email).await?;
        anyhow::Ok(seen.iter().map(|seen| present(&seen.object).0.as_str().to_owned()).collect::<Vec<_>>())
    };
    assert_eq!(found("Ada@Old.example").await?, [written, lower.clone()]);
    assert_eq!(found("ada@old.example").await?, [lower]);
    assert!(found("nobody@old.example").await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_connected_account_is_called_for_by_the_platforms_key() -> Result<()> {
    let accounts = vec![Account::connected("acct_eu")];
    let sim = Sim::start(Options { accounts, ..Options::default() }).await?;
    let stripe = gateway(&sim, |config| config.account = Some("acct_eu".to_owned()))?;
    let ada = RemoteId::from(sim.control_of("acct_eu").create(&[("name", "Ada")]).await?.id);
    assert_eq!(present(&stripe.retrieve(&ada).await?.object).0, &ada);
    assert_eq!(changes(&stripe, time(0), None).await?.len(), 1);
    assert!(matches!(gateway(&sim, |_| {})?.retrieve(&ada).await, Err(CallError::Missing)));
    let foreign = gateway(&sim, |config| config.account = Some("acct_none".to_owned()))?;
    assert!(matches!(foreign.retrieve(&ada).await, Err(CallError::Unauthorised { .. })));
    Ok(())
}
