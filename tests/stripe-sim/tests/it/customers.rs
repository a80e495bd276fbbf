//! `/v1/customers`: creating, reading, changing, deleting.

use serde_json::{Value, json};
use stripe_sim::{AddressUpdate, EmptyLine, Options, Settings};

use crate::fixtures::{Stripe, answer, http_client, stripe};

#[tokio::test]
async fn a_created_customer_has_every_field_of_stripes_own_example() {
    let stripe = stripe().await;
    let created = stripe.post("/v1/customers", &[("name", "Ada"), ("email", "ada@old.example")]).await;
    assert_eq!(created.status, 200);
    assert_eq!(created.body["object"], "customer");
    assert_eq!((created.body["name"].as_str(), created.body["email"].as_str()), (Some("Ada"), Some("ada@old.example")));
    assert!(created.id().starts_with("cus_") && created.id().len() == 18, "{}", created.id());
    let example = [
        "address",
        "balance",
        "created",
        "currency",
        "default_source",
        "delinquent",
        "description",
        "discount",
        "email",
        "id",
        "invoice_prefix",
        "invoice_settings",
        "livemode",
        "metadata",
        "name",
        "next_invoice_sequence",
        "object",
        "phone",
        "preferred_locales",
        "shipping",
        "tax_exempt",
        "test_clock",
    ];
    let mut fields: Vec<&str> = created.body.as_object().unwrap().keys().map(String::as_str).collect();
    fields.sort_unstable();
    assert_eq!(fields, example);
    assert_eq!(stripe.get(&format!("/v1/customers/{}", created.id())).await.body, created.body);
}

#[tokio::test]
async fn every_answer_carries_stripes_headers() {
    let stripe = stripe().await;
    let created = stripe.post_with_key("key-1", "/v1/customers", &[]).await;
    assert!(created.header("request-id").unwrap().starts_with("req_"));
    assert_eq!(created.header("stripe-version"), Some("2026-09-30.endive"));
    assert_eq!(created.header("idempotency-key"), Some("key-1"));
    assert_eq!(created.header("idempotent-replayed"), None);
    assert_eq!(created.header("content-type"), Some("application/json"));
    assert!(created.header("date").unwrap().ends_with(" GMT"));
    let older = answer(stripe.request("GET", "/v1/customers").header("stripe-version", "2024-06-20")).await.unwrap();
    assert_eq!(older.header("stripe-version"), Some("2024-06-20"));
}

#[tokio::test]
async fn an_empty_string_unsets_and_metadata_keys_merge() {
    let stripe = stripe().await;
    let fields =
        [("name", "Ada"), ("phone", "+1"), ("metadata[a]", "1"), ("metadata[b]", "2"), ("address[city]", "Paris")];
    let path = format!("/v1/customers/{}", stripe.customer(&fields).await);
    let updated = stripe.post(&path, &[("phone", ""), ("metadata[a]", ""), ("metadata[c]", "3")]).await.body;
    assert_eq!(updated["name"], "Ada");
    assert_eq!(updated["phone"], Value::Null);
    assert_eq!(updated["metadata"], json!({ "b": "2", "c": "3" }));
    assert_eq!(updated["address"]["city"], "Paris");
    let cleared = stripe.post(&path, &[("metadata", ""), ("address", "")]).await.body;
    assert_eq!((&cleared["metadata"], &cleared["address"]), (&json!({}), &Value::Null));
}

#[tokio::test]
async fn lines_of_an_address_merge_or_replace_as_set() {
    let stripe = stripe().await;
    let path =
        format!("/v1/customers/{}", stripe.customer(&[("address[city]", "Paris"), ("address[line1]", "1 Rue")]).await);
    let merged = stripe.post(&path, &[("address[line1]", "")]).await.body;
    assert_eq!((&merged["address"]["city"], &merged["address"]["line1"]), (&json!("Paris"), &Value::Null));
    let settings =
        Settings { address_update: AddressUpdate::Replace, empty_line: EmptyLine::Empty, ..Settings::default() };
    stripe.control.set(&settings).await.unwrap();
    let replaced = stripe.post(&path, &[("address[line2]", "")]).await.body;
    assert_eq!((&replaced["address"]["city"], &replaced["address"]["line2"]), (&Value::Null, &json!("")));
}

#[tokio::test]
async fn what_is_too_long_or_wrong_is_refused_by_name() {
    let stripe = stripe().await;
    let long = "x".repeat(513);
    let refusals = [
        (("name", &long[..257]), "400 invalid_request_error - name"),
        (("email", &long), "400 invalid_request_error - email"),
        (("phone", &long[..21]), "400 invalid_request_error - phone"),
        (("description", &long[..351]), "400 invalid_request_error - description"),
        (("email", "nonsense"), "400 invalid_request_error email_invalid email"),
        (("balance", "many"), "400 invalid_request_error parameter_invalid_integer balance"),
        (("color", "red"), "400 invalid_request_error parameter_unknown color"),
        (("address[colour]", "red"), "400 invalid_request_error parameter_unknown address[colour]"),
        (("address", "1 Main St"), "400 invalid_request_error - address"),
        (("source", "tok_visa"), "400 invalid_request_error - source"),
        (("metadata[k]", &long[..501]), "400 invalid_request_error - metadata"),
        (("metadata[a[b]]", "x"), "400 invalid_request_error - metadata"),
        (("metadata[xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx]", "x"), "400 invalid_request_error - metadata"),
    ];
    for (field, expected) in refusals {
        let refused = stripe.post("/v1/customers", &[field]).await;
        assert_eq!(refused.error(), expected, "{}", refused.body);
    }
    assert!(stripe.control.customers().await.unwrap().is_empty());
}

#[tokio::test]
async fn an_error_body_points_to_its_explanation_and_its_log() {
    let stripe = stripe().await;
    let refused = stripe.post("/v1/customers", &[("color", "red"), ("size", "xl")]).await;
    let error = &refused.body["error"];
    assert_eq!(error["message"], "Received unknown parameters: color, size");
    assert_eq!(error["doc_url"], "https://stripe.com/docs/error-codes/parameter-unknown");
    let log = error["request_log_url"].as_str().unwrap();
    assert!(log.contains(refused.header("request-id").unwrap()), "{log}");
}

#[tokio::test]
async fn fifty_metadata_keys_are_the_most() {
    let stripe = stripe().await;
    let names: Vec<String> = (0..51).map(|n| format!("metadata[k{n}]")).collect();
    let pairs: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "v")).collect();
    let path = format!("/v1/customers/{}", stripe.customer(&pairs[..50]).await);
    assert_eq!(stripe.post(&path, &pairs[50..]).await.error(), "400 invalid_request_error - metadata");
    assert_eq!(stripe.post(&path, &[("metadata[k0]", ""), ("metadata[k50]", "v")]).await.status, 200);
}

#[tokio::test]
async fn a_deleted_customer_can_be_seen_to_be_deleted_and_nothing_else() {
    let stripe = stripe().await;
    let id = stripe.customer(&[("name", "Ada")]).await;
    let path = format!("/v1/customers/{id}");
    let deleted = json!({ "id": id, "object": "customer", "deleted": true });
    assert_eq!(stripe.delete(&path).await.body, deleted);
    assert_eq!(stripe.get(&path).await.body, deleted);
    assert_eq!(stripe.post(&path, &[("name", "Eve")]).await.error(), "404 invalid_request_error resource_missing id");
    assert_eq!(stripe.delete(&path).await.error(), "404 invalid_request_error resource_missing id");
    assert_eq!(stripe.get("/v1/customers").await.body["data"], json!([]));
}

#[tokio::test]
async fn an_unknown_customer_is_missing() {
    let stripe = stripe().await;
    let missing = stripe.get("/v1/customers/cus_nobody").await;
    assert_eq!(missing.error(), "404 invalid_request_error resource_missing id");
    assert_eq!(missing.body["error"]["message"], "No such customer: 'cus_nobody'");
    assert_eq!(stripe.get("/v1/nonsense").await.error(), "404 invalid_request_error - -");
}

#[tokio::test]
async fn expand_is_taken_and_json_is_not() {
    let stripe = stripe().await;
    assert_eq!(stripe.get("/v1/customers?expand[]=data.default_source").await.status, 200);
    let request = stripe.request("POST", "/v1/customers").json(&json!({ "name": "Ada" }));
    assert_eq!(answer(request).await.unwrap().error(), "400 invalid_request_error - -");
}

#[tokio::test]
async fn a_key_is_needed_as_bearer_or_as_a_user() {
    let stripe = stripe().await;
    let url = format!("{}/v1/customers", stripe.sim.url());
    let http = http_client();
    let none = answer(http.get(&url)).await.unwrap();
    assert_eq!(none.error(), "401 invalid_request_error - -");
    assert!(none.body["error"]["message"].as_str().unwrap().starts_with("You did not provide an API key"));
    let wrong = answer(http.get(&url).bearer_auth("pk_test_abcdefgh")).await.unwrap();
    assert_eq!(wrong.status, 401);
    assert_eq!(wrong.body["error"]["message"], "Invalid API Key provided: pk_test_****efgh");
    for key in ["sk_test_1", "rk_test_1"] {
        assert_eq!(answer(http.get(&url).basic_auth(key, Some(""))).await.unwrap().status, 200);
    }
    let strict = Stripe::start(Options { secret_keys: vec!["sk_test_mine".to_owned()], ..Options::default() }).await;
    assert_eq!(strict.get("/v1/customers").await.status, 401);
}

#[tokio::test]
async fn emails_are_normalised_only_when_asked() {
    let stripe = stripe().await;
    let id = stripe.customer(&[("email", "Ada@Old.example")]).await;
    assert_eq!(stripe.control.get(&id).await.unwrap().email.as_deref(), Some("Ada@Old.example"));
    stripe.control.set(&Settings { normalise_email: true, ..Settings::default() }).await.unwrap();
    let id = stripe.customer(&[("email", " Ada@Old.example ")]).await;
    assert_eq!(stripe.control.get(&id).await.unwrap().email.as_deref(), Some("ada@old.example"));
}

#[tokio::test]
async fn an_edit_by_hand_is_no_call_and_has_no_key() {
    let stripe = stripe().await;
    let ada = stripe.control.create(&[("name", "Ada"), ("metadata[tier]", "gold")]).await.unwrap();
    let edited = stripe.control.edit(&ada.id, &[("email", "ada@new.example")]).await.unwrap();
    assert_eq!((edited.email.as_deref(), edited.metadata["tier"].as_str()), (Some("ada@new.example"), "gold"));
    let gone = stripe.control.delete(&ada.id).await.unwrap();
    assert!(gone.deleted && gone.name.as_deref() == Some("Ada"));
    assert!(stripe.control.calls().await.unwrap().is_empty());
    let events = stripe.control.events_of(&ada.id).await.unwrap();
    let kinds: Vec<&str> = events.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(kinds, ["customer.created", "customer.updated", "customer.deleted"]);
    assert!(events.iter().all(|event| event.request_id.is_none() && event.idempotency_key.is_none()));
    let refused = stripe.control.edit(&ada.id, &[("name", "Eve")]).await.unwrap_err();
    assert_eq!(refused.to_string(), format!("the local Stripe refused with 404: No such customer: '{}'", ada.id));
}
