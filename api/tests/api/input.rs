//! What is wrong with a request is said, by name, and never repeated.

use reqwest::Method;
use serde_json::{Value, json};

use crate::service::{Answer, Service};

async fn raw(service: &Service, content_type: Option<&str>, body: impl Into<String>) -> Answer {
    let mut request = service.http.post(format!("{}/customers", service.url)).body(body.into());
    if let Some(content_type) = content_type {
        request = request.header("content-type", content_type);
    }
    service.send(request.build().unwrap()).await
}

#[tokio::test]
async fn a_body_that_is_not_json_is_malformed() {
    let service = Service::start().await;
    for body in ["", "{", "{\"name\":\"Ada\"} x", "name=Ada", "\u{feff}{}"] {
        let answer = raw(&service, Some("application/json"), body).await;
        assert_eq!((answer.status, answer.problem()), (400, "malformed"), "{body}");
    }
}

#[tokio::test]
async fn a_body_of_another_media_type_is_refused() {
    let service = Service::start().await;
    for media in [None, Some("text/plain"), Some("application/x-www-form-urlencoded")] {
        let answer = raw(&service, media, r#"{"name":"Ada"}"#).await;
        assert_eq!((answer.status, answer.problem()), (415, "media-type"), "{media:?}");
    }
    assert_eq!(raw(&service, Some("Application/JSON; charset=utf-8"), r#"{"name":"Ada"}"#).await.status, 201);
    let merge = [("content-type", "application/merge-patch+json")];
    let id = service.ada().await;
    let patched = service.ask(Method::PATCH, &format!("/customers/{id}"), &merge, Some(json!({"name": "Eve"}))).await;
    assert_eq!(patched.status, 200);
}

#[tokio::test]
async fn a_body_of_64_kib_is_read_and_a_larger_one_is_not() {
    let service = Service::start().await;
    let padded = |length: usize| format!("{}{}", r#"{"name":"Ada"}"#, " ".repeat(length - 14));

    assert_eq!(raw(&service, Some("application/json"), padded(64 * 1024)).await.status, 201);
    let answer = raw(&service, Some("application/json"), padded(64 * 1024 + 1)).await;
    assert_eq!((answer.status, answer.problem()), (413, "too-large"));

    // Of unknown length, too.
    let chunks = futures::stream::iter((0..65).map(|_| Ok::<_, std::io::Error>(" ".repeat(1024))));
    let request = service.http.post(format!("{}/customers", service.url)).header("content-type", "application/json");
    let answer = service.send(request.body(reqwest::Body::wrap_stream(chunks)).build().unwrap()).await;
    assert_eq!(answer.status, 413);
}

#[tokio::test]
async fn each_field_that_breaks_a_rule_is_named() {
    let service = Service::start().await;
    let id = service.ada().await;
    let cases: Vec<(Value, Vec<&str>)> = vec![
        (json!({"name": 4711}), vec!["name"]),
        (json!({"email": ["4711"]}), vec!["email"]),
        (json!({"address": "4711"}), vec!["address"]),
        (json!({"address": ["4711"]}), vec!["address"]),
        (json!({"address": {"city": 4711}}), vec!["address.city"]),
        (json!({"address": {"planet": "4711"}}), vec!["address.planet"]),
        (json!({"metadata": {"plan": 4711}}), vec!["metadata.plan"]),
        (json!({"nmae": "4711"}), vec!["nmae"]),
        (json!({"id": "4711"}), vec!["id"]),
        (json!({"name": " ", "email": "4711", "phone": "4711".repeat(6)}), vec!["name", "email", "phone"]),
        (json!({"name": "Ada", "address": {"country": "4711"}}), vec!["address.country"]),
        (json!({"name": "Ada", "metadata": {"tandem_id": "4711"}}), vec!["metadata.tandem_id"]),
        (json!({"name": "Ada", "metadata": {"plan": "4711".repeat(126)}}), vec!["metadata.plan"]),
        (json!({"name": "Ada\u{0}4711"}), vec!["name"]),
    ];
    for (body, fields) in cases {
        for answer in [service.post("/customers", body.clone()).await, service.patch(&id, body.clone()).await] {
            assert_eq!((answer.status, answer.problem()), (422, "invalid"), "{body}: {answer:?}");
            assert_eq!(answer.fields(), fields, "{body}");
            assert!(!answer.body.to_string().contains("4711"), "{answer:?}");
        }
    }
    for body in [json!([]), json!("Ada"), json!(null), json!(7)] {
        assert_eq!(service.post("/customers", body.clone()).await.fields(), ["body"]);
        assert_eq!(service.patch(&id, body).await.fields(), ["body"]);
    }
}

#[tokio::test]
async fn a_customer_needs_a_name_or_an_email() {
    let service = Service::start().await;
    for body in [json!({}), json!({"phone": "1"}), json!({"name": null, "email": null})] {
        let answer = service.post("/customers", body).await;
        assert_eq!((answer.status, answer.fields()), (422, vec!["name"]));
    }
    let id = service.create(json!({"email": "ada@old.example"})).await;
    assert_eq!(service.patch(&id, json!({"email": null})).await.status, 422);
    assert_eq!(service.patch(&id, json!({"email": null, "name": "Ada"})).await.status, 200);
}

#[tokio::test]
async fn a_query_parameter_that_is_wrong_is_named() {
    let service = Service::start().await;
    let id = service.ada().await;
    for (path, field) in [
        ("/customers?limit=0", "limit"),
        ("/customers?limit=101", "limit"),
        ("/customers?limit=many", "limit"),
        ("/customers?sort=phone", "sort"),
        ("/customers?cursor=x", "cursor"),
        ("/customers?limt=1", "limt"),
        ("/customers?q=%00", "q"),
        ("/parked?limit=0", "limit"),
        ("/parked?after=x", "after"),
        ("/parked?limit=many", "limit"),
        ("/parked?gateway=%00", "gateway"),
        ("/conflicts?limit=101", "limit"),
        ("/conflicts?gateway=%00", "gateway"),
        ("/events?after=-1", "after"),
        ("/events?after=18446744073709551615", "after"),
        (&*format!("/customers/{id}?min_version=x"), "min_version"),
        (&*format!("/customers/{id}?version=1"), "version"),
    ] {
        let answer = service.get(path).await;
        assert_eq!((answer.status, answer.fields()), (422, vec![field]), "{path}: {answer:?}");
    }
}

#[tokio::test]
async fn a_part_of_a_path_that_cannot_be_read_is_named() {
    let service = Service::start().await;
    for (path, field) in [
        ("/parked/%FF/retry", "id"),
        ("/parked/%FF/dismiss", "id"),
        ("/parked/%FF/link", "id"),
        ("/parked/%FF/delete", "id"),
        ("/parked/%FF/keep", "id"),
        ("/parked/99999999999999999999/retry", "id"),
        ("/parked/x/keep", "id"),
        ("/conflicts/%FF/resolve", "id"),
        ("/conflicts/x/resolve", "id"),
        ("/gateways/%FF/pause", "name"),
        ("/gateways/%FF/resume", "name"),
        ("/webhooks/%FF", "gateway"),
    ] {
        let answer = service.post(path, json!({})).await;
        assert_eq!((answer.status, answer.problem()), (404, "not-found"), "{path}: {answer:?}");
        assert_eq!(answer.fields(), [field], "{path}: {answer:?}");
    }
    assert_eq!(service.get("/customers/%FF").await.problem(), "not-found");
}

#[tokio::test]
async fn a_header_that_is_wrong_is_named() {
    let service = Service::start().await;
    let id = service.ada().await;
    let long = "k".repeat(256);
    for (name, value, field) in [
        ("if-match", "1", "If-Match"),
        ("idempotency-key", "", "Idempotency-Key"),
        ("idempotency-key", &long, "Idempotency-Key"),
    ] {
        let body = Some(json!({"name": "Eve"}));
        let answer = service.ask(Method::PATCH, &format!("/customers/{id}"), &[(name, value)], body).await;
        assert_eq!((answer.status, answer.fields()), (422, vec![field]), "{value}");
    }
}

#[tokio::test]
async fn a_webhook_that_is_too_large_or_for_nobody_is_refused() {
    let service = with_stripe().await;
    let post = |path: &str, length: usize| {
        let now = tandem_api::Clock::system().now().timestamp();
        let request = service.http.post(format!("{}{path}", service.url)).body("x".repeat(length));
        let request = request.header("stripe-signature", format!("t={now},v1={}", "0".repeat(64)));
        service.send(request.build().unwrap())
    };
    assert_eq!(post("/webhooks/nobody", 10).await.status, 404);
    assert_eq!(post("/webhooks/nobody", 256 * 1024 + 1).await.status, 404);
    assert_eq!(post("/webhooks/stripe", 10).await.status, 400);
    assert_eq!(post("/webhooks/stripe", 256 * 1024 + 1).await.status, 413);
}

/// One that takes Stripe's webhooks.
async fn with_stripe() -> Service {
    Service::start_with(|config| {
        let mut stripe = tandem_gateways::stripe::StripeConfig::new("sk_test_1");
        // Nobody is there: what is sent is tried again and again.
        "http://127.0.0.1:1/".clone_into(&mut stripe.api_base);
        stripe.webhook_secrets = vec!["whsec_1".into()];
        config.stripe = Some(stripe);
    })
    .await
}

#[tokio::test]
async fn a_webhook_without_a_signature_is_refused() {
    let service = with_stripe().await;
    let answer = service.post("/webhooks/stripe", json!({"id": "evt_1"})).await;
    assert_eq!((answer.status, answer.problem()), (400, "webhook-refused"));
}

#[tokio::test]
async fn nothing_is_parked_under_a_number_that_was_never_given() {
    let service = Service::start().await;
    assert_eq!(service.get("/parked").await.body, json!({"data": [], "next": null}));
    for path in [
        "/parked/7/retry",
        "/parked/7/dismiss",
        "/parked/7/link",
        "/parked/x/retry",
        "/parked/x/dismiss",
        "/parked/x/link",
    ] {
        let answer = service.ask(Method::POST, path, &[], None).await;
        assert_eq!((answer.status, answer.problem()), (404, "not-found"), "{path}");
    }
}
