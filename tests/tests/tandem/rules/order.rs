//! Changes that are told late, twice, or in another order than they were made.

use stripe_sim::{ClockChange, Order};
use tandem_tests::Tandem;

use super::{ada_at, with_ada};

/// Variant: take every snapshot as it comes, or order by `created` with `<`.
#[tokio::test]
async fn an_edit_and_its_reversal_delivered_in_the_wrong_order_end_reversed() {
    let (tandem, ada, remote) = with_ada().await;
    tandem.stripe.hold().await.unwrap();
    tandem.stripe.edit(&remote, &[("name", "Countess")]).await.unwrap();
    tandem.stripe.edit(&remote, &[("name", "Ada")]).await.unwrap();
    tandem.stripe.release(Order::Reversed).await.unwrap();
    tandem.settled().await;

    assert_eq!(tandem.get(&ada.id).await.name.as_deref(), Some("Ada"));
    tandem.assert_equal(&ada.id).await;
}

/// Variant: of edits within one second the first, or the last to arrive, stays.
#[tokio::test]
async fn of_three_edits_within_a_second_in_any_order_the_last_made_stays() {
    let tandem = Tandem::start().await;
    tandem.stripe.clock(ClockChange::Freeze).await.unwrap();
    let (tandem, ada, remote) = ada_at(tandem).await;
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0], [2, 0, 1]] {
        tandem.stripe.hold().await.unwrap();
        for name in ["A", "B", "C"] {
            tandem.stripe.edit(&remote, &[("name", name)]).await.unwrap();
        }
        let held = tandem.stripe.webhooks().await.unwrap().held;
        let order = order.map(|n| held[n].clone()).to_vec();
        tandem.stripe.release(Order::Given(order)).await.unwrap();
        tandem.stripe.release(Order::Fifo).await.unwrap();
        tandem.settled().await;
        assert_eq!(tandem.get(&ada.id).await.name.as_deref(), Some("C"));
        tandem.stripe.edit(&remote, &[("name", "Ada")]).await.unwrap();
        tandem.settled().await;
        // Or what is left of one round would pass for the next one's.
        assert_eq!(tandem.get(&ada.id).await.name.as_deref(), Some("Ada"));
    }
}

/// Variant: `previous_attributes` decides what is newer. An edit away and back, and away again, looks like its first step.
#[tokio::test]
async fn a_value_used_again_is_not_taken_for_its_first_use() {
    let (tandem, ada, remote) = with_ada().await;
    tandem.stripe.hold().await.unwrap();
    for name in ["B", "Ada", "B", "C"] {
        tandem.stripe.edit(&remote, &[("name", name)]).await.unwrap();
    }
    let held = tandem.stripe.webhooks().await.unwrap().held;
    tandem
        .stripe
        .release(Order::Given(vec![held[3].clone(), held[2].clone(), held[0].clone(), held[1].clone()]))
        .await
        .unwrap();
    tandem.stripe.release(Order::Fifo).await.unwrap();
    tandem.settled().await;
    assert_eq!(tandem.get(&ada.id).await.name.as_deref(), Some("C"));
}

#[tokio::test]
async fn a_repeated_webhook_is_taken_in_once() {
    let (tandem, ada, remote) = with_ada().await;
    tandem.stripe.duplicate(1).await.unwrap();
    tandem.stripe.edit(&remote, &[("phone", "2")]).await.unwrap();
    tandem.settled().await;
    let event = tandem.stripe.events_of(&remote).await.unwrap().pop().unwrap();
    tandem.stripe.deliver(&event.id).await.unwrap();
    tandem.settled().await;
    assert_eq!(tandem.history(&ada.id).await, ["created", "linked", "updated"]);
    assert_eq!(tandem.rows("inbox", "true").await, 2);
}

/// Changes something as under one of Stripe's test clocks, which is half a year ahead; it is told of once the account's own clock
/// goes on.
async fn half_a_year_ahead<T>(tandem: &Tandem, change: impl Future<Output = T>) -> T {
    const HALF_A_YEAR_MS: i64 = 180 * 24 * 3600 * 1000;
    tandem.stripe.hold().await.unwrap();
    tandem.stripe.clock(ClockChange::OffsetMs(HALF_A_YEAR_MS)).await.unwrap();
    let changed = change.await;
    tandem.stripe.clock(ClockChange::OffsetMs(0)).await.unwrap();
    tandem.stripe.release(Order::Fifo).await.unwrap();
    tandem.settled().await;
    changed
}

/// Variant: what is made until then passes for older, and is ignored for half a year.
#[tokio::test]
async fn an_edit_of_a_time_to_come_hides_none_that_is_made_after_it() {
    let (tandem, ada, remote) = with_ada().await;
    half_a_year_ahead(&tandem, tandem.stripe.edit(&remote, &[("name", "Countess")])).await.unwrap();
    assert_eq!(tandem.get(&ada.id).await.name.as_deref(), Some("Countess"));
    tandem.stripe.edit(&remote, &[("name", "Lovelace")]).await.unwrap();
    tandem.settled().await;
    assert_eq!(tandem.get(&ada.id).await.name.as_deref(), Some("Lovelace"));
    tandem.assert_equal(&ada.id).await;

    let born = half_a_year_ahead(&tandem, tandem.stripe.create(&[("name", "Eve")])).await.unwrap().id;
    tandem.stripe.edit(&born, &[("name", "Eva")]).await.unwrap();
    tandem.settled().await;
    let eve = tandem.local_id(&born).await;
    assert_eq!(tandem.get(&eve).await.name.as_deref(), Some("Eva"));

    // Nor does it win against what other sides choose until then.
    let ahead = "EXISTS (SELECT FROM jsonb_path_query(payload::jsonb, '$.**.edited_at') AS at
                         WHERE (at #>> '{}')::timestamptz > now() + interval '1 day')";
    assert_eq!(tandem.rows("events", ahead).await, 0);
    assert_eq!(tandem.rows("links", "base_from > now() + interval '1 day'").await, 0);
}
