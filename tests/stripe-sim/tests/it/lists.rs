//! Lists walked by cursor, and search.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use stripe_sim::{ClockChange, Settings};

use crate::fixtures::stripe;

fn names(body: &Value) -> Vec<&str> {
    body["data"].as_array().unwrap().iter().map(|customer| customer["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_list_is_newest_first_and_walked_both_ways() {
    let stripe = stripe().await;
    let mut ids = Vec::new();
    for name in ["a", "b", "c", "d", "e"] {
        ids.push(stripe.customer(&[("name", name)]).await);
    }
    let first = stripe.get("/v1/customers?limit=2").await.body;
    assert_eq!(names(&first), ["e", "d"]);
    assert_eq!(
        (&first["object"], &first["has_more"], &first["url"]),
        (&json!("list"), &json!(true), &json!("/v1/customers"))
    );
    let second = stripe.get(&format!("/v1/customers?limit=2&starting_after={}", ids[3])).await.body;
    assert_eq!((names(&second), &second["has_more"]), (vec!["c", "b"], &json!(true)));
    let last = stripe.get(&format!("/v1/customers?limit=2&starting_after={}", ids[1])).await.body;
    assert_eq!((names(&last), &last["has_more"]), (vec!["a"], &json!(false)));
    let back = stripe.get(&format!("/v1/customers?limit=2&ending_before={}", ids[1])).await.body;
    assert_eq!((names(&back), &back["has_more"]), (vec!["d", "c"], &json!(true)));
}

#[tokio::test]
async fn a_walk_meets_each_once_though_all_are_of_one_second() {
    let stripe = stripe().await;
    stripe.control.clock(ClockChange::Freeze).await.unwrap();
    for _ in 0..25 {
        stripe.customer(&[]).await;
    }
    let (mut seen, mut cursor) = (BTreeSet::new(), String::new());
    loop {
        let page = stripe.get(&format!("/v1/customers?limit=10{cursor}")).await.body;
        for customer in page["data"].as_array().unwrap() {
            let id = customer["id"].as_str().unwrap();
            assert!(seen.insert(id.to_owned()), "{id} twice");
            cursor = format!("&starting_after={id}");
        }
        if page["has_more"] == false {
            break;
        }
    }
    assert_eq!(seen.len(), 25);
}

#[tokio::test]
async fn the_email_filter_compares_as_it_stands() {
    let stripe = stripe().await;
    for (name, email) in [("a", "ada@old.example"), ("b", "Ada@old.example"), ("c", "ada@old.example")] {
        stripe.customer(&[("name", name), ("email", email)]).await;
    }
    assert_eq!(names(&stripe.get("/v1/customers?email=ada@old.example").await.body), ["c", "a"]);
    assert_eq!(names(&stripe.get("/v1/customers?email=Ada@old.example").await.body), ["b"]);
    assert!(names(&stripe.get("/v1/customers?email=eve@old.example").await.body).is_empty());
}

#[tokio::test]
async fn nonsense_in_a_list_is_refused_by_name() {
    let stripe = stripe().await;
    for (query, expected) in [
        ("limit=0", "400 invalid_request_error - limit"),
        ("limit=101", "400 invalid_request_error - limit"),
        ("limit=x", "400 invalid_request_error parameter_invalid_integer limit"),
        ("starting_after=cus_nobody", "400 invalid_request_error resource_missing starting_after"),
        ("created[gte]=x", "400 invalid_request_error parameter_invalid_integer created[gte]"),
        ("created[after]=1", "400 invalid_request_error parameter_unknown created[after]"),
        ("colour=red", "400 invalid_request_error parameter_unknown colour"),
    ] {
        assert_eq!(stripe.get(&format!("/v1/customers?{query}")).await.error(), expected, "{query}");
    }
}

#[tokio::test]
async fn search_sees_a_change_only_after_its_lag() {
    let stripe = stripe().await;
    stripe.control.clock(ClockChange::Freeze).await.unwrap();
    let id = stripe.customer(&[("name", "Ada"), ("metadata[tandem_id]", "42")]).await;
    let search = "/v1/customers/search?query=metadata['tandem_id']:'42'";
    assert!(names(&stripe.get(search).await.body).is_empty());
    stripe.control.advance(Duration::from_secs(61)).await.unwrap();
    let found = stripe.get(search).await.body;
    assert_eq!(
        (names(&found), &found["object"], &found["next_page"]),
        (vec!["Ada"], &json!("search_result"), &Value::Null)
    );
    stripe.control.edit(&id, &[("name", "Eve")]).await.unwrap();
    assert_eq!(names(&stripe.get(search).await.body), ["Ada"]);
    stripe.control.delete(&id).await.unwrap();
    assert_eq!(names(&stripe.get(search).await.body), ["Ada"]);
    stripe.control.advance(Duration::from_secs(61)).await.unwrap();
    assert!(names(&stripe.get(search).await.body).is_empty());
}

#[tokio::test]
async fn search_goes_on_from_page_to_page() {
    let stripe = stripe().await;
    stripe.control.set(&Settings { search_lag_ms: 0, ..Settings::default() }).await.unwrap();
    stripe.control.clock(ClockChange::Freeze).await.unwrap();
    for name in ["ada 1", "ada 2", "eve", "ada 3"] {
        stripe.customer(&[("name", name)]).await;
    }
    let first = stripe.get("/v1/customers/search?query=name~'ada'&limit=2").await.body;
    assert_eq!(names(&first), ["ada 3", "ada 2"]);
    let page = first["next_page"].as_str().unwrap();
    let second = stripe.get(&format!("/v1/customers/search?query=name~'ada'&limit=2&page={page}")).await.body;
    assert_eq!((names(&second), &second["has_more"]), (vec!["ada 1"], &json!(false)));
    assert_eq!(stripe.get("/v1/customers/search").await.error(), "400 invalid_request_error parameter_missing query");
    assert_eq!(
        stripe.get("/v1/customers/search?query=colour:'red'").await.error(),
        "400 invalid_request_error - query"
    );
}
