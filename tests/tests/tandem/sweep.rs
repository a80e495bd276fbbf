//! The sweep: what no webhook told is read from Stripe's list of events, however long the list is.

use std::time::Duration;

use stripe_sim::{Call, Fault};
use tandem_tests::{Setup, Tandem};

/// A Tandem that stands still, and sweeps once when it is started again.
async fn stopped() -> Tandem {
    let env = vec![("TANDEM_STRIPE__SWEEP_INTERVAL_MS", "86400000".to_owned())];
    let mut tandem = Tandem::start_with(Setup { env, ..Setup::default() }).await;
    tandem.until("the first sweep", || async { tandem.rows("sweeps", "swept_at IS NOT NULL").await == 1 }).await;
    tandem.stop();
    tandem
}

async fn born_untold(tandem: &Tandem, count: u32) {
    tandem.stripe.drop_webhooks(count).await.unwrap();
    for n in 0..count {
        tandem.stripe.create(&[("name", &format!("c{n}"))]).await.unwrap();
    }
    tandem.stripe.clear_calls().await.unwrap();
}

/// The pages of the list of events that were asked for, by what they were to begin after.
async fn pages(tandem: &Tandem) -> Vec<Option<String>> {
    let asked = |call: &Call| call.path == "/v1/events";
    let calls = tandem.stripe.calls().await.unwrap().into_iter().filter(asked);
    calls.map(|call| call.params.get("starting_after").cloned()).collect()
}

/// Variant: what was read before a page failed is read again from the first page on, for ever.
#[tokio::test]
async fn a_page_that_fails_is_asked_for_again_and_the_pages_before_it_are_not() {
    let mut tandem = stopped().await;
    born_untold(&tandem, 250).await;
    tandem.stripe.fault(Fault::status(503).on("GET", "/v1/events").skip(2)).await.unwrap();
    tandem.start_again().await;
    tandem.until("all are here", || async { tandem.rows("inbox", "state = 'done'").await == 250 }).await;
    let pages = pages(&tandem).await;
    assert_eq!(pages.iter().map(Option::is_some).collect::<Vec<_>>(), [false, true, true, true], "{pages:?}");
    assert_eq!(pages[2], pages[3]);
}

/// Variant: nothing is kept until all pages are there.
#[tokio::test]
async fn a_page_is_taken_in_while_the_next_is_still_to_come() {
    let mut tandem = stopped().await;
    born_untold(&tandem, 150).await;
    // However often it is asked for.
    let out = tandem.stripe.fault(Fault::Hang.on("GET", "/v1/events").skip(1).always()).await.unwrap();
    tandem.start_again().await;
    tandem.stripe.fault_reached(out, 1).await.unwrap();
    tandem.until("the newest are here", || async { tandem.rows("inbox", "state = 'done'").await == 100 }).await;
    // Killed now, it begins at the same place: what was not read is behind what was.
    tandem.kill();
    tandem.stripe.clear_faults().await.unwrap();
    tandem.start_again().await;
    tandem.until("all are here", || async { tandem.rows("inbox", "state = 'done'").await == 150 }).await;
    tandem.settled().await;
    assert_eq!(tandem.rows("links", "synced_at IS NOT NULL").await, 150);
}

/// Variant: only the objects that are linked are looked at.
#[tokio::test]
async fn beyond_what_the_list_of_events_reaches_back_both_sides_are_compared() {
    let env = vec![("TANDEM_STRIPE__SWEEP_INTERVAL_MS", "86400000".to_owned())];
    let mut tandem = Tandem::start_with(Setup { env, ..Setup::default() }).await;
    let (ada, bob) = (tandem.create("Ada", "ada@old.example").await, tandem.create("Bob", "bob@old.example").await);
    tandem.settled().await;
    tandem.until("the first sweep", || async { tandem.rows("sweeps", "swept_at IS NOT NULL").await == 1 }).await;
    let (there_ada, there_bob) = (tandem.remote_id(&ada.id).await, tandem.remote_id(&bob.id).await);
    tandem.stop();
    tandem.stripe.drop_webhooks(3).await.unwrap();
    tandem.stripe.edit(&there_ada, &[("name", "Countess")]).await.unwrap();
    tandem.stripe.delete(&there_bob).await.unwrap();
    let born = tandem.stripe.create(&[("name", "Grace")]).await.unwrap();
    tandem.pass(Duration::from_secs(32 * 24 * 3600)).await;

    tandem.start_again().await;
    let grace = tandem.local_id(&born.id).await;
    tandem.settled().await;
    assert_eq!(tandem.get(&grace).await.name.as_deref(), Some("Grace"));
    assert_eq!(tandem.get(&ada.id).await.name.as_deref(), Some("Countess"));
    assert_eq!(tandem.status_of(&bob.id).await, 410);
}
