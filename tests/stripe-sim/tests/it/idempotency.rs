//! Idempotency keys, case by case.

use std::time::Duration;

use stripe_sim::Fault;

use crate::fixtures::{Answer, stripe};

fn replayed(answer: &Answer) -> bool {
    answer.header("idempotent-replayed") == Some("true")
}

#[tokio::test]
async fn the_same_call_again_gets_the_first_answer_and_does_nothing() {
    let stripe = stripe().await;
    let first = stripe.post_with_key("k", "/v1/customers", &[("name", "Ada"), ("phone", "+1")]).await;
    let again = stripe.post_with_key("k", "/v1/customers", &[("phone", "+1"), ("name", "Ada")]).await;
    assert!(!replayed(&first) && replayed(&again));
    assert_eq!(first.body, again.body);
    assert_eq!(again.header("original-request"), first.header("request-id"));
    assert_ne!(again.header("request-id"), first.header("request-id"));
    assert_eq!(stripe.control.customers().await.unwrap().len(), 1);
    let calls = stripe.control.calls().await.unwrap();
    assert_eq!(calls.iter().map(|call| call.replayed).collect::<Vec<_>>(), [false, true]);
    assert!(calls.iter().all(|call| call.customer == Some(first.id())));
}

#[tokio::test]
async fn an_answer_saved_is_the_answer_though_the_customer_has_changed() {
    let stripe = stripe().await;
    let first = stripe.post_with_key("k", "/v1/customers", &[("name", "Ada")]).await;
    stripe.control.edit(&first.id(), &[("name", "Eve")]).await.unwrap();
    assert_eq!(stripe.post_with_key("k", "/v1/customers", &[("name", "Ada")]).await.body["name"], "Ada");
}

#[tokio::test]
async fn a_key_serves_one_request() {
    let stripe = stripe().await;
    let id = stripe.post_with_key("k", "/v1/customers", &[("name", "Ada")]).await.id();
    let other = stripe.post_with_key("k", "/v1/customers", &[("name", "Eve")]).await;
    assert_eq!(other.error(), "400 idempotency_error - -");
    let elsewhere = stripe.post_with_key("k", &format!("/v1/customers/{id}"), &[("name", "Ada")]).await;
    assert_eq!(elsewhere.error(), "400 idempotency_error - -");
    assert!(elsewhere.body["error"]["message"].as_str().unwrap().contains("same endpoint"));
    let long = "k".repeat(256);
    assert_eq!(stripe.post_with_key(&long, "/v1/customers", &[]).await.status, 400);
}

#[tokio::test]
async fn a_key_in_use_is_a_conflict_that_may_be_tried_again() {
    let stripe = stripe().await;
    let hang = stripe.control.fault(Fault::Hang.on("POST", "/v1/customers")).await.unwrap();
    let (first, ()) = tokio::join!(stripe.post_with_key("k", "/v1/customers", &[]), async {
        stripe.control.fault_reached(hang, 1).await.unwrap();
        let second = stripe.post_with_key("k", "/v1/customers", &[]).await;
        assert_eq!(second.error(), "409 invalid_request_error idempotency_key_in_use -");
        assert_eq!(second.header("stripe-should-retry"), Some("true"));
        stripe.control.release_fault(hang).await.unwrap();
    });
    assert_eq!(first.status, 200);
    assert!(replayed(&stripe.post_with_key("k", "/v1/customers", &[]).await));
}

#[tokio::test]
async fn bad_parameters_do_not_spend_the_key_and_a_missing_customer_does() {
    let stripe = stripe().await;
    assert_eq!(stripe.post_with_key("k", "/v1/customers", &[("email", "x")]).await.status, 400);
    assert_eq!(stripe.post_with_key("k", "/v1/customers", &[("email", "x@y.example")]).await.status, 200);
    let missing = stripe.post_with_key("m", "/v1/customers/cus_nobody", &[]).await;
    assert_eq!((missing.status, replayed(&missing)), (404, false));
    let again = stripe.post_with_key("m", "/v1/customers/cus_nobody", &[]).await;
    assert_eq!((again.status, replayed(&again)), (404, true));
}

#[tokio::test]
async fn a_500_is_saved_whether_or_not_the_work_was_done() {
    let stripe = stripe().await;
    for (fault, made) in [(Fault::Fail500BeforeWork, 0), (Fault::Fail500AfterWork, 1)] {
        let key = format!("{fault:?}");
        stripe.control.fault(fault.on("POST", "/v1/customers")).await.unwrap();
        for expected_replay in [false, true] {
            let failed = stripe.post_with_key(&key, "/v1/customers", &[]).await;
            assert_eq!((failed.error().as_str(), replayed(&failed)), ("500 api_error - -", expected_replay));
        }
        assert_eq!(stripe.control.customers().await.unwrap().len(), made);
    }
    let events = stripe.control.events().await.unwrap();
    assert_eq!(events[0].idempotency_key.as_deref(), Some("Fail500AfterWork"));
}

#[tokio::test]
async fn a_key_is_forgotten_after_a_day() {
    let stripe = stripe().await;
    let first = stripe.post_with_key("k", "/v1/customers", &[]).await;
    stripe.control.advance(Duration::from_secs(24 * 3600 - 60)).await.unwrap();
    assert_eq!(stripe.post_with_key("k", "/v1/customers", &[]).await.id(), first.id());
    stripe.control.advance(Duration::from_secs(61)).await.unwrap();
    assert_ne!(stripe.post_with_key("k", "/v1/customers", &[]).await.id(), first.id());
}
