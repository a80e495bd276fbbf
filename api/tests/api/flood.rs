//! Ten thousand different ones of everything that comes from outside: none of it is kept.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::service::{PATIENCE, Service};

const KEY: &str = "0123456789abcdef";

/// How many of each kind.
const MANY: usize = 10_000;

/// How many are sent before their answers are read.
const AT_ONCE: usize = 100;

/// What all that is invented here begins with.
const INVENTED: &str = "invented";

/// Most series that the API's own routes, methods and statuses make, whatever else this process tests at the same time.
const SERIES: usize = 20_000;

/// Fails for a service that labels a measurement with what a request says.
#[tokio::test]
async fn whatever_is_invented_from_outside_adds_no_series_to_the_measurements() {
    let service = Service::start_with_keys(&[KEY]).await;
    let key = format!("authorization: Bearer {KEY}");

    // Before anybody is asked for a key.
    flood(&service, |n| request(&format!("{INVENTED}{n}"), "/healthz", "", "")).await;
    flood(&service, |n| request(&format!("{INVENTED}{n}{}", "x".repeat(n % 300)), "/customers", "", "")).await;
    flood(&service, |n| request("GET", &format!("/{INVENTED}{n}"), "", "")).await;
    flood(&service, |n| request("POST", &format!("/webhooks/{INVENTED}{n}"), "", "{}")).await;
    flood(&service, |n| {
        let headers = format!("host: {INVENTED}{n}\r\norigin: http://{INVENTED}{n}\r\nuser-agent: {INVENTED}{n}");
        request("GET", "/customers", &headers, "")
    })
    .await;
    // With a key.
    flood(&service, |n| request("GET", &format!("/customers/{INVENTED}{n}"), &key, "")).await;
    flood(&service, |n| request("GET", &format!("/customers?limit={INVENTED}{n}"), &key, "")).await;
    flood(&service, |n| request("POST", &format!("/gateways/{INVENTED}{n}/pause"), &key, "{")).await;
    flood(&service, |n| {
        let ids = format!("{key}\r\nx-request-id: {INVENTED}{n}\r\nidempotency-key: {INVENTED}{n}");
        request("POST", "/customers", &ids, &format!("{{\"{INVENTED}{n}\":1}}"))
    })
    .await;

    let headers = [("authorization", format!("Bearer {KEY}"))];
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let measured = service.ask(reqwest::Method::GET, "/metrics", &headers, None).await;
    let text = measured.body.as_str().unwrap();
    assert!(!text.contains(INVENTED), "{}", text.lines().find(|line| line.contains(INVENTED)).unwrap_or_default());
    let series = text.lines().filter(|line| !line.starts_with('#')).count();
    assert!(series < SERIES, "{series} series");
    assert!(text.contains("method=\"other\""), "requests by methods that nobody knows are counted together");
}

fn request(method: &str, path: &str, headers: &str, body: &str) -> String {
    let host = if headers.contains("host:") { "" } else { "host: localhost\r\n" };
    let end = if headers.is_empty() { "" } else { "\r\n" };
    let length = body.len();
    format!(
        "{method} {path} HTTP/1.1\r\n{host}content-type: application/json\r\ncontent-length: {length}\r\n{headers}{end}\r\n{body}"
    )
}

/// Sends many requests on one connection, and waits for their answers.
async fn flood(service: &Service, request: impl Fn(usize) -> String) {
    let mut connection = TcpStream::connect(service.url.strip_prefix("http://").unwrap()).await.unwrap();
    for batch in 0..MANY / AT_ONCE {
        let requests: String = (batch * AT_ONCE..(batch + 1) * AT_ONCE).map(&request).collect();
        connection.write_all(requests.as_bytes()).await.unwrap();
        let answers = async {
            let (mut text, mut buffer) = (String::new(), vec![0; 64 * 1024]);
            while text.matches("HTTP/1.1 ").count() < AT_ONCE || !ends(&text) {
                let length = connection.read(&mut buffer).await.unwrap();
                assert!(length > 0, "the connection was closed: {}", text.lines().last().unwrap_or_default());
                text.push_str(std::str::from_utf8(&buffer[..length]).unwrap());
            }
        };
        tokio::time::timeout(PATIENCE, answers).await.expect("answers");
    }
}

/// All of the last answer is there.
fn ends(text: &str) -> bool {
    let last = &text[text.rfind("HTTP/1.1 ").unwrap_or_default()..];
    let Some((head, body)) = last.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    length.is_some_and(|length| body.len() >= length.trim().parse().unwrap())
}
