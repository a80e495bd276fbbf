//! Creating, showing, changing and deleting customers.

use reqwest::Method;
use serde_json::json;

use crate::service::Service;

#[tokio::test]
async fn a_created_customer_is_found_where_its_location_says() {
    let service = Service::start().await;
    let whole = json!({
        "name": "Ada", "email": "ada@old.example", "phone": "+44 1",
        "address": {"line1": "1 Main St", "country": "GB"}, "metadata": {"plan": "pro"},
    });

    let created = service.post("/customers", whole).await;

    assert_eq!((created.status, created.header("etag")), (201, Some("\"1\"")));
    let location = created.header("location").unwrap();
    assert_eq!(location, format!("/customers/{}", created.id()));
    let found = service.get(location).await;
    assert_eq!((found.status, found.header("etag")), (200, Some("\"1\"")));
    assert_eq!(found.body, created.body);
    insta::assert_json_snapshot!(found.without(&["id", "created_at", "updated_at"]), @r#"
    {
      "address": {
        "city": null,
        "country": "GB",
        "line1": "1 Main St",
        "line2": null,
        "postal_code": null,
        "state": null
      },
      "email": "ada@old.example",
      "metadata": {
        "plan": "pro"
      },
      "name": "Ada",
      "phone": "+44 1",
      "version": 1
    }
    "#);
}

#[tokio::test]
async fn times_have_microseconds_and_read_the_same_everywhere() {
    let service = Service::start().await;

    let created = service.post("/customers", json!({"name": "Ada"})).await;

    let at = created.body["created_at"].as_str().unwrap();
    assert_eq!((at.len(), at.ends_with('Z')), ("2026-11-24T09:30:00.000000Z".len(), true), "{at}");
    let events = service.get(&format!("/customers/{}/events", created.id())).await;
    assert_eq!(events.body["data"][0]["at"], created.body["created_at"]);
}

#[tokio::test]
async fn a_patch_sets_what_it_names_unsets_what_is_null_and_leaves_the_rest() {
    let service = Service::start().await;
    let id = service
        .create(json!({
            "name": "Ada", "email": "ada@old.example", "phone": "1",
            "address": {"line1": "1 Main St", "city": "London"}, "metadata": {"plan": "pro", "since": "1842"},
        }))
        .await;

    let patched = service
        .patch(&id, json!({"email": "ada@new.example", "phone": null, "address": {"line1": null, "country": "GB"}, "metadata": {"plan": null}}))
        .await;

    assert_eq!((patched.status, patched.header("etag")), (200, Some("\"2\"")));
    let body = &patched.body;
    assert_eq!((&body["name"], &body["email"]), (&json!("Ada"), &json!("ada@new.example")));
    assert!(body["phone"].is_null() && body["address"]["line1"].is_null());
    assert_eq!((&body["address"]["city"], &body["address"]["country"]), (&json!("London"), &json!("GB")));
    assert_eq!(body["metadata"], json!({"since": "1842"}));

    let cleared = service.patch(&id, json!({"address": null, "metadata": null})).await.body;
    assert!(cleared["address"].is_null());
    assert_eq!(cleared["metadata"], json!({}));
}

#[tokio::test]
async fn setting_what_is_already_so_changes_nothing() {
    let service = Service::start().await;
    let id = service.ada().await;

    let same = service.patch(&id, json!({"name": "Ada"})).await;

    assert_eq!((same.status, same.header("etag")), (200, Some("\"1\"")));
    let events = service.get(&format!("/customers/{id}/events")).await;
    assert_eq!(events.body["data"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn parts_of_an_address_that_are_patched_at_once_are_all_kept() {
    let service = Service::start().await;
    let id = service.create(json!({"name": "Ada", "address": {"country": "GB"}})).await;

    let parts = ["line1", "line2", "city", "state", "postal_code"];
    let patches = parts.map(|part| service.patch(&id, json!({"address": {part: "x"}})));
    for patched in futures::future::join_all(patches).await {
        assert_eq!(patched.status, 200);
    }

    let address = &service.get(&format!("/customers/{id}?min_version=6")).await.body["address"];
    assert!(parts.iter().all(|part| address[part] == "x"), "{address}");
    assert_eq!(address["country"], "GB");
}

#[tokio::test]
async fn a_deleted_customer_is_gone_for_ever() {
    let service = Service::start().await;
    let id = service.ada().await;

    let deleted = service.delete(&id).await;
    assert_eq!((deleted.status, deleted.header("etag")), (204, Some("\"2\"")));
    let again = service.delete(&id).await;
    assert_eq!((again.status, again.header("etag")), (204, Some("\"2\"")));

    let path = format!("/customers/{id}?min_version=2");
    for answer in [service.get(&path).await, service.patch(&id, json!({"name": "Eve"})).await] {
        assert_eq!((answer.status, answer.problem()), (410, "deleted"));
    }
    assert_eq!(service.get("/customers").await.body["data"], json!([]));
    let history = service.get(&format!("/customers/{id}/events")).await;
    assert_eq!((history.status, &history.body["data"][1]["type"]), (200, &json!("deleted")));
    assert_eq!(service.get(&format!("/customers/{id}/links")).await.status, 200);
}

#[tokio::test]
async fn an_id_that_is_nobodys_is_not_found() {
    let service = Service::start().await;
    for id in ["00000000-0000-4000-8000-000000000000", "nobody", "%00"] {
        let path = format!("/customers/{id}");
        let answers = [
            service.get(&path).await,
            service.get(&format!("{path}?min_version=1")).await,
            service.get(&format!("{path}/links")).await,
            service.get(&format!("{path}/events")).await,
            service.get(&format!("/customer/{id}")).await,
            service.patch(id, json!({"name": "Eve"})).await,
            service.patch(id, json!({"address": {"city": "Paris"}})).await,
            service.delete(id).await,
            service.ask(Method::PATCH, &path, &[("if-match", "\"1\"")], Some(json!({"name": "Eve"}))).await,
        ];
        for answer in answers {
            assert_eq!((answer.status, answer.problem()), (404, "not-found"), "{id}");
        }
    }
}

#[tokio::test]
async fn the_paths_that_tandem_began_with_show_the_same_customers() {
    let service = Service::start().await;

    let created = service.post("/customer", json!({"name": "Ada", "email": "ada@old.example"})).await;
    assert_eq!((created.status, created.header("location")), (201, Some(&*format!("/customer/{}", created.id()))));
    let id = created.id();
    assert_eq!(service.get(&format!("/customer/{id}")).await.body, created.body);
    assert_eq!(service.get(&format!("/customers/{id}")).await.body, created.body);

    let put = |body| service.ask(Method::PUT, "/customer", &[], Some(body));
    let updated = put(json!({"id": id, "email": "ada@new.example"})).await;
    assert_eq!(
        (updated.status, &updated.body["name"], &updated.body["email"]),
        (200, &json!("Ada"), &json!("ada@new.example"))
    );

    let delete = |body| service.ask(Method::DELETE, "/customer", &[], Some(body));
    assert_eq!(delete(json!({"id": id})).await.status, 204);
    assert_eq!(put(json!({"id": id, "name": "Eve"})).await.status, 410);

    for (answer, field) in [
        (service.post("/customer", json!({"name": "Ada"})).await, "email"),
        (service.post("/customer", json!({"email": "ada@old.example"})).await, "name"),
        (put(json!({"name": "Ada"})).await, "id"),
        (put(json!({"id": "x", "name": "Ada"})).await, "id"),
        (delete(json!({})).await, "id"),
    ] {
        assert_eq!((answer.status, answer.fields()), (422, vec![field]));
    }
    let nobody = json!({"id": "00000000-0000-4000-8000-000000000000"});
    assert_eq!(delete(nobody).await.status, 404);
}

#[tokio::test]
async fn a_history_tells_who_changed_what_from_what_to_what() {
    let service = Service::start().await;
    let id = service.ada().await;
    service.patch(&id, json!({"email": "ada@new.example"})).await;
    let path = format!("/customers/{id}/events");

    let mut history = service.until(&path, |answer| answer.body["data"][1]["position"] == 2).await;

    history.body = history.body["data"][1].take();
    insta::assert_json_snapshot!(history.without(&["id", "customer_id", "correlation_id", "at", "recorded_at"]), @r#"
    {
      "causation_id": null,
      "changes": {
        "email": {
          "after": "ada@new.example",
          "before": "ada@old.example"
        }
      },
      "origin": "api",
      "position": 2,
      "type": "updated",
      "version": 2
    }
    "#);
}

#[tokio::test]
async fn a_request_is_known_by_one_id_everywhere() {
    let service = Service::start().await;
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let headers = [("x-request-id", "support-case-7"), ("traceparent", trace)];

    let created = service.ask(Method::POST, "/customers", &headers, Some(json!({"name": "Ada"}))).await;

    assert_eq!(created.header("x-request-id"), Some("support-case-7"));
    let history = service.get(&format!("/customers/{}/events", created.id())).await;
    assert_eq!(history.body["data"][0]["correlation_id"], "support-case-7");
    assert!(history.header("x-request-id").is_some_and(|id| !id.is_empty()));
    let stored: serde_json::Value = sqlx::query_scalar("SELECT metadata FROM events")
        .fetch_one(&crate::service::database(&service.config).await)
        .await
        .unwrap();
    assert_eq!(stored["traceparent"], trace);
}
