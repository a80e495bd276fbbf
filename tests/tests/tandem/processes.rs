//! What one process takes of the servers that it shares with others.

use std::sync::atomic::{AtomicI64, Ordering};

use futures::StreamExt;
use serde_json::json;
use stripe_sim::{RateLimit, Settings};
use tandem_tests::{Account, Setup, Tandem};

/// Most sessions with PostgreSQL at once that this saw while that went on.
async fn sessions_meanwhile(tandem: &Tandem, doing: impl Future<Output = ()>) -> i64 {
    let most = AtomicI64::new(0);
    let counting = async {
        loop {
            let sessions: i64 = sqlx::query_scalar(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'tandem'",
            )
            .fetch_one(&tandem.database)
            .await
            .unwrap();
            most.fetch_max(sessions, Ordering::Relaxed);
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        () = doing => {}
        () = counting => {}
    }
    most.into_inner()
}

/// Edits here and in the first account, which reach all accounts.
async fn load(tandem: &Tandem) {
    let creating = (0..12).map(|nth| async move { tandem.create("Ada", &format!("ada@{nth}.example")).await.id });
    let ids = futures::future::join_all(creating).await;
    tandem.settled().await;
    let editing = ids.iter().enumerate().map(|(nth, id)| async move {
        tandem.patch(id, json!({"name": format!("Countess {nth}")})).await;
        tandem.stripe.edit(&tandem.remote_id(id).await, &[("phone", &nth.to_string())]).await.unwrap();
    });
    futures::future::join_all(editing).await;
    tandem.settled().await;
    for id in ids {
        tandem.assert_equal(&id).await;
    }
}

/// Fails where each gateway, each projection or each kind of work brings connections of its own.
#[tokio::test]
async fn a_process_takes_as_many_connections_as_it_may_whatever_the_number_of_gateways() {
    let accounts = ["a", "b", "c"].map(Account::new).into();
    let env = vec![("TANDEM_DATABASE__MAX_CONNECTIONS", "10".to_owned())];
    let tandem = Tandem::start_with(Setup { accounts, env, ..Setup::default() }).await;

    let most = sessions_meanwhile(&tandem, load(&tandem)).await;

    assert!(most <= 10, "{most} connections");
}

/// A PostgreSQL as it comes has 97 for all.
#[tokio::test]
async fn four_processes_as_they_come_take_80_connections_at_most() {
    let env = vec![("TANDEM_DATABASE__MAX_CONNECTIONS", "20".to_owned())];
    let mut tandem = Tandem::start_with(Setup { accounts: vec![Account::new("eu")], env, ..Setup::default() }).await;
    for _ in 0..3 {
        tandem.start_another();
    }

    let most = sessions_meanwhile(&tandem, load(&tandem)).await;

    assert!(most <= 80, "{most} connections");
}

/// Fails where each process calls at the account's whole pace.
#[tokio::test]
async fn processes_that_come_and_go_share_the_pace_of_an_account() {
    const PER_SECOND: u32 = 60;
    let limit = RateLimit { account: PER_SECOND, endpoint: PER_SECOND };
    let stripe = Settings { rate_limit: Some(limit), ..Settings::default() };
    let pace = ["TANDEM_STRIPE__REQUESTS_PER_SECOND", "TANDEM_STRIPE__ENDPOINT_REQUESTS_PER_SECOND"];
    let env = pace.map(|setting| (setting, PER_SECOND.to_string())).into();
    let mut tandem = Tandem::start_with(Setup { stripe, env, ..Setup::default() }).await;
    assert_eq!(tandem.post("/gateways/stripe/pause", json!({"direction": "outbound"})).await.status(), 204);
    let here = &tandem;
    let creating = (0..240).map(|nth| async move { here.create("Ada", &format!("ada@{nth}.example")).await.id });
    let ids: Vec<_> = futures::stream::iter(creating).buffer_unordered(8).collect().await;
    tandem.start_another();
    tandem.start_another();
    tandem.until("three share it", async || tandem.rows("paces", "true").await == 3).await;

    assert_eq!(tandem.post("/gateways/stripe/resume", json!({})).await.status(), 204);
    tandem.stripe.calls_when(60, stripe_sim::Call::is_write).await.unwrap();
    tandem.kill_another();
    tandem.stripe.calls_when(120, stripe_sim::Call::is_write).await.unwrap();
    tandem.start_another();
    tandem.settled().await;

    for id in ids {
        tandem.assert_equal(&id).await;
    }
    let calls = tandem.stripe.calls().await.unwrap();
    let refused = calls.iter().filter(|call| call.status == Some(429)).count();
    assert!(refused * 100 < calls.len(), "{refused} of {} calls were refused", calls.len());
}

/// Fails where whoever does it for all is missed for good.
#[tokio::test]
async fn another_sweeps_once_the_one_who_did_is_killed() {
    let env = vec![("TANDEM_STRIPE__SWEEP_INTERVAL_MS", "200".to_owned())];
    let mut tandem = Tandem::start_with(Setup { env, ..Setup::default() }).await;
    tandem.start_another();
    let ada = tandem.create("Ada", "ada@old.example").await.id;
    tandem.settled().await;
    let there = tandem.remote_id(&ada).await;

    // The webhooks of both go to the first.
    tandem.kill();
    tandem.stripe.edit(&there, &[("name", "Countess")]).await.unwrap();

    let is_told = async || tandem.rows("customer_rows", "profile ->> 'name' = 'Countess'").await == 1;
    tandem.until("the sweep of another tells", is_told).await;
}
