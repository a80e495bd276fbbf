//! A client that speaks Stripe's wire format by hand, and an endpoint that takes webhooks.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use serde_json::Value;
use stripe_sim::{Control, Options, Sim};
use tokio::sync::watch;

pub const SECRET: &str = "whsec_test";

/// A local Stripe and a client of it.
pub struct Stripe {
    pub sim: Sim,
    pub control: Control,
    http: reqwest::Client,
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub body: Value,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    pub fn id(&self) -> String {
        self.body["id"].as_str().unwrap().to_owned()
    }

    /// `status type code param` of an error, `-` for what is missing.
    pub fn error(&self) -> String {
        let part = |name: &str| self.body["error"][name].as_str().unwrap_or("-").to_owned();
        format!("{} {} {} {}", self.status, part("type"), part("code"), part("param"))
    }
}

pub async fn stripe() -> Stripe {
    Stripe::start(Options::default()).await
}

/// Without certificates, whose loading takes longer than most tests.
pub fn http_client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap()
}

impl Stripe {
    pub async fn start(options: Options) -> Self {
        let sim = Sim::start(options).await.unwrap();
        let control = sim.control();
        Self { sim, control, http: http_client() }
    }

    pub fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        let url = format!("{}{path}", self.sim.url());
        self.http.request(method.parse().unwrap(), url).bearer_auth("sk_test_123")
    }

    pub async fn get(&self, path: &str) -> Answer {
        answer(self.request("GET", path)).await.unwrap()
    }

    pub async fn delete(&self, path: &str) -> Answer {
        answer(self.request("DELETE", path)).await.unwrap()
    }

    pub async fn post(&self, path: &str, form: &[(&str, &str)]) -> Answer {
        answer(self.request("POST", path).form(form)).await.unwrap()
    }

    pub async fn post_with_key(&self, key: &str, path: &str, form: &[(&str, &str)]) -> Answer {
        self.try_post_with_key(key, path, form).await.unwrap()
    }

    pub async fn try_post_with_key(
        &self,
        key: &str,
        path: &str,
        form: &[(&str, &str)],
    ) -> Result<Answer, reqwest::Error> {
        answer(self.request("POST", path).header("idempotency-key", key).form(form)).await
    }

    /// A new customer's id.
    pub async fn customer(&self, form: &[(&str, &str)]) -> String {
        self.post("/v1/customers", form).await.id()
    }
}

pub async fn answer(request: reqwest::RequestBuilder) -> Result<Answer, reqwest::Error> {
    let response = request.send().await?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Ok(Answer { status, headers, body: response.json().await? })
}

/// One webhook as it came.
#[derive(Debug, Clone)]
pub struct Received {
    pub signature: String,
    pub body: Bytes,
}

impl Received {
    pub fn event(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// An HTTP server that takes webhooks and answers as told, 200 else.
#[derive(Clone)]
pub struct Endpoint {
    pub url: String,
    answers: Arc<Mutex<VecDeque<u16>>>,
    received: watch::Sender<Vec<Received>>,
}

impl Endpoint {
    /// `answers` are the statuses of the first answers.
    pub async fn start(answers: &[u16]) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = Self {
            url: format!("http://{}/hook", listener.local_addr().unwrap()),
            answers: Arc::new(Mutex::new(answers.iter().copied().collect())),
            received: watch::Sender::new(Vec::new()),
        };
        let router = Router::new().route("/hook", post(take)).with_state(endpoint.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        endpoint
    }

    /// The first `count` webhooks, once they are here.
    pub async fn received(&self, count: usize) -> Vec<Received> {
        let mut received = self.received.subscribe();
        received.wait_for(|received| received.len() >= count).await.unwrap().clone()
    }

    /// All that have come so far.
    pub fn so_far(&self) -> Vec<Received> {
        self.received.borrow().clone()
    }

    pub fn options(&self) -> Options {
        Options { webhooks: vec![(self.url.clone(), SECRET.to_owned())], ..Options::default() }
    }
}

async fn take(State(endpoint): State<Endpoint>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let signature = headers["stripe-signature"].to_str().unwrap().to_owned();
    endpoint.received.send_modify(|received| received.push(Received { signature, body }));
    let status = endpoint.answers.lock().unwrap().pop_front().unwrap_or(200);
    StatusCode::from_u16(status).unwrap()
}
