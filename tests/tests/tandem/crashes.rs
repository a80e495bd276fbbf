//! `tandem serve` dies at an exact point of its work, is started again, and both sides end equal: nothing lost, nothing
//! doubled. The points are in the code (`crash::at`), in a build with the feature `zoo`.

use std::time::Duration;

use serde_json::json;
use tandem_tests::{Customer, Setup, Tandem};

/// What a person does, and dies at.
#[derive(Clone, Copy)]
enum Act {
    /// Changes the name in the catalog, and repeats the request with the same key until it is answered.
    EditHere,
    /// Changes the name in Stripe, which tells by a webhook.
    EditThere,
    /// Changes the name in Stripe while nothing runs here and no webhook comes.
    EditThereUntold,
    /// Changes the phone in Stripe, which this process takes in, and a while later the name.
    EditThereAtRest,
    /// Creates another customer in the catalog.
    CreateHere,
    /// Creates another customer in Stripe.
    CreateThere,
}

/// Each point makes one test.
macro_rules! dies_at {
    ($($name:ident: $point:literal after $act:ident;)*) => {
        $(
            #[tokio::test]
            async fn $name() {
                dies_and_ends_equal($point, Act::$act).await;
            }
        )*
    };
}

dies_at! {
    a_command_decided_and_not_appended: "command-decided" after EditHere;
    a_command_appended_and_not_answered: "command-appended" after EditHere;
    a_create_appended_and_not_answered: "command-appended" after CreateHere;
    an_event_numbered_and_not_published: "relay-numbered" after EditHere;
    an_event_published_and_not_acknowledged: "relay-published" after EditHere;
    an_event_acknowledged_by_the_stream: "relay-acknowledged" after EditHere;
    a_projection_applied_and_not_committed: "projector-applied" after EditHere;
    a_projection_committed: "projector-committed" after EditHere;
    an_intent_stored_and_not_sent: "intent-stored" after EditHere;
    a_create_intended_and_not_sent: "intent-stored" after CreateHere;
    a_call_answered_and_not_merged: "call-answered" after EditHere;
    a_create_answered_and_not_merged: "call-answered" after CreateHere;
    a_merge_written_and_not_committed: "merge-written" after EditThere;
    an_import_written_and_not_committed: "merge-written" after CreateThere;
    a_merge_committed: "merge-committed" after EditThere;
    a_link_settled_and_not_released: "link-settled" after EditThere;
    a_webhook_verified_and_not_stored: "webhook-verified" after EditThere;
    a_webhook_stored_and_not_answered: "webhook-stored" after EditThere;
    a_webhook_taken_in_at_once_and_not_answered: "taken-at-once" after EditThereAtRest;
    a_sweep_listed_and_not_stored: "sweep-listed" after EditThereUntold;
    a_sweep_stored_and_not_marked: "sweep-stored" after EditThereUntold;
    a_sweep_marked: "sweep-marked" after EditThereUntold;
}

async fn dies_and_ends_equal(point: &str, act: Act) {
    let env = vec![("TANDEM_STRIPE__SWEEP_INTERVAL_MS", "500".to_owned())];
    // At start, and then only when the test is over.
    let rare = vec![("TANDEM_STRIPE__SWEEP_INTERVAL_MS", "3600000".to_owned())];
    let untold = matches!(act, Act::EditThereUntold);
    let swept = !matches!(act, Act::EditThereUntold | Act::EditThereAtRest);
    let mut tandem = Tandem::start_with(Setup { env: if swept { env } else { rare }, ..Setup::default() }).await;
    let ada = tandem.create("Ada", "ada@old.example").await;
    tandem.settled().await;
    let remote = tandem.remote_id(&ada.id).await;
    let told = tandem.stripe.events().await.unwrap().len();
    tandem.stop();

    if untold {
        tandem.stripe.drop_webhooks(1).await.unwrap();
        tandem.stripe.edit(&remote, &[("name", "Countess")]).await.unwrap();
    }
    tandem.start_again_to_die_at(point).await;
    perform(&tandem, act, &ada, &remote).await;
    tandem.died().await;
    tandem.start_again().await;
    // A client that was not answered asks again, with the same key.
    if matches!(act, Act::EditHere | Act::CreateHere) {
        assert!(perform(&tandem, act, &ada, &remote).await, "answered");
    }
    let customers = if matches!(act, Act::CreateHere | Act::CreateThere) { 2 } else { 1 };
    let edits = if matches!(act, Act::EditThereAtRest) { 2 } else { 1 };
    // Until it has come: what nobody knows of yet leaves no work to wait for.
    tandem.until("the change arrives", || async { arrived(&tandem, act, &ada).await }).await;
    tandem.settled().await;

    for customer in tandem.customers().await {
        tandem.assert_equal(&customer.id).await;
        let history = tandem.history(&customer.id).await;
        let created = history.iter().filter(|kind| *kind == "created").count();
        let linked = history.iter().filter(|kind| *kind == "linked").count();
        assert_eq!((created, linked), (1, 1), "once each: {history:?}");
        let updated = if customer.id == ada.id && customers == 1 { edits } else { 0 };
        assert_eq!(history.iter().filter(|kind| *kind == "updated").count(), updated, "once each: {history:?}");
        assert_eq!(history.len(), 2 + updated, "and nothing else: {history:?}");
    }
    assert_eq!(tandem.customers().await.len(), customers);
    assert_eq!(tandem.stripe.customers().await.unwrap().len(), customers);
    assert_eq!(tandem.stripe.events().await.unwrap().len(), told + edits, "and nothing else there");
    assert_eq!(tandem.rows("intents", "state = 'open'").await, 0);
    assert_eq!(tandem.rows("parked", "state = 'open'").await, 0);
    sound(&tandem).await;
}

/// Whether it was answered.
async fn perform(tandem: &Tandem, act: Act, ada: &Customer, remote: &str) -> bool {
    let request = match act {
        Act::EditHere => {
            tandem.http().patch(tandem.at(&format!("/customers/{}", ada.id))).json(&json!({"name": "Countess"}))
        }
        Act::CreateHere => tandem.http().post(tandem.at("/customers")).json(&json!({"name": "Grace"})),
        Act::EditThere => {
            tandem.stripe.edit(remote, &[("name", "Countess")]).await.unwrap();
            return true;
        }
        Act::EditThereAtRest => {
            tandem.pass(Duration::from_secs(60)).await;
            tandem.stripe.edit(remote, &[("phone", "1")]).await.unwrap();
            tandem.until("the phone", || async { tandem.get(&ada.id).await.phone.as_deref() == Some("1") }).await;
            tandem.settled().await;
            tandem.pass(Duration::from_secs(60)).await;
            tandem.told_a_minute_later(tandem.stripe.edit(remote, &[("name", "Countess")])).await.unwrap();
            return true;
        }
        Act::CreateThere => {
            tandem.stripe.create(&[("name", "Grace")]).await.unwrap();
            return true;
        }
        Act::EditThereUntold => return true,
    };
    request.header("idempotency-key", "once").send().await.is_ok_and(|answer| answer.status().is_success())
}

async fn arrived(tandem: &Tandem, act: Act, ada: &Customer) -> bool {
    match act {
        Act::EditHere | Act::EditThere | Act::EditThereUntold | Act::EditThereAtRest => {
            tandem.get(&ada.id).await.name.as_deref() == Some("Countess")
        }
        Act::CreateHere | Act::CreateThere => tandem.customers().await.len() == 2,
    }
}

/// The stream holds what the database does, event by event.
async fn sound(tandem: &Tandem) {
    let (code, said) = tandem.command(&["stream", "check"]).await;
    assert_eq!(code, Some(0), "{said}");
}
