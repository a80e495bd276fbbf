//! Changes that are told late, twice, or in another order than they were made.

use stripe_sim::Order;

use super::with_ada;

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
    let (tandem, ada, remote) = with_ada().await;
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
