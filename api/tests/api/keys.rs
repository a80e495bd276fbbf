//! API keys.

use serde_json::json;
use tandem_api::{Clock, serve};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::service::{Service, fresh_config};

const KEY: &str = "0123456789abcdef";

#[tokio::test]
async fn with_keys_everything_but_webhooks_and_health_needs_one() {
    let mut config = fresh_config().await;
    config.api_keys = vec!["fedcba9876543210".into(), KEY.into()];
    let service = Service::run(config).await;

    for path in ["/customers", "/events", "/parked", "/metrics", "/openapi.json", "/customers/x"] {
        for header in [None, Some("Bearer wrong"), Some("Basic 0123456789abcdef"), Some(KEY)] {
            let headers: Vec<_> = header.map(|value| ("authorization", value)).into_iter().collect();
            let answer = service.ask(reqwest::Method::GET, path, &headers, None).await;
            assert_eq!((answer.status, answer.problem()), (401, "unauthorised"), "{path} {header:?}");
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
        }
    }
    assert_eq!(service.get("/healthz").await.body, json!({"status": "ok"}));
    let with_key = [("authorization", "Bearer 0123456789abcdef")];
    let openapi = service.ask(reqwest::Method::GET, "/openapi.json", &with_key, None).await;
    assert_eq!(openapi.status, 200);
    let webhook = service.ask(reqwest::Method::POST, "/webhooks/nobody", &[], None).await;
    assert!(matches!(webhook.status, 404 | 503), "{webhook:?}");
}

/// A load balancer has no key, and need not know why.
#[tokio::test]
async fn whether_the_service_is_ready_is_told_to_all_and_why_not_to_those_with_a_key() {
    let mut config = fresh_config().await;
    config.api_keys = vec![KEY.into()];
    // Nobody is there.
    config.nats.url = "nats://127.0.0.1:1".into();
    let waits = Service::run(config).await;
    let answer = waits.get("/readyz").await;
    assert_eq!((answer.status, &answer.body), (503, &json!({"ready": false})), "{answer:?}");
    assert_eq!(answer.header("retry-after"), Some("1"));

    let service = Service::start_with_keys(&[KEY]).await;
    let answer = service.get("/readyz").await;
    assert_eq!((answer.status, &answer.body), (200, &json!({"ready": true})), "{answer:?}");
    let with_key = [("authorization", "Bearer 0123456789abcdef")];
    let answer = service.ask(reqwest::Method::GET, "/readyz", &with_key, None).await;
    assert_eq!((answer.status, &answer.body["postgresql"]["ok"]), (200, &json!(true)), "{answer:?}");
    let wrong = [("authorization", "Bearer wrong")];
    let answer = service.ask(reqwest::Method::GET, "/readyz", &wrong, None).await;
    assert_eq!(answer.body, json!({"ready": true}));
}

#[tokio::test]
async fn an_address_that_others_reach_needs_keys() {
    let listener = TcpListener::bind(("0.0.0.0", 0)).await.unwrap();

    let error = serve(fresh_config().await, Clock::system(), listener, CancellationToken::new()).await.unwrap_err();

    let told = std::error::Error::source(&error).unwrap().to_string();
    assert!(told.contains("TANDEM_API_KEYS") && told.contains("TANDEM_HTTP__BIND"), "{told}");
}
