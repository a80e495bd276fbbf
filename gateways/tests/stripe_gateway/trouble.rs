//! Lost replies, limits, outages.

use std::time::Duration;

use super::*;
use futures::future::try_join_all;
use stripe_sim::{Fault, RateLimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

fn is_unavailable<T>(result: &Result<T, CallError>) -> bool {
    matches!(result, Err(CallError::Unavailable { .. }))
}

#[tokio::test]
async fn a_create_whose_reply_was_lost_is_not_made_twice() -> Result<()> {
    let local = local().await?;
    local.control.fault(Fault::DropReply.on("POST", "/v1/customers")).await?;
    assert!(is_unavailable(&local.send_as("key", &create()).await));
    let reply = local.send_as("key", &create()).await?;
    assert!(reply.replayed);
    assert_eq!(local.control.customers().await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn a_call_that_takes_too_long_is_given_up_and_its_key_is_good_again() -> Result<()> {
    let local = local().await?;
    let hasty = gateway(&local.sim, |config| config.timeout_ms = 200)?;
    let ada = local.ada().await?;
    let hang = local.control.fault(Fault::Hang.on("POST", "/v1/customers/*")).await?;
    let write = rename(&ada, "Ada Lovelace");
    let body = hasty.freeze(&write, &tandem_domain::Profile::default());
    let call = Call { write: &write, body: &body, key: "key" };
    // On a busy machine it may be given up before Stripe has heard of it.
    while local.control.calls().await?.is_empty() {
        assert!(is_unavailable(&hasty.send(&call).await));
    }
    local.control.fault_reached(hang, 1).await?;
    assert!(is_unavailable(&local.stripe.send(&call).await), "the first is still at work");

    local.control.release_fault(hang).await?;
    local.control.customer_when(ada.as_str(), |held| held.name.as_deref() == Some("Ada Lovelace")).await?;
    assert!(local.stripe.send(&call).await?.replayed);
    Ok(())
}

#[tokio::test]
async fn a_rate_limit_is_heeded_by_all_calls() -> Result<()> {
    let local = local().await?;
    let ada = local.ada().await?;
    let limit = Fault::status(429).code("rate_limit").header("retry-after", "3600");
    local.control.fault(limit.on("GET", "/v1/customers/*")).await?;
    for result in [local.stripe.retrieve(&ada).await.err(), local.send(&create()).await.err()] {
        let Some(CallError::Unavailable { retry_after, .. }) = result else { panic!("{result:?}") };
        assert!(retry_after > Some(Duration::from_secs(3000)), "{retry_after:?}");
    }
    assert_eq!(local.control.calls().await?.len(), 1, "the second was not sent");
    Ok(())
}

#[tokio::test]
async fn a_lock_on_one_customer_holds_up_no_other() -> Result<()> {
    let local = local().await?;
    let (ada, other) = (local.ada().await?, local.ada().await?);
    let lock = Fault::status(429).code("lock_timeout").header("retry-after", "3600");
    local.control.fault(lock.on("POST", "/v1/customers/*")).await?;
    assert!(is_unavailable(&local.send(&rename(&ada, "Eda")).await));
    local.send(&rename(&other, "Eda")).await?;
    Ok(())
}

#[tokio::test]
async fn a_burst_keeps_within_the_limits() -> Result<()> {
    let settings = Settings { rate_limit: Some(RateLimit::SANDBOX), ..Settings::default() };
    let local = local_with(settings, |config| {
        config.requests_per_second = None;
        config.endpoint_requests_per_second = 25;
        config.timeout_ms = 60_000;
    })
    .await?;
    let ada = local.ada().await?;
    try_join_all((0..45).map(|_| local.stripe.retrieve(&ada))).await?;
    assert_eq!(local.control.calls().await?.len(), 45, "none was refused");
    Ok(())
}

#[tokio::test]
async fn a_write_that_failed_at_stripe_says_so_again_under_its_key() -> Result<()> {
    let local = local().await?;
    let ada = local.ada().await?;
    local.control.fault(Fault::Fail500AfterWork.on("POST", "/v1/customers/*")).await?;
    for _ in 0..2 {
        let error = local.send_as("key", &rename(&ada, "Eda")).await.unwrap_err();
        assert!(matches!(error, CallError::Failed { .. }), "{error}");
    }
    assert_eq!(present(&local.stripe.retrieve(&ada).await?.object).1.text(&Field::Name), Some("Eda"));
    Ok(())
}

#[tokio::test]
async fn a_read_that_failed_at_stripe_may_be_made_again() -> Result<()> {
    let local = local().await?;
    let ada = local.ada().await?;
    local.control.fault(Fault::status(500).on("GET", "/v1/customers/*")).await?;
    assert!(is_unavailable(&local.stripe.retrieve(&ada).await));
    local.stripe.retrieve(&ada).await?;
    Ok(())
}

#[tokio::test]
async fn an_outage_is_no_rejection() -> Result<()> {
    let local = local().await?;
    let ada = local.ada().await?;
    local.control.fault(Fault::status(503).header("retry-after", "7").on("POST", "/v1/customers/*")).await?;
    let error = local.send(&rename(&ada, "Eda")).await.unwrap_err();
    let CallError::Unavailable { retry_after, .. } = error else { panic!("{error}") };
    assert_eq!(retry_after, Some(Duration::from_secs(7)));

    local.control.fault(Fault::DropRequest.on("POST", "/v1/customers/*")).await?;
    assert!(is_unavailable(&local.send(&rename(&ada, "Eda")).await));

    local.sim.stop().await;
    let error = local.stripe.retrieve(&ada).await.unwrap_err();
    assert!(matches!(&error, CallError::Unavailable { .. }) && !error.to_string().contains("cus_"), "{error}");
    Ok(())
}

#[tokio::test]
async fn a_key_that_stripe_does_not_know_is_nobodys_pushs_fault() -> Result<()> {
    let sim = Sim::start(Options { secret_keys: vec!["sk_test_right".to_owned()], ..Options::default() }).await?;
    let stripe = gateway(&sim, |config| config.secret_key = "sk_test_wrong_secret_key_1234".into())?;
    let error = stripe.retrieve(&RemoteId::from("cus_1".to_owned())).await.unwrap_err();
    let CallError::Unauthorised { reason } = &error else { panic!("{error}") };
    assert!(reason.contains("Invalid API Key") && !reason.contains("secret"), "{reason}");
    Ok(())
}

#[tokio::test]
async fn a_wrong_address_makes_no_customer_look_deleted() -> Result<()> {
    let local = local().await?;
    let ada = local.ada().await?;
    let lost = gateway(&local.sim, |config| config.api_base = format!("{}/elsewhere", local.sim.url()))?;
    let error = lost.retrieve(&ada).await.unwrap_err();
    assert!(matches!(error, CallError::Rejected { .. } | CallError::Unavailable { .. }), "{error}");
    Ok(())
}

/// A gateway whose Stripe answers every call with this head and body, and closes the connection, or goes on with that body for ever.
async fn answering(head: &'static str, body: String, ends: bool) -> Result<Stripe> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let mut config = StripeConfig::new("sk_test_1");
    config.api_base = format!("http://{}/", listener.local_addr()?);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut asked = vec![];
            while !asked.ends_with(b"\r\n\r\n") && stream.read_buf(&mut asked).await.is_ok_and(|read| read > 0) {}
            let head = format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n");
            let mut open = stream.write_all(head.as_bytes()).await.is_ok();
            while open {
                open = stream.write_all(body.as_bytes()).await.is_ok() && !ends;
            }
        }
    });
    Ok(Stripe::new(config, Arc::new(machine_time))?)
}

/// A gateway whose Stripe answers every call with this.
async fn answered(body: String) -> Result<Stripe> {
    answering("connection: close", body, true).await
}

/// Fails for a client that keeps all that it is sent, as long as more comes.
#[tokio::test]
async fn a_reply_without_end_is_given_up() -> Result<()> {
    let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
    let stripe = answering("transfer-encoding: chunked", chunk, false).await?;
    let endless = stripe.retrieve(&RemoteId::from("cus_1".to_owned())).await;
    let Err(CallError::Unavailable { reason, .. }) = endless else { panic!("{endless:?}") };
    assert!(reason.contains("has no end"), "{reason}");
    Ok(())
}

/// Fails if one item that cannot be read fails its page: a sweep then begins anew for ever, and a plan ends.
#[tokio::test]
async fn a_page_is_read_past_an_item_that_is_none() -> Result<()> {
    let customers = [
        r#"{"id": "cus_1", "name": "Ada"}"#,
        r#"{"id": "cus_2", "name": 7}"#,
        r#"{"id": 3}"#,
        "null",
        r#"{"id": "cus_4", "name": "half \ud800"}"#,
        r#"{"id": "", "name": "Eve"}"#,
        r#"{"id": "cus\u00005", "name": "Eve"}"#,
        r#"{"id": "cus_6", "name": "Bob"}"#,
    ];
    let list = |items: &[String]| {
        format!(r#"{{"object": "list", "url": "/", "has_more": false, "data": [{}]}}"#, items.join(","))
    };
    let stripe = answered(list(&customers.map(str::to_owned))).await?;
    let listed = stripe.list(None, None).await?;
    let ids: Vec<&str> = listed
        .seen
        .iter()
        .filter_map(|seen| match &seen.object {
            Object::Present { remote_id, .. } => Some(remote_id.as_str()),
            Object::Gone { .. } => None,
        })
        .collect();
    assert_eq!(ids, ["cus_1", "cus_2", "cus_4", "cus_6"], "a name that is none says nothing");

    let event = |(n, object): (usize, &&str)| {
        format!(
            r#"{{"id": "evt_{n}", "type": "customer.created", "created": 1700000000, "data": {{"object": {object}}}}}"#
        )
    };
    let events: Vec<String> = customers.iter().enumerate().map(event).collect();
    let stripe = answered(list(&events)).await?;
    let changes = stripe.changes(DateTime::UNIX_EPOCH, None, None).await?.changes;
    let ids: Vec<&str> = changes.iter().map(|change| change.remote_id.as_str()).collect();
    assert_eq!(ids, ["cus_1", "cus_2", "cus_4", "cus_6"]);
    Ok(())
}
