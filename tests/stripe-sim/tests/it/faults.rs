//! Faults: what each does to a call, and to the work.

use std::time::Duration;

use stripe_sim::Fault;

use crate::fixtures::stripe;

#[tokio::test]
async fn a_dropped_reply_loses_the_answer_but_not_the_work() {
    let stripe = stripe().await;
    let fault = stripe.control.fault(Fault::DropReply.on("POST", "/v1/customers")).await.unwrap();
    let lost = stripe.try_post_with_key("k", "/v1/customers", &[("name", "Ada")]).await;
    assert!(lost.unwrap_err().is_request());
    stripe.control.fault_reached(fault, 1).await.unwrap();
    assert_eq!(stripe.control.customers().await.unwrap().len(), 1);
    let again = stripe.post_with_key("k", "/v1/customers", &[("name", "Ada")]).await;
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    let calls = stripe.control.calls().await.unwrap();
    assert_eq!(calls.iter().map(|call| call.status).collect::<Vec<_>>(), [None, Some(200)]);
    assert_eq!(calls[0].fault.as_deref(), Some("DropReply"));
}

#[tokio::test]
async fn the_reply_to_a_repeat_can_be_dropped_too() {
    let stripe = stripe().await;
    let fault = stripe.control.fault(Fault::DropReply.on("POST", "/v1/customers").times(2)).await.unwrap();
    for _ in 0..2 {
        stripe.try_post_with_key("k", "/v1/customers", &[]).await.unwrap_err();
    }
    stripe.control.fault_reached(fault, 2).await.unwrap();
    assert_eq!(stripe.post_with_key("k", "/v1/customers", &[]).await.header("idempotent-replayed"), Some("true"));
    assert_eq!(stripe.control.customers().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_dropped_request_does_nothing() {
    let stripe = stripe().await;
    stripe.control.fault(Fault::DropRequest.on("POST", "/v1/customers")).await.unwrap();
    stripe.try_post_with_key("k", "/v1/customers", &[]).await.unwrap_err();
    assert!(stripe.control.customers().await.unwrap().is_empty());
    let again = stripe.post_with_key("k", "/v1/customers", &[]).await;
    assert_eq!((again.status, again.header("idempotent-replayed")), (200, None));
}

#[tokio::test]
async fn a_status_is_answered_with_its_headers_and_code() {
    let stripe = stripe().await;
    let fault = Fault::status(429).code("lock_timeout").header("retry-after", "1");
    stripe.control.fault(fault.on("*", "/v1/**").skip(1).times(2)).await.unwrap();
    assert_eq!(stripe.get("/v1/customers").await.status, 200);
    for _ in 0..2 {
        let limited = stripe.get("/v1/customers").await;
        assert_eq!(limited.error(), "429 invalid_request_error lock_timeout -");
        assert_eq!(limited.header("retry-after"), Some("1"));
    }
    assert_eq!(stripe.get("/v1/customers").await.status, 200);
}

#[tokio::test]
async fn a_call_whose_caller_has_gone_is_carried_out_when_released() {
    let stripe = stripe().await;
    let hang = stripe.control.fault(Fault::Hang.on("POST", "/v1/customers")).await.unwrap();
    {
        let call = stripe.post("/v1/customers", &[("name", "late")]);
        tokio::select! {
            _ = call => panic!("it hangs"),
            reached = stripe.control.fault_reached(hang, 1) => reached.unwrap(),
        }
    }
    assert!(stripe.control.customers().await.unwrap().is_empty());
    stripe.control.release_fault(hang).await.unwrap();
    let late = stripe.control.any_customer_when(|customer| customer.name.as_deref() == Some("late")).await;
    assert!(!late.unwrap().deleted);
}

#[tokio::test]
async fn a_reply_held_back_comes_after_the_work() {
    let stripe = stripe().await;
    let hang = stripe.control.fault(Fault::HangReply.on("POST", "/v1/customers")).await.unwrap();
    let (answer, ()) = tokio::join!(stripe.post("/v1/customers", &[("name", "Ada")]), async {
        stripe.control.fault_reached(hang, 1).await.unwrap();
        assert_eq!(stripe.control.customers().await.unwrap().len(), 1);
        stripe.control.clear_faults().await.unwrap();
    });
    assert_eq!(answer.body["name"], "Ada");
}

#[tokio::test]
async fn delays_do_not_change_the_answer() {
    let stripe = stripe().await;
    stripe.control.fault(Fault::delay(Duration::from_millis(5)).on("POST", "/v1/customers")).await.unwrap();
    stripe.control.fault(Fault::DelayReplyMs(5).on("GET", "/v1/customers/*")).await.unwrap();
    let id = stripe.customer(&[("name", "Ada")]).await;
    assert_eq!(stripe.get(&format!("/v1/customers/{id}")).await.body["name"], "Ada");
}

#[tokio::test]
async fn a_wait_ends_with_the_call_it_waits_for() {
    let stripe = stripe().await;
    let (calls, _) =
        tokio::join!(stripe.control.calls_when(2, |call| call.is_write() && call.status.is_some()), async {
            let id = stripe.customer(&[]).await;
            stripe.post(&format!("/v1/customers/{id}"), &[("name", "Ada")]).await
        });
    let calls = calls.unwrap();
    assert_eq!(calls[1].params["name"], "Ada");
    assert_eq!(stripe.control.calls_after(calls[0].number).await.unwrap(), calls[1..]);
}
