//! Connections that take and do not give: bounded in time and in number, and health is answered whatever they do.

use std::path::Path;
use std::process::Stdio;

use reqwest::Method;
use serde_json::json;
use tandem_local::process::isolated;
use tandem_local::test::Looks;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::commands;
use crate::service::{Answer, PATIENCE, Service, fresh_config};

const HEALTH: &str = "GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n";

async fn connect(service: &Service) -> TcpStream {
    connect_to(&service.url).await
}

async fn connect_to(url: &str) -> TcpStream {
    TcpStream::connect(url.strip_prefix("http://").unwrap()).await.unwrap()
}

/// A connection that was taken: it has had an answer.
async fn taken(service: &Service) -> TcpStream {
    let mut connection = connect(service).await;
    connection.write_all(HEALTH.as_bytes()).await.unwrap();
    read_until(&mut connection, "{\"status\":\"ok\"}").await;
    connection
}

async fn read_until(connection: &mut TcpStream, wanted: &str) -> String {
    let reading = async {
        let (mut text, mut buffer) = (String::new(), [0; 4096]);
        while !text.contains(wanted) {
            let length = connection.read(&mut buffer).await.unwrap();
            assert!(length > 0, "it ended before it said {wanted}: {text}");
            text.push_str(std::str::from_utf8(&buffer[..length]).unwrap());
        }
        text
    };
    tokio::time::timeout(PATIENCE, reading).await.expect(wanted)
}

/// A connection that was asked before it had been idle for too long: on a busy machine that may take several.
async fn asked_in_time(service: &Service, request: &str, answer: &str) -> TcpStream {
    let asking = async {
        loop {
            let mut connection = connect(service).await;
            let (mut text, mut buffer) = (String::new(), [0; 4096]);
            let mut open = connection.write_all(request.as_bytes()).await.is_ok();
            while open {
                let length = connection.read(&mut buffer).await.unwrap_or_default();
                text.push_str(std::str::from_utf8(&buffer[..length]).unwrap());
                if text.contains(answer) {
                    return connection;
                }
                open = length > 0;
            }
            assert_eq!(text, "", "closed because it had asked nothing, or answered");
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.expect(answer)
}

/// Reads until the other side has closed it.
async fn closed(mut connection: TcpStream) -> String {
    let mut text = vec![];
    // A reset is an end, too.
    let _ = tokio::time::timeout(PATIENCE, connection.read_to_end(&mut text)).await.expect("it is closed");
    String::from_utf8(text).unwrap()
}

/// Asks by a connection of its own.
async fn alone(service: &Service, path: &str) -> Answer {
    ask_alone(&service.url, path).await
}

async fn ask_alone(url: &str, path: &str) -> Answer {
    let http = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).build().unwrap();
    let request = http.request(Method::GET, format!("{url}{path}")).header("connection", "close");
    Answer::of(request.send().await.unwrap()).await
}

/// Fails for a service that waits for a head as long as the client likes.
#[tokio::test]
async fn a_connection_that_asks_nothing_or_half_of_something_is_closed() {
    let service = Service::start_with(|config| config.http.idle_timeout_ms = 200).await;
    let silent = connect(&service).await;
    let mut half = connect(&service).await;
    // It may be closed before that, on a busy machine.
    let _ = half.write_all(b"GET /customers HTTP/1.1\r\nhost: localhost\r\nx-half: ").await;

    assert_eq!(closed(silent).await, "");
    closed(half).await;
    closed(asked_in_time(&service, HEALTH, "{\"status\":\"ok\"}").await).await;
}

#[tokio::test]
async fn a_body_that_does_not_come_is_waited_for_so_long_and_no_longer() {
    let service = Service::start_with(|config| config.http.body_timeout_ms = 200).await;
    for path in ["/customers", "/parked/1/retry"] {
        let mut connection = connect(&service).await;
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{{"
        );
        connection.write_all(head.as_bytes()).await.unwrap();
        let answer = closed(connection).await;
        assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("body-timeout"), "{path}: {answer}");
    }
}

/// Fails for a service that reads and keeps what a stranger sends before it looks who that is.
#[tokio::test]
async fn the_body_of_a_webhook_that_cannot_be_genuine_is_not_waited_for() {
    let service = Service::start_with(|config| config.http.body_timeout_ms = 3_600_000).await;
    let mut connection = connect(&service).await;
    let head = "POST /webhooks/nobody HTTP/1.1\r\nhost: localhost\r\ncontent-length: 200000\r\n\r\n{";
    connection.write_all(head.as_bytes()).await.unwrap();
    read_until(&mut connection, "HTTP/1.1 404 ").await;
}

/// Fails for a service that takes an answer which goes on for an idle connection.
#[tokio::test]
async fn a_live_feed_goes_on_while_idle_connections_are_closed() {
    let service = Service::start_with(|config| config.http.idle_timeout_ms = 100).await;
    let ask = "GET /events HTTP/1.1\r\nhost: localhost\r\naccept: text/event-stream\r\n\r\n";
    let mut feed = asked_in_time(&service, ask, "text/event-stream").await;
    // One after the other: the feed has been silent for longer than any of them was.
    for _ in 0..5 {
        closed(connect(&service).await).await;
    }

    service.ada().await;

    read_until(&mut feed, "event: created").await;
}

#[tokio::test]
async fn a_head_without_end_is_refused() {
    let service = Service::start().await;
    let mut connection = connect(&service).await;
    let head = format!("GET /healthz HTTP/1.1\r\nhost: localhost\r\nx-large: {}\r\n\r\n", "x".repeat(200_000));
    // It may be refused before all of it is sent.
    let _ = connection.write_all(head.as_bytes()).await;
    let answer = closed(connection).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
}

/// Fails for a service that takes whoever comes, or nobody once it is full.
#[tokio::test]
async fn once_there_are_as_many_connections_as_there_may_be_health_is_still_told() {
    let service = Service::start_with(|config| config.http.max_connections = 16).await;
    let (mut open, full) = until_full(&service).await;
    assert_eq!((full.status, full.problem()), (503, "unavailable"), "{full:?}");
    assert!(full.headers.contains_key("retry-after"));
    assert!(full.body["detail"].as_str().unwrap().contains("TANDEM_HTTP__MAX_CONNECTIONS"), "{full:?}");

    // More than are kept for health, all of them silent.
    let mut silent = vec![];
    for _ in 0..100 {
        silent.push(connect(&service).await);
    }
    let health = alone(&service, "/healthz").await;
    assert_eq!((health.status, health.body), (200, json!({"status": "ok"})));
    assert_eq!(alone(&service, "/readyz").await.status, 200);

    drop(silent);
    open.clear();
    has_room(&service).await;
}

/// Takes connections until none is left for others, and returns what others are answered then.
async fn until_full(service: &Service) -> (Vec<TcpStream>, Answer) {
    let (mut open, mut looks) = (vec![], Looks::default());
    loop {
        // The test's own client has some of them.
        let answer = alone(service, "/customers").await;
        if answer.status != 200 {
            return (open, answer);
        }
        open.push(taken(service).await);
        assert!(open.len() <= service.config.http.max_connections, "more than so many are taken");
        looks.pause().await;
    }
}

async fn has_room(service: &Service) {
    let mut looks = Looks::default();
    let asking = async {
        while alone(service, "/customers").await.status != 200 {
            looks.pause().await;
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.expect("a place is free again");
}

/// Fails for a service that waits for a client to take its answer as long as the client likes.
#[tokio::test]
async fn a_client_that_takes_nothing_of_its_answers_loses_its_connection() {
    let service = Service::start_with(|config| {
        config.http.max_connections = 8;
        config.http.idle_timeout_ms = 3_600_000;
        config.http.send_timeout_ms = 500;
    })
    .await;
    let mut deaf = taken(&service).await;
    let (_open, full) = until_full(&service).await;
    assert_eq!(full.status, 503);

    // More answers than all buffers on the way hold.
    let asked = "GET /openapi.json HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(1000);
    deaf.write_all(asked.as_bytes()).await.unwrap();

    has_room(&service).await;
}

/// Fails for a service that takes connections until no file can be opened any more, and then stands still.
#[tokio::test]
async fn a_process_with_few_open_files_takes_as_many_connections_as_it_can_and_tells_its_health() {
    let config = fresh_config().await;
    let mut command = Command::from(isolated(Path::new("sh")));
    command.args(["-c", "ulimit -n 256 && exec \"$0\" serve", env!("CARGO_BIN_EXE_tandem")]);
    commands::with_settings(&mut command, &config);
    let mut served = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut log = BufReader::new(served.stderr.take().unwrap()).lines();
    let (url, said) = commands::address(&mut log).await;
    assert!(said.iter().any(|line| line.contains("ulimit -n") && line.contains("256")), "{said:?}");
    tokio::spawn(async move { while let Ok(Some(_)) = log.next_line().await {} });
    let mut looks = Looks::default();
    let ready = async {
        while ask_alone(&url, "/readyz").await.status != 200 {
            looks.pause().await;
        }
    };
    tokio::time::timeout(PATIENCE, ready).await.expect("it is ready");

    let mut idle = vec![];
    for _ in 0..400 {
        idle.push(connect_to(&url).await);
    }

    assert_eq!(ask_alone(&url, "/healthz").await.status, 200);
    assert_eq!(ask_alone(&url, "/readyz").await.status, 200, "what it needs itself can be opened");
}
