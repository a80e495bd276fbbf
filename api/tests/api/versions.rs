//! Which version a write is meant for, writes that are sent twice, and reading one's own.

use async_nats::Client;
use reqwest::Method;
use serde_json::{Value, json};
use tandem_domain::{Customer, CustomerCommand, Link};
use tandem_eventlog::{Context, Store, Wake};

use crate::service::{Answer, Service, connections};

async fn patch_if(service: &Service, id: &str, tag: &str, body: Value) -> Answer {
    service.ask(Method::PATCH, &format!("/customers/{id}"), &[("if-match", tag)], Some(body)).await
}

async fn post_with_key(service: &Service, key: &str, body: Value) -> Answer {
    service.ask(Method::POST, "/customers", &[("idempotency-key", key)], Some(body)).await
}

/// Does what a gateway does right after a customer is created.
async fn link(service: &Service, id: &str) {
    let nats: Client =
        async_nats::connect(secrecy::ExposeSecret::expose_secret(&service.config.nats.url)).await.unwrap();
    let wake = Wake::new(nats, &service.config.nats.stream);
    let store = Store::<Customer>::new(&connections(&service.config), wake, tandem_domain::upcasters);
    let link = Link {
        gateway: "stripe".parse().unwrap(),
        remote_id: "cus_1".to_owned().into(),
        at: chrono::DateTime::UNIX_EPOCH,
    };
    store.execute(id, CustomerCommand::Link(link), Context::from_origin("stripe")).await.unwrap();
}

#[tokio::test]
async fn a_write_for_another_version_is_refused() {
    let service = Service::start().await;
    let id = service.ada().await;
    assert_eq!(patch_if(&service, &id, "\"1\"", json!({"name": "Eve"})).await.header("etag"), Some("\"2\""));

    for tag in ["\"1\"", "\"3\"", "W/\"2\"", "\"1\", \"3\"", "\"x\""] {
        let answers = [
            patch_if(&service, &id, tag, json!({"name": "Mallory"})).await,
            patch_if(&service, &id, tag, json!({"address": {"city": "Paris"}})).await,
            service.ask(Method::DELETE, &format!("/customers/{id}"), &[("if-match", tag)], None).await,
        ];
        for answer in answers {
            assert_eq!((answer.status, answer.problem()), (412, "version-mismatch"), "{tag}");
        }
    }

    assert_eq!(patch_if(&service, &id, "\"1\", \"2\"", json!({"address": {"city": "Paris"}})).await.status, 200);
    assert_eq!(patch_if(&service, &id, "*", json!({"name": "Grace"})).await.header("etag"), Some("\"4\""));
    let deleted = service.ask(Method::DELETE, &format!("/customers/{id}"), &[("if-match", "\"4\"")], None).await;
    assert_eq!(deleted.status, 204);
}

/// Fails where the version is simply the number of events: each gateway links a customer a moment after its creation.
#[tokio::test]
async fn being_linked_to_a_gateway_leaves_the_version_as_it_is() {
    let service = Service::start().await;
    let id = service.ada().await;
    link(&service, &id).await;

    // Once the read model has taken the link in.
    let found = service.get(&format!("/customers/{id}?min_version=2")).await;
    assert_eq!((found.status, found.header("etag")), (200, Some("\"1\"")));
    let same = service.patch(&id, json!({"name": "Ada"})).await;
    assert_eq!(same.header("etag"), Some("\"1\""));

    let patched = patch_if(&service, &id, "\"1\"", json!({"name": "Eve"})).await;
    assert_eq!((patched.status, patched.header("etag")), (200, Some("\"3\"")));
    let history = service.get(&format!("/customers/{id}/events")).await;
    assert_eq!(
        (&history.body["data"][1]["gateway"], &history.body["data"][1]["remote_id"]),
        (&json!("stripe"), &json!("cus_1"))
    );
}

#[tokio::test]
async fn of_two_writes_for_one_version_one_wins() {
    let service = Service::start().await;
    let id = service.ada().await;

    let writes = (0..8).map(|n| patch_if(&service, &id, "\"1\"", json!({"name": format!("Ada {n}")})));
    let answers: Vec<u16> =
        futures::future::join_all(writes.collect::<Vec<_>>()).await.iter().map(|a| a.status).collect();

    assert_eq!(answers.iter().filter(|status| **status == 200).count(), 1, "{answers:?}");
    assert_eq!(answers.iter().filter(|status| **status == 412).count(), 7, "{answers:?}");
}

#[tokio::test]
async fn a_repeated_create_is_answered_as_the_first_time_whatever_happened_since() {
    let service = Service::start().await;
    let first = post_with_key(&service, "key 1", json!({"name": "Ada"})).await;
    assert_eq!((first.status, first.header("idempotent-replayed")), (201, None));
    let id = first.id();

    service.patch(&id, json!({"name": "Eve"})).await;
    let again = post_with_key(&service, "key 1", json!({"name": "Ada"})).await;
    assert_eq!((again.status, again.header("idempotent-replayed")), (201, Some("true")));
    assert_eq!(
        (&again.body, again.header("etag"), again.header("location")),
        (&first.body, first.header("etag"), first.header("location"))
    );

    service.delete(&id).await;
    assert_eq!(post_with_key(&service, "key 1", json!({"name": "Ada"})).await.body, first.body);
    assert_eq!(service.get(&format!("/customers/{id}?min_version=3")).await.status, 410);
    assert_eq!(service.get("/customers").await.body["data"], json!([]));
}

#[tokio::test]
async fn a_repeated_change_is_answered_as_the_first_time_whatever_it_was_meant_for() {
    let service = Service::start().await;
    let id = service.create(json!({"name": "Ada", "address": {"country": "GB"}})).await;
    let path = format!("/customers/{id}");
    let patch = |key: &'static str, body: Value| {
        let headers = [("idempotency-key", key), ("if-match", "\"1\"")];
        let (service, path) = (&service, &path);
        async move { service.ask(Method::PATCH, path, &headers, Some(body)).await }
    };
    let body = json!({"address": {"city": "London"}});
    let first = patch("k", body.clone()).await;
    assert_eq!((first.status, first.header("etag")), (200, Some("\"2\"")));

    service.patch(&id, json!({"address": {"city": "Paris"}})).await;
    let again = patch("k", body.clone()).await;
    assert_eq!((again.status, &again.body), (200, &first.body));
    // Without the key it would be refused.
    assert_eq!(patch("other", body.clone()).await.status, 412);

    let delete = || service.ask(Method::DELETE, &path, &[("idempotency-key", "d")], None);
    assert_eq!(delete().await.status, 204);
    let deleted_again = delete().await;
    assert_eq!((deleted_again.status, deleted_again.header("idempotent-replayed")), (204, Some("true")));
    assert_eq!(patch("k", body).await.body, first.body);
}

#[tokio::test]
async fn a_change_without_effect_is_repeated_without_effect() {
    let service = Service::start().await;
    let id = service.ada().await;
    let path = format!("/customers/{id}");
    let patch = || service.ask(Method::PATCH, &path, &[("idempotency-key", "k")], Some(json!({"name": "Ada"})));
    let first = patch().await;
    service.patch(&id, json!({"name": "Eve"})).await;
    let again = patch().await;
    assert_eq!((again.status, &again.body, again.header("etag")), (200, &first.body, first.header("etag")));
}

#[tokio::test]
async fn a_key_belongs_to_one_request() {
    let service = Service::start().await;
    let id = post_with_key(&service, "k", json!({"name": "Ada"})).await.id();
    let key = [("idempotency-key", "k")];
    let answers = [
        post_with_key(&service, "k", json!({"name": "Eve"})).await,
        service.ask(Method::PATCH, &format!("/customers/{id}"), &key, Some(json!({"name": "Ada"}))).await,
        service.ask(Method::DELETE, &format!("/customers/{id}"), &key, None).await,
    ];
    for answer in answers {
        assert_eq!((answer.status, answer.problem()), (422, "idempotency-key-reused"));
    }
}

#[tokio::test]
async fn of_many_equal_requests_at_once_one_is_carried_out() {
    let service = Service::start().await;

    let requests = (0..8).map(|_| post_with_key(&service, "k", json!({"name": "Ada"})));
    let answers = futures::future::join_all(requests.collect::<Vec<_>>()).await;

    assert!(answers.iter().all(|answer| answer.status == 201 && answer.id() == answers[0].id()), "{answers:?}");
    assert_eq!(answers.iter().filter(|answer| answer.header("idempotent-replayed").is_none()).count(), 1);
}

#[tokio::test]
async fn who_asks_for_a_version_gets_it_or_is_told_to_ask_again() {
    let service = Service::start().await;
    let id = service.ada().await;
    let waits = {
        let (http, url) = (service.http.clone(), format!("{}/customers/{id}?min_version=2", service.url));
        tokio::spawn(async move { Answer::of(http.get(url).send().await.unwrap()).await })
    };

    service.patch(&id, json!({"name": "Eve"})).await;

    let waited = waits.await.unwrap();
    assert_eq!((waited.status, &waited.body["name"]), (200, &json!("Eve")));
    let never = service.get(&format!("/customers/{id}?min_version=3")).await;
    assert_eq!((never.status, never.problem()), (503, "behind"));
}

/// Fails where only the projector's own process hears that it has moved.
#[tokio::test]
async fn a_write_here_is_read_there() {
    let here = Service::start().await;
    let there = here.beside().await;
    for n in 0..20 {
        let (writes, reads) = if n % 2 == 0 { (&here, &there) } else { (&there, &here) };
        let id = writes.ada().await;
        let version = writes.patch(&id, json!({"name": "Eve"})).await.body["version"].clone();
        let read = reads.get(&format!("/customers/{id}?min_version={version}")).await;
        assert_eq!((read.status, &read.body["name"]), (200, &json!("Eve")));
    }
}
