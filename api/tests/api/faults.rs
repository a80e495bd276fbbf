//! Servers that are away, and come back.

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::service::{PATIENCE, Service, fresh_config, fresh_config_without_tables};

#[tokio::test]
async fn a_database_that_is_away_is_told_and_waited_for() {
    let mut postgres = tandem_local::test::own_postgres().await;
    let service = Service::start_with(|config| {
        config.database.url = postgres.url("postgres").into();
        config.database.acquire_timeout_ms = 3000;
    })
    .await;
    let id = service.ada().await;

    postgres.kill();

    let path = format!("/customers/{id}");
    let (events, links) = (format!("{path}/events"), format!("{path}/links"));
    // At once: each waits for a connection for as long.
    let read = ["/customers", "/events", "/parked", &path, &events, &links].map(|path| service.get(path));
    let written = futures::future::join4(
        service.patch(&id, json!({"name": "Eve"})),
        service.patch(&id, json!({"address": {"city": "Paris"}})),
        service.post("/customers", json!({"name": "Bob"})),
        service.delete(&id),
    );
    let (mut answers, (one, two, three, four)) = tokio::join!(futures::future::join_all(read), written);
    answers.extend([one, two, three, four]);
    for answer in answers {
        assert_eq!((answer.status, answer.problem()), (503, "unavailable"), "{answer:?}");
    }
    let ready = service.get("/readyz").await;
    assert_eq!((ready.status, &ready.body["postgresql"]["ok"]), (503, &json!(false)));
    assert_eq!(service.get("/healthz").await.status, 200);
    assert_eq!(service.get("/metrics").await.status, 200);

    postgres.restart().unwrap();

    service.ready().await;
    assert_eq!(service.patch(&id, json!({"name": "Eve"})).await.status, 200);
    assert_eq!(service.get(&format!("{path}?min_version=2")).await.body["name"], "Eve");
}

#[tokio::test]
async fn a_service_that_starts_before_its_servers_waits_for_them() {
    let mut postgres = tandem_local::test::own_postgres().await;
    let mut nats = tandem_local::test::own_nats().await;
    let mut config = fresh_config().await;
    config.database.url = postgres.url("postgres").into();
    config.nats.url = nats.url().into();
    postgres.stop();
    nats.stop();
    let service = Service::run(config).await;
    let waits = service.until("/readyz", |answer| answer.body["starting"].is_string()).await;
    assert_eq!(waits.status, 503);
    let answer = service.post("/customers", json!({"name": "Ada"})).await;
    assert_eq!((answer.status, answer.problem()), (503, "unavailable"));

    postgres.restart().unwrap();
    service.until("/readyz", |answer| answer.body["postgresql"]["ok"] == true).await;
    nats.restart().unwrap();

    service.ready().await;
    service.ada().await;
}

/// Fails for a service that asks NATS before it answers.
#[tokio::test]
async fn while_nats_is_away_customers_are_written_and_read() {
    let mut nats = tandem_local::test::own_nats().await;
    let service = Service::start_with(|config| config.nats.url = nats.url().into()).await;
    nats.kill();
    service.until("/readyz", |answer| answer.body["nats"]["ok"] == false).await;

    let id = service.ada().await;
    service.until(&format!("/customers/{id}"), |answer| answer.status == 200).await;

    nats.restart().unwrap();
    service.ready().await;
}

#[tokio::test]
async fn a_database_that_refuses_us_ends_the_start() {
    let mut config = fresh_config().await;
    config.database.url = "postgres://tandem@127.0.0.1:1/nowhere".into();
    let refused = {
        let url: String = tandem_local::test::database().await.url;
        let (server, _) = url.rsplit_once('/').unwrap();
        format!("{server}/there_is_no_such_database")
    };
    config.database.url = refused.into();
    let mut service = Service::run(config).await;

    let ended = tokio::time::timeout(PATIENCE, service.served.take().unwrap()).await.expect("the end").unwrap();

    assert!(ended.unwrap_err().to_string().contains("cannot start"));
}

#[tokio::test]
async fn many_services_start_at_once_on_an_empty_database() {
    let config = fresh_config_without_tables().await;
    let starting = (0..4).map(|_| Service::run(config.clone()));
    let services = futures::future::join_all(starting.collect::<Vec<_>>()).await;
    for service in &services {
        service.ready().await;
    }
    let id = services[0].ada().await;
    for service in &services {
        assert_eq!(service.get(&format!("/customers/{id}")).await.status, 200);
    }
}

/// Fails for a service that drops what is under way when it is told to stop.
#[tokio::test]
async fn a_request_that_is_under_way_is_answered_before_the_service_stops() {
    let mut service = Service::start().await;
    let mut connection = TcpStream::connect(service.url.strip_prefix("http://").unwrap()).await.unwrap();
    let body = r#"{"name":"Ada"}"#;
    let head = format!(
        "POST /customers HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\nexpect: 100-continue\r\n\r\n",
        body.len()
    );
    connection.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    // It is being read once the service asks for its body.
    read_until(&mut connection, &mut answer, "100 Continue").await;

    service.shutdown.cancel();
    connection.write_all(body.as_bytes()).await.unwrap();

    read_until(&mut connection, &mut answer, "201 Created").await;
    service.served.take().unwrap().await.unwrap().unwrap();
}

async fn read_until(connection: &mut TcpStream, text: &mut String, wanted: &str) {
    let reading = async {
        let mut buffer = [0; 4096];
        while !text.contains(wanted) {
            let length = connection.read(&mut buffer).await.unwrap();
            assert!(length > 0, "it ended before it said {wanted}: {text}");
            text.push_str(std::str::from_utf8(&buffer[..length]).unwrap());
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.expect(wanted);
}

#[tokio::test]
async fn measurements_are_shown() {
    let service = Service::start().await;
    service.ada().await;
    let measured = service
        .until("/metrics", |answer| {
            answer.body.as_str().is_some_and(|text| text.contains("tandem_projector_lag_events"))
        })
        .await;
    let text = measured.body.as_str().unwrap();
    for name in [
        "tandem_http_requests_total",
        "tandem_http_request_seconds",
        "tandem_feed_position",
        "tandem_projector_lag_seconds",
    ] {
        assert!(text.contains(name), "{name} is not there:\n{text}");
    }
    assert!(text.contains("route=\"/customers\""), "{text}");
}
