//! The state file: what a local Stripe knows after it was stopped, or killed.

use std::io::Write;
use std::time::Duration;

use stripe_sim::{Options, Sim, WebhookRetry};

use crate::fixtures::{Endpoint, Stripe};

#[tokio::test]
async fn a_second_start_goes_on_with_everything() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options { state: Some(folder.path().join("deep/stripe.state")), ..Options::default() };
    let stripe = Stripe::start(options.clone()).await;
    let kept = stripe.post_with_key("k", "/v1/customers", &[("email", "ada@old.example")]).await;
    let gone = stripe.customer(&[]).await;
    stripe.delete(&format!("/v1/customers/{gone}")).await;
    let endpoint =
        stripe.post("/v1/webhook_endpoints", &[("url", "http://127.0.0.1:9/"), ("enabled_events[]", "*")]).await;
    let events = stripe.get("/v1/events").await.body;
    stripe.sim.stop().await;

    for _ in 0..2 {
        let stripe = Stripe::start(options.clone()).await;
        assert_eq!(stripe.get("/v1/events").await.body, events);
        assert_eq!(stripe.get("/v1/customers?email=ada@old.example").await.body["data"][0], kept.body);
        assert_eq!(stripe.get(&format!("/v1/customers/{gone}")).await.body["deleted"], true);
        assert_eq!(stripe.get(&format!("/v1/webhook_endpoints/{}", endpoint.id())).await.status, 200);
        let again = stripe.post_with_key("k", "/v1/customers", &[("email", "ada@old.example")]).await;
        assert_eq!((again.id(), again.header("idempotent-replayed")), (kept.id(), Some("true")));
        stripe.sim.stop().await;
    }
}

#[tokio::test]
async fn a_webhook_not_delivered_before_the_stop_is_delivered_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let state = Some(folder.path().join("stripe.state"));
    let refusing = Endpoint::start(&[503; 3]).await;
    let never = WebhookRetry { first: Duration::from_secs(3600), ..WebhookRetry::default() };
    let stripe = Stripe::start(Options { state: state.clone(), webhook_retry: never, ..refusing.options() }).await;
    let id = stripe.customer(&[("name", "Ada")]).await;
    refusing.received(1).await;
    stripe.sim.stop().await;

    let taking = Endpoint::start(&[]).await;
    let stripe = Stripe::start(Options { state: state.clone(), ..taking.options() }).await;
    assert_eq!(taking.received(1).await[0].event()["data"]["object"]["id"], id.as_str());
    stripe.control.webhooks_idle().await.unwrap();
    stripe.sim.stop().await;

    let later = Endpoint::start(&[]).await;
    let stripe = Stripe::start(Options { state, ..later.options() }).await;
    stripe.control.webhooks_idle().await.unwrap();
    assert!(later.so_far().is_empty());
}

#[tokio::test]
async fn a_line_cut_short_never_happened_and_nonsense_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stripe.state");
    let options = Options { state: Some(path.clone()), ..Options::default() };
    let stripe = Stripe::start(options.clone()).await;
    let id = stripe.customer(&[]).await;
    stripe.sim.stop().await;
    let append = |text: &str| {
        let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    };
    append("[{\"customer\":{\"place");
    let stripe = Stripe::start(options.clone()).await;
    let customers = stripe.control.customers().await.unwrap();
    assert_eq!(customers.iter().map(|customer| customer.id.as_str()).collect::<Vec<_>>(), [id.as_str()]);
    stripe.sim.stop().await;
    append("nonsense\n");
    let error = Sim::start(options).await.unwrap_err().to_string();
    assert!(error.contains("not a state of the local Stripe"), "{error}");
}

#[tokio::test]
async fn a_port_in_use_is_an_error_and_a_stopped_one_is_free() {
    let stripe = Stripe::start(Options::default()).await;
    let options = Options { port: stripe.sim.port(), ..Options::default() };
    assert_eq!(Sim::start(options.clone()).await.unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
    stripe.sim.stop().await;
    Sim::start(options).await.unwrap().stop().await;
}
