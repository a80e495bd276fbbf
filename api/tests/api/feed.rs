//! The feed: so far, and live.

use futures::StreamExt;
use serde_json::{Value, json};

use crate::service::{PATIENCE, Service, database};

/// The lines of a feed that ends.
async fn lines(service: &Service, query: &str) -> Vec<Value> {
    let answer = service.http.get(format!("{}/events{query}", service.url)).send().await.unwrap();
    assert_eq!(answer.headers()["content-type"], "application/x-ndjson");
    answer.text().await.unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Reads a live feed until it has shown so many events; returns their ids and their data.
async fn live(service: &Service, query: &str, last_event_id: Option<&str>, count: usize) -> Vec<(String, Value)> {
    let mut request = service.http.get(format!("{}/events{query}", service.url)).header("accept", "text/event-stream");
    if let Some(id) = last_event_id {
        request = request.header("last-event-id", id);
    }
    let answer = request.send().await.unwrap();
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let mut chunks = answer.bytes_stream();
    let mut text = String::new();
    let reading = async {
        loop {
            text.push_str(std::str::from_utf8(&chunks.next().await.unwrap().unwrap()).unwrap());
            let events = events(&text);
            if events.len() >= count {
                return events;
            }
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.expect("events")
}

/// So many customers that differ from this one by their ids alone, with their events numbered. Asking for each takes long.
async fn create_more_like(service: &Service, id: &str, count: i32) {
    sqlx::query(
        "INSERT INTO events
             (aggregate_type, aggregate_id, sequence, event_type, event_version, payload, metadata, event_id)
         SELECT aggregate_type, gen_random_uuid()::text, sequence, event_type, event_version, payload, metadata,
                gen_random_uuid()
         FROM events, generate_series(1, $2) WHERE aggregate_id = $1",
    )
    .bind(id)
    .bind(count)
    .execute(&database(&service.config).await)
    .await
    .unwrap();
    service.until("/readyz", |answer| answer.body["relay"]["lag_events"] == 0).await;
}

fn events(text: &str) -> Vec<(String, Value)> {
    let (whole, _) = text.rsplit_once("\n\n").unwrap_or_default();
    let field = |event: &str, name: &str| {
        event.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ").map(str::to_owned))
    };
    let event = |event: &str| Some((field(event, "id")?, serde_json::from_str(&field(event, "data")?).unwrap()));
    whole.split("\n\n").filter_map(event).collect()
}

#[tokio::test]
async fn the_feed_so_far_has_every_event_and_ends() {
    let service = Service::start().await;
    let id = service.ada().await;
    service.patch(&id, json!({"name": "Eve"})).await;
    service.delete(&id).await;
    // The relay has numbered them all.
    service.until(&format!("/customers/{id}/events"), |answer| answer.body["data"][2]["position"] == 3).await;

    let all = lines(&service, "").await;
    let shown: Vec<_> =
        all.iter().map(|event| (event["position"].as_u64().unwrap(), event["type"].as_str().unwrap())).collect();
    assert_eq!(shown, [(1, "created"), (2, "updated"), (3, "deleted")]);
    assert!(all.iter().all(|event| event["customer_id"] == id.as_str()));
    assert_eq!(lines(&service, "?after=2").await, all[2..]);
    assert_eq!(lines(&service, "?after=3").await, Vec::<Value>::new());
}

#[tokio::test]
async fn a_long_feed_comes_whole() {
    let service = Service::start().await;
    let ada = service.ada().await;
    // More than are read at once.
    create_more_like(&service, &ada, 1100).await;

    let positions: Vec<u64> =
        lines(&service, "").await.iter().map(|event| event["position"].as_u64().unwrap()).collect();
    assert_eq!(positions, (1..=1101).collect::<Vec<_>>());
}

/// Fails for a feed that ends short as if it had come to its end: an export would lack the rest, and nobody would know.
#[tokio::test]
async fn a_feed_that_the_services_stop_cuts_short_breaks_off() {
    // For as long as reading may take on a busy machine.
    let mut service = Service::start_with(|config| config.http.drain_timeout_ms = 600_000).await;
    // Two pages, the first larger than what the connection holds: the service waits for its reader.
    let metadata: serde_json::Map<_, _> = (0..30).map(|n| (format!("k{n}"), "x".repeat(500).into())).collect();
    let ada = service.create(json!({"name": "Ada", "metadata": metadata})).await;
    create_more_like(&service, &ada, 549).await;
    let mut config = service.config.clone();
    config.http.drain_timeout_ms = 100;
    let mut other = Service::run(config).await;
    other.ready().await;
    let ask = async |service: &Service| service.http.get(format!("{}/events", service.url)).send().await.unwrap();

    // Who reads on while open requests may end has all of it.
    let answer = ask(&service).await;
    service.shutdown.cancel();
    let whole = answer.text().await.unwrap();
    assert_eq!(whole.lines().count(), 550);
    service.served.take().unwrap().await.unwrap().unwrap();

    // Who does not is told.
    let answer = ask(&other).await;
    other.shutdown.cancel();
    other.served.take().unwrap().await.unwrap().unwrap();
    let cut = tokio::time::timeout(PATIENCE, answer.text()).await.expect("the end of the feed");
    assert!(cut.is_err(), "{} lines, as if these were all", cut.unwrap().lines().count());
}

#[tokio::test]
async fn a_live_feed_goes_on_where_its_reader_stopped() {
    let service = Service::start().await;
    let id = service.ada().await;
    let first = live(&service, "", None, 1).await;
    assert_eq!((first[0].0.as_str(), &first[0].1["type"]), ("1", &json!("created")));

    let (next, ()) = tokio::join!(live(&service, "?after=0", Some("1"), 2), async {
        service.patch(&id, json!({"name": "Eve"})).await;
        service.delete(&id).await;
    });
    assert_eq!(
        next.iter().map(|(id, event)| (id.as_str(), event["type"].as_str().unwrap())).collect::<Vec<_>>(),
        [("2", "updated"), ("3", "deleted")]
    );

    let wrong = service
        .ask(reqwest::Method::GET, "/events", &[("accept", "text/event-stream"), ("last-event-id", "x")], None)
        .await;
    assert_eq!((wrong.status, wrong.fields()), (422, vec!["Last-Event-ID"]));
}

/// Fails for a service that waits until its readers have had enough.
#[tokio::test]
async fn a_live_feed_does_not_keep_the_service_from_stopping() {
    let mut service = Service::start().await;
    service.ada().await;
    let answer =
        service.http.get(format!("{}/events", service.url)).header("accept", "text/event-stream").send().await.unwrap();
    let mut chunks = answer.bytes_stream();
    chunks.next().await.unwrap().unwrap();

    service.shutdown.cancel();

    let rest = async { while let Some(Ok(_)) = chunks.next().await {} };
    tokio::time::timeout(PATIENCE, rest).await.expect("the end of the feed");
    service.served.take().unwrap().await.unwrap().unwrap();
}
