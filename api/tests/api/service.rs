//! A service of one test's own, and asking it.

use std::time::Duration;

use async_nats::jetstream::stream::Stream;
use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, HeaderMap};
use serde_json::{Value, json};
use tandem_api::{Clock, Config, ServeError, serve};
use tandem_local::test::Looks;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// How long a test waits for what must happen, before it fails.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A running service.
pub struct Service {
    pub url: String,
    pub config: Config,
    pub http: reqwest::Client,
    pub shutdown: CancellationToken,
    pub served: Option<JoinHandle<Result<(), ServeError>>>,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Value,
}

impl Service {
    /// A service with a database and a stream of its own.
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = fresh_config().await;
        change(&mut config);
        let service = Self::run(config).await;
        service.ready().await;
        service
    }

    /// A service that asks for one of these keys.
    pub async fn start_with_keys(keys: &[&str]) -> Self {
        Self::start_with(|config| config.api_keys = keys.iter().map(|key| (*key).into()).collect()).await
    }

    /// Serves with these settings, and does not wait until it is ready.
    pub async fn run(config: Config) -> Self {
        // Another test of this process may have done it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shutdown = CancellationToken::new();
        let served = tokio::spawn(serve(config.clone(), Clock::system(), listener, shutdown.clone()));
        // A request by a kept connection would cross with its closing.
        let kept = if config.http.idle_timeout_ms < 10_000 { 0 } else { usize::MAX };
        let http = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(kept).build().unwrap();
        Self { url, config, http, shutdown, served: Some(served) }
    }

    /// Another service on the same database and stream.
    pub async fn beside(&self) -> Self {
        let other = Self::run(self.config.clone()).await;
        other.ready().await;
        other
    }

    /// Waits until it says that it is ready.
    pub async fn ready(&self) {
        self.until("/readyz", |answer| answer.status == 200).await;
        if !crate::document::is_known() && self.config.api_keys.is_empty() {
            crate::document::learn(self.get("/openapi.json").await.body);
        }
    }

    /// Asks again and again until the answer is so.
    pub async fn until(&self, path: &str, wanted: impl Fn(&Answer) -> bool) -> Answer {
        let (mut last, mut looks) = (None, Looks::default());
        let asking = async {
            loop {
                let answer = self.get(path).await;
                if wanted(&answer) {
                    return answer;
                }
                last = Some(answer);
                looks.pause().await;
            }
        };
        match tokio::time::timeout(PATIENCE, asking).await {
            Ok(answer) => answer,
            Err(_) => panic!("{path} never answered as it should; last {last:?}"),
        }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.ask(Method::GET, path, &[], None).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.ask(Method::POST, path, &[], Some(body)).await
    }

    pub async fn patch(&self, id: &str, body: Value) -> Answer {
        self.ask(Method::PATCH, &format!("/customers/{id}"), &[], Some(body)).await
    }

    pub async fn delete(&self, id: &str) -> Answer {
        self.ask(Method::DELETE, &format!("/customers/{id}"), &[], None).await
    }

    /// Creates a customer, and returns its id.
    pub async fn create(&self, body: Value) -> String {
        let answer = self.post("/customers", body).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.id()
    }

    /// A customer called Ada.
    pub async fn ada(&self) -> String {
        self.create(json!({"name": "Ada", "email": "ada@old.example"})).await
    }

    /// Asks with a JSON body.
    pub async fn ask(&self, method: Method, path: &str, headers: &[(&str, &str)], body: Option<Value>) -> Answer {
        let mut request = self.http.request(method, format!("{}{path}", self.url));
        if let Some(body) = body {
            request = request.json(&body);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.build().unwrap()).await
    }

    /// Sends any request. Whatever comes back must be described in the API's document, and every error be a problem.
    pub async fn send(&self, request: reqwest::Request) -> Answer {
        let (method, path) = (request.method().to_string(), request.url().path().to_owned());
        let answer = Answer::of(self.http.execute(request).await.unwrap()).await;
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{method} {path}: {answer:?}");
        if let Some(responses) = crate::document::responses(&method, &path) {
            let status = answer.status.to_string();
            assert!(responses.contains(&status), "{method} {path} answers {status}, which its document does not say");
        }
        if answer.status >= 400 && path != "/readyz" {
            answer.is_problem();
        }
        answer
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl Answer {
    pub async fn of(response: reqwest::Response) -> Self {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await.unwrap();
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Self { status, headers, body }
    }

    pub fn id(&self) -> String {
        self.body["id"].as_str().unwrap().to_owned()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The body without what differs from run to run, which must be there.
    pub fn without(&self, fields: &[&str]) -> Value {
        let mut body = self.body.clone();
        for field in fields {
            assert!(body.as_object_mut().unwrap().remove(*field).is_some(), "{field} is missing");
        }
        body
    }

    /// The fields that the problem names.
    pub fn fields(&self) -> Vec<&str> {
        self.body["errors"].as_array().into_iter().flatten().filter_map(|error| error["field"].as_str()).collect()
    }

    /// The last part of the problem's type.
    pub fn problem(&self) -> &str {
        self.body["type"].as_str().and_then(|kind| kind.strip_prefix("urn:tandem:problem:")).unwrap_or_default()
    }

    fn is_problem(&self) {
        assert_eq!(self.headers[CONTENT_TYPE], "application/problem+json", "{self:?}");
        assert_eq!(self.body["status"], self.status, "{self:?}");
        assert!(!self.problem().is_empty() && self.body["title"].is_string(), "{self:?}");
        assert!(self.body["detail"].is_string(), "{self:?}");
        assert_eq!(self.headers.contains_key("retry-after"), self.status == 503, "{self:?}");
    }
}

/// Settings with a database and a stream that nobody else has.
pub async fn fresh_config() -> Config {
    let mut config = Config::new(tandem_local::test::database().await.url);
    config.nats.url = tandem_local::test::nats().await.into();
    config.nats.root = unique();
    config.nats.stream = config.nats.root.to_uppercase();
    config.database.max_connections = 10;
    config
}

/// The same with an empty database, which nobody has migrated.
pub async fn fresh_config_without_tables() -> Config {
    let mut config = fresh_config().await;
    config.database.url = tandem_local::test::empty_database().await.url.into();
    config
}

/// Waits until the service's stream has so many messages: an event has its position a moment before it is published.
pub async fn published(stream: &mut Stream, count: u64) {
    let mut looks = Looks::default();
    let publishing = async {
        while stream.info().await.unwrap().state.last_sequence < count {
            looks.pause().await;
        }
    };
    tokio::time::timeout(PATIENCE, publishing).await.expect("all of them in the stream");
}

/// A name that nobody else has.
pub fn unique() -> String {
    format!("t{}", uuid::Uuid::new_v4().simple())
}

/// Those of another process to the service's own database.
pub fn connections(config: &Config) -> tandem_eventlog::Connections {
    use secrecy::ExposeSecret;
    let options = config.database.url.expose_secret().parse().unwrap();
    tandem_eventlog::Connections::new(10, sqlx::postgres::PgPoolOptions::new(), options)
}

/// The service's own database.
pub async fn database(config: &Config) -> sqlx::PgPool {
    use secrecy::ExposeSecret;
    sqlx::postgres::PgPoolOptions::new().max_connections(2).connect(config.database.url.expose_secret()).await.unwrap()
}
