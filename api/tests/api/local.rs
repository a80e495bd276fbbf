//! Without API keys only this machine is let in, and no web page that is open on it.

use reqwest::Method;
use serde_json::json;

use crate::service::Service;

#[tokio::test]
async fn without_keys_a_page_of_another_site_and_another_name_for_this_machine_are_refused() {
    let service = Service::start().await;
    for header in [
        // A name that its owner lets point here, for a moment.
        ("host", "rebound.example:8080"),
        ("host", "localhost.rebound.example"),
        ("host", "192.168.1.7:8080"),
        ("host", "0.0.0.0:8080"),
        ("host", "not a host"),
        ("host", "evil.example@localhost"),
        ("host", "[::1]evil.example"),
        ("host", "localhost:"),
        ("origin", "https://page.example"),
        ("origin", "https://localhost.page.example"),
        ("origin", "chrome-extension://abc"),
        ("origin", "null"),
        ("origin", "http://evil.example@localhost"),
        ("origin", "http://[::1]evil.example"),
        ("origin", "http://localhost/evil"),
    ] {
        for (method, path) in [
            (Method::GET, "/customers"),
            (Method::GET, "/events"),
            (Method::GET, "/metrics"),
            (Method::GET, "/openapi.json"),
            (Method::POST, "/parked/8/delete"),
            (Method::POST, "/parked/7/link"),
            (Method::POST, "/gateways/stripe/pause"),
        ] {
            let answer = service.ask(method, path, &[header], None).await;
            assert_eq!((answer.status, answer.problem()), (403, "not-local"), "{path} {header:?}: {answer:?}");
            assert!(answer.body["detail"].as_str().unwrap().contains("TANDEM_API_KEYS"), "{answer:?}");
        }
        assert_eq!(service.ask(Method::GET, "/readyz", &[header], None).await.body, json!({"ready": true}));
        assert_eq!(service.ask(Method::GET, "/healthz", &[header], None).await.status, 200);
        // Webhooks are signed, and come through a tunnel.
        let webhook = service.ask(Method::POST, "/webhooks/nobody", &[header], None).await;
        assert_eq!((webhook.status, webhook.problem()), (404, "not-found"), "{webhook:?}");
    }
}

#[tokio::test]
async fn without_keys_this_machine_is_let_in_by_any_of_its_own_names() {
    let service = Service::start().await;
    for header in [
        ("host", "localhost:8080"),
        ("host", "LocalHost"),
        ("host", "127.0.0.1"),
        ("host", "127.8.9.1:80"),
        ("host", "[::1]:8080"),
        ("origin", "http://localhost:3000"),
        ("origin", "https://127.0.0.1:8443"),
        ("origin", "http://[::1]"),
    ] {
        let answer = service.ask(Method::GET, "/customers", &[header], None).await;
        assert_eq!(answer.status, 200, "{header:?}: {answer:?}");
    }
}

#[tokio::test]
async fn whoever_has_a_key_may_come_by_any_name() {
    let service = Service::start_with_keys(&["0123456789abcdef"]).await;
    let headers =
        [("authorization", "Bearer 0123456789abcdef"), ("host", "tandem.example"), ("origin", "https://page.example")];
    assert_eq!(service.ask(Method::GET, "/customers", &headers, None).await.status, 200);
}
