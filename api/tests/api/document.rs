//! The API's document is true: every route is in it, and `Service::send` holds every answer of every test against it.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use serde_json::{Value, json};

use crate::service::Service;

/// The statuses that the document has for a request; `None` for a path that it has not.
pub fn responses(method: &str, path: &str) -> Option<BTreeSet<String>> {
    let document = DOCUMENT.get()?;
    let segments: Vec<&str> = path.split('/').collect();
    let fits = |template: &str| {
        let parts: Vec<&str> = template.split('/').collect();
        parts.len() == segments.len()
            && parts.iter().zip(&segments).all(|(part, segment)| part.starts_with('{') || part == segment)
    };
    let paths = document["paths"].as_object().unwrap();
    let (_, path) = paths.iter().find(|(template, _)| fits(template))?;
    let operation = path.get(method.to_lowercase())?;
    Some(operation["responses"].as_object().unwrap().keys().cloned().collect())
}

/// The document, as the first service of this process showed it.
static DOCUMENT: OnceLock<Value> = OnceLock::new();

pub fn is_known() -> bool {
    DOCUMENT.get().is_some()
}

pub fn learn(document: Value) {
    DOCUMENT.get_or_init(|| document);
}

#[tokio::test]
async fn every_route_is_in_the_document() {
    let service = Service::start().await;

    let document = service.get("/openapi.json").await.body;

    let paths = document["paths"].as_object().unwrap();
    let methods = |item: &Value| item.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
    let routes: Vec<String> = paths.iter().map(|(path, item)| format!("{path}: {}", methods(item))).collect();
    insta::assert_snapshot!(routes.join("\n"), @r"
    /conflicts: get
    /conflicts/{id}/resolve: post
    /customer: delete post put
    /customer/{id}: get
    /customers: get post
    /customers/{id}: delete get patch
    /customers/{id}/events: get
    /customers/{id}/links: get
    /events: get
    /gateways: get
    /gateways/{name}/pause: post
    /gateways/{name}/resume: post
    /healthz: get
    /metrics: get
    /openapi.json: get
    /parked: get
    /parked/{id}/delete: post
    /parked/{id}/dismiss: post
    /parked/{id}/keep: post
    /parked/{id}/link: post
    /parked/{id}/retry: post
    /readyz: get
    /webhooks/{gateway}: post
    ");
    // What is named is there.
    let text = document.to_string();
    for part in text.split("#/components/schemas/").skip(1) {
        let name = part.split('"').next().unwrap();
        assert!(document["components"]["schemas"].get(name).is_some(), "the schema {name} is missing");
    }
}

/// Whoever generates clients or tests from it stumbles over a value that shall be of two types at once.
#[tokio::test]
async fn no_schema_asks_for_two_types_at_once() {
    let service = Service::start().await;

    let document = service.get("/openapi.json").await.body;

    let mut within = vec![&document];
    while let Some(value) = within.pop() {
        if let Some(all) = value.get("allOf").and_then(Value::as_array) {
            let named = all.iter().map(|part| match part["$ref"].as_str() {
                Some(name) => &document.pointer(name.trim_start_matches('#')).unwrap()["type"],
                None => &part["type"],
            });
            let types: BTreeSet<String> = named.filter(|named| !named.is_null()).map(Value::to_string).collect();
            assert!(types.len() <= 1, "{value}");
        }
        within.extend(value.as_object().into_iter().flat_map(|object| object.values()));
        within.extend(value.as_array().into_iter().flatten());
    }
}

#[tokio::test]
async fn every_write_takes_an_idempotency_key() {
    let service = Service::start().await;

    let document = service.get("/openapi.json").await.body;

    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let parameters = operation["parameters"].as_array().into_iter().flatten();
            let takes_a_key = parameters.into_iter().any(|parameter| parameter["name"] == "Idempotency-Key");
            // A webhook is known by its event's id.
            let writes = method != "get" && path != "/webhooks/{gateway}";
            assert_eq!(takes_a_key, writes, "{method} {path}");
        }
    }
}

#[tokio::test]
async fn the_document_says_who_needs_no_key() {
    let service = Service::start().await;

    let document = service.get("/openapi.json").await.body;

    assert_eq!(document["security"], json!([{"key": []}]));
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let expected = match path.as_str() {
                "/healthz" | "/webhooks/{gateway}" => json!([{}]),
                // It tells more to those who have one.
                "/readyz" => json!([{}, {"key": []}]),
                _ => Value::Null,
            };
            assert_eq!(operation["security"], expected, "{method} {path}");
        }
    }
}

#[tokio::test]
async fn a_body_that_may_be_left_out_is_not_said_to_be_required() {
    let service = Service::start().await;

    let document = service.get("/openapi.json").await.body;

    let mut optional = vec![];
    for (path, item) in document["paths"].as_object().unwrap() {
        for operation in item.as_object().unwrap().values() {
            if operation.get("requestBody").is_some_and(|body| body["required"] != true) {
                optional.push(path.as_str());
            }
        }
    }
    assert_eq!(optional, ["/gateways/{name}/pause", "/gateways/{name}/resume", "/parked/{id}/link"]);
}

#[tokio::test]
async fn every_tag_that_is_used_is_described() {
    let service = Service::start().await;

    let document = service.get("/openapi.json").await.body;

    let tags = document["tags"].as_array().unwrap();
    let described: BTreeSet<&str> = tags.iter().map(|tag| tag["name"].as_str().unwrap()).collect();
    let mut used = BTreeSet::new();
    for item in document["paths"].as_object().unwrap().values() {
        for operation in item.as_object().unwrap().values() {
            used.extend(operation["tags"].as_array().unwrap().iter().map(|tag| tag.as_str().unwrap()));
        }
    }
    assert_eq!(used, described);
}

#[tokio::test]
async fn a_path_that_is_not_there_and_a_method_that_is_not_are_problems() {
    let service = Service::start().await;

    let nowhere = service.get("/nowhere").await;
    assert_eq!((nowhere.status, nowhere.problem()), (404, "not-found"));

    let method = service.ask(reqwest::Method::PUT, "/customers", &[], None).await;
    assert_eq!((method.status, method.problem()), (405, "method-not-allowed"));
    assert!(method.header("allow").unwrap().contains("POST"));
}
