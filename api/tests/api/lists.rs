//! Lists: filtered, sorted, page by page.

use serde_json::json;

use crate::service::{Answer, Service};

fn names(answer: &Answer) -> Vec<&str> {
    answer.body["data"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap_or("-")).collect()
}

/// Customers that are all in the read model.
async fn customers(service: &Service, bodies: &[serde_json::Value]) -> Vec<String> {
    let mut ids = vec![];
    for body in bodies {
        ids.push(service.create(body.clone()).await);
    }
    seen(service, &ids).await;
    ids
}

async fn seen(service: &Service, ids: &[String]) {
    for id in ids {
        assert_eq!(service.get(&format!("/customers/{id}")).await.status, 200);
    }
}

#[tokio::test]
async fn customers_are_listed_in_any_order() {
    let service = Service::start().await;
    customers(
        &service,
        &[json!({"name": "bob"}), json!({"name": "Ada"}), json!({"name": "Änne"}), json!({"email": "x@y.example"})],
    )
    .await;
    for (query, expected) in [
        ("", ["-", "Änne", "Ada", "bob"]),
        ("?sort=-created", ["-", "Änne", "Ada", "bob"]),
        ("?sort=created", ["bob", "Ada", "Änne", "-"]),
        ("?sort=name", ["-", "Ada", "bob", "Änne"]),
        ("?sort=-name", ["Änne", "bob", "Ada", "-"]),
    ] {
        let list = service.get(&format!("/customers{query}")).await;
        assert_eq!(names(&list), expected, "{query}");
        assert!(list.body["next"].is_null());
    }
}

#[tokio::test]
async fn customers_are_found_by_email_and_by_a_part_of_their_name() {
    let service = Service::start().await;
    customers(
        &service,
        &[
            json!({"name": "ÄDA Lovelace", "email": "Ada@Old.example"}),
            json!({"name": "100% Wool_Inc", "email": "wool@old.example"}),
            json!({"name": "1000 Woolxinc"}),
        ],
    )
    .await;
    for (query, expected) in [
        ("?email=ada@OLD.example", vec!["ÄDA Lovelace"]),
        ("?email=ada@old", vec![]),
        ("?q=äda+love", vec!["ÄDA Lovelace"]),
        ("?q=OLD.EX&sort=created", vec!["ÄDA Lovelace", "100% Wool_Inc"]),
        ("?q=100%25", vec!["100% Wool_Inc"]),
        ("?q=wool_", vec!["100% Wool_Inc"]),
        ("?q=%5C", vec![]),
        ("?q=&sort=name&limit=1", vec!["100% Wool_Inc"]),
        ("?q=wool&email=wool@old.example", vec!["100% Wool_Inc"]),
    ] {
        assert_eq!(names(&service.get(&format!("/customers{query}")).await), expected, "{query}");
    }
}

/// Fails where pages are counted off (`OFFSET`): what comes and goes meanwhile moves the rest.
#[tokio::test]
async fn nobody_is_listed_twice_or_left_out_when_customers_come_and_go() {
    let service = Service::start().await;
    for sort in ["created", "-created", "name", "-name"] {
        // Half of them have one name.
        let bodies: Vec<_> =
            (0..14).map(|n| json!({"name": if n % 2 == 0 { "m".to_owned() } else { format!("m{n:02}") }})).collect();
        let stay = customers(&service, &bodies).await;
        let go = customers(&service, &[json!({"name": "a"}), json!({"name": "z"})]).await;

        let mut listed = vec![];
        let mut cursor = String::new();
        for page in 0.. {
            let list = service.get(&format!("/customers?limit=3&sort={sort}{cursor}")).await;
            listed
                .extend(list.body["data"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned()));
            let Some(next) = list.body["next"].as_str() else { break };
            cursor = format!("&cursor={next}");
            if page == 1 {
                customers(&service, &[json!({"name": "a"}), json!({"name": "z"})]).await;
                for id in &go {
                    service.delete(id).await;
                    assert_eq!(service.get(&format!("/customers/{id}?min_version=2")).await.status, 410);
                }
            }
        }

        for id in &stay {
            assert_eq!(listed.iter().filter(|one| *one == id).count(), 1, "{sort}");
        }
        for id in &stay {
            service.delete(id).await;
        }
    }
}

#[tokio::test]
async fn a_cursor_belongs_to_its_order() {
    let service = Service::start().await;
    customers(&service, &[json!({"name": "a"}), json!({"name": "b"})]).await;
    let next = service.get("/customers?limit=1&sort=name").await.body["next"].as_str().unwrap().to_owned();

    assert_eq!(names(&service.get(&format!("/customers?limit=1&sort=name&cursor={next}")).await), ["b"]);
    let other = service.get(&format!("/customers?limit=1&cursor={next}")).await;
    assert_eq!((other.status, other.fields()), (422, vec!["cursor"]));
}

#[tokio::test]
async fn a_history_is_read_page_by_page() {
    let service = Service::start().await;
    let id = service.ada().await;
    for n in 2..=250 {
        service.patch(&id, json!({"phone": n.to_string()})).await;
    }
    let path = format!("/customers/{id}/events");
    let page = async |query: &str| {
        let answer = service.get(&format!("{path}{query}")).await;
        let versions: Vec<_> =
            answer.body["data"].as_array().unwrap().iter().map(|event| event["version"].as_u64().unwrap()).collect();
        (versions, answer.body["next"].as_u64())
    };
    let of = |first: u64, last: u64| (first..=last).collect::<Vec<_>>();
    assert_eq!(page("").await, (of(1, 100), Some(100)), "never more at once");
    assert_eq!(page("?after=100").await, (of(101, 200), Some(200)));
    assert_eq!(page("?after=200").await, (of(201, 250), None));
    assert_eq!(page("?after=200&limit=50").await, (of(201, 250), None), "a full last page");
    assert_eq!(page("?limit=2").await, (of(1, 2), Some(2)));
    assert_eq!(page("?after=250").await, (vec![], None), "what has not happened yet");

    for (query, field) in [("?limit=0", "limit"), ("?limit=101", "limit"), ("?after=-1", "after"), ("?page=2", "page")]
    {
        let answer = service.get(&format!("{path}{query}")).await;
        assert_eq!((answer.status, &answer.body["errors"][0]["field"]), (422, &json!(field)), "{query}");
    }
    let nobody = service.get(&format!("/customers/{}/events?after=3", uuid::Uuid::now_v7())).await;
    assert_eq!(nobody.status, 404);
}
