//! Requests of anything: each is answered, none by a 5xx, all as the document says. The same requests each time.

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use reqwest::Method;
use serde_json::{Value, json};
use tandem_gateways::stripe::StripeConfig;

use crate::service::{Answer, Service};

/// How many requests of each kind.
const REQUESTS: usize = 150;

/// Sends requests that each are made from a value; none may be answered by a 5xx.
async fn all_answered<T: std::fmt::Debug>(
    service: &Service,
    strategy: impl Strategy<Value = T>,
    request: impl Fn(&reqwest::Client, &T) -> Option<reqwest::Request>,
) -> Vec<Answer> {
    let mut runner = TestRunner::deterministic();
    let mut answers = vec![];
    for _ in 0..REQUESTS {
        let value = strategy.new_tree(&mut runner).unwrap().current();
        let Some(request) = request(&service.http, &value) else { continue };
        let answer = service.send(request).await;
        assert!(answer.status < 500, "{value:?}: {answer:?}");
        answers.push(answer);
    }
    answers
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(any::<String>(), inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// A body of fields that there are, with anything in them.
fn any_patch() -> impl Strategy<Value = Value> {
    const NAMES: [&str; 7] = ["name", "email", "phone", "address", "metadata", "id", "version"];
    let value = prop_oneof![
        3 => any::<String>().prop_map(Value::from),
        1 => any_json(),
        1 => any::<String>().prop_map(|text| json!({"line1": text, "country": "GB"})),
        1 => prop::collection::btree_map("[a-z\u{0}-\u{ff}]{0,50}", any::<String>(), 0..4).prop_map(|map| json!(map)),
    ];
    prop::collection::btree_map(prop::sample::select(&NAMES[..]), value, 0..4).prop_map(|patch| json!(patch))
}

#[tokio::test]
async fn a_body_of_any_bytes_is_refused() {
    let service = Service::start().await;
    let id = service.ada().await;
    let answers = all_answered(&service, any::<Vec<u8>>(), |http, bytes| {
        let request = http.patch(format!("{}/customers/{id}", service.url)).body(bytes.clone());
        request.header("content-type", "application/merge-patch+json").build().ok()
    })
    .await;
    assert!(answers.iter().all(|answer| (400..500).contains(&answer.status)), "{answers:?}");
    for deep in ["[", "{\"name\":"] {
        let request = service.http.post(format!("{}/customers", service.url)).body(deep.repeat(6000));
        let answer = service.send(request.header("content-type", "application/json").build().unwrap()).await;
        assert!((400..500).contains(&answer.status), "{answer:?}");
    }
}

#[tokio::test]
async fn a_patch_of_anything_is_taken_or_refused() {
    let service = Service::start().await;
    let id = service.ada().await;
    let answers = all_answered(&service, any_patch(), |http, patch| {
        http.patch(format!("{}/customers/{id}", service.url)).json(patch).build().ok()
    })
    .await;
    assert!(answers.iter().any(|answer| answer.status == 200) && answers.iter().any(|answer| answer.status >= 400));
    let bodies = prop_oneof![any_json(), any_patch()];
    all_answered(&service, bodies, |http, body| {
        http.post(format!("{}/customers", service.url)).json(body).build().ok()
    })
    .await;
    // What was taken can be read and published: nothing of it holds up the feed.
    let version = service.get(&format!("/customers/{id}")).await.body["version"].as_u64().unwrap();
    assert_eq!(service.get(&format!("/customers/{id}?min_version={version}")).await.status, 200);
}

#[tokio::test]
async fn queries_of_anything_are_answered_or_refused() {
    let service = Service::start().await;
    let history = format!("/customers/{}/events", service.ada().await);
    let cursor =
        prop_oneof![any::<String>(), "[A-Za-z0-9_=-]{0,60}", any::<i64>().prop_map(|number| number.to_string())];
    let paths = [
        ("/customers", &["cursor", "limit", "sort", "q", "email", "other"][..]),
        ("/parked", &["after", "limit", "gateway"][..]),
        (&history, &["after", "limit"][..]),
        // Without one it would answer for ever; this one is refused, or read to its end.
        ("/events", &["after"][..]),
    ];
    for (path, names) in paths {
        let query = prop::collection::vec((prop::sample::select(names), cursor.clone()), 1..3);
        all_answered(&service, query, |http, query| {
            http.get(format!("{}{path}", service.url)).query(query).build().ok()
        })
        .await;
    }
    all_answered(&service, any::<String>(), |http, id| {
        let mut url = reqwest::Url::parse(&service.url).unwrap();
        url.path_segments_mut().unwrap().extend(["customers", id]);
        http.get(url).build().ok()
    })
    .await;
}

#[tokio::test]
async fn headers_of_anything_are_taken_or_refused() {
    let service = Service::start().await;
    let id = service.ada().await;
    const NAMES: [&str; 7] =
        ["if-match", "idempotency-key", "traceparent", "x-request-id", "authorization", "accept", "content-type"];
    let header = (prop::sample::select(&NAMES[..]), any::<Vec<u8>>());
    all_answered(&service, header, |http, (name, value)| {
        let request = http.request(Method::PATCH, format!("{}/customers/{id}", service.url));
        let request = request.header("content-type", "application/json").body("{\"name\":\"Eve\"}");
        request.header(*name, reqwest::header::HeaderValue::from_bytes(value).ok()?).build().ok()
    })
    .await;
}

#[tokio::test]
async fn webhooks_of_anything_are_refused() {
    let service = Service::start_with(|config| {
        let mut stripe = StripeConfig::new("sk_test_1");
        stripe.api_base = "http://127.0.0.1:1/".parse().unwrap();
        stripe.webhook_secrets = vec!["whsec_1".into()];
        config.stripe = Some(stripe);
    })
    .await;
    let signature = prop_oneof![any::<Vec<u8>>(), "t=[0-9]{0,20},v1=[0-9a-f]{0,64}".prop_map(String::into_bytes)];
    let answers = all_answered(&service, (signature, any::<Vec<u8>>()), |http, (signature, body)| {
        let signature = reqwest::header::HeaderValue::from_bytes(signature).ok()?;
        let request = http.post(format!("{}/webhooks/stripe", service.url)).header("stripe-signature", signature);
        request.body(body.clone()).build().ok()
    })
    .await;
    assert!(answers.iter().all(|answer| (400..500).contains(&answer.status)), "{answers:?}");
}
