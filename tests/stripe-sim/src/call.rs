//! One call to `/v1`, from its key to its answer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State as Shared};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::Response;
use base64::Engine;
use serde_json::Value;

use crate::API_VERSION;
use crate::app::App;
use crate::calls::Call;
use crate::clock::machine_us;
use crate::error::StripeError;
use crate::events::Origin;
use crate::faults::{Fault, Met};
use crate::idempotency::{Saved, Turn};
use crate::ids;
use crate::journal::Record;
use crate::params::Params;
use crate::routes::{customer_of, endpoint_of, route};
use crate::state::State;

const BODY_MAX: usize = 1024 * 1024;

/// Answers, whether or not the caller stays: a call once begun is carried out.
pub(crate) async fn answer(Shared(app): Shared<Arc<App>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, BODY_MAX).await.map_err(|_| StripeError::too_large());
    let stopping = app.stopping.clone();
    let (app, refused) = match addressed(&app, &parts.headers) {
        Ok(addressed) => (addressed, None),
        Err(error) => (app, Some(error)),
    };
    let running = tokio::spawn(async move { stopping.run_until_cancelled(run(app, refused, parts, body)).await });
    match running.await {
        Ok(Some(response)) => response,
        Ok(None) | Err(_) => hang_up(),
    }
}

/// Marks a response that is never sent: the connection closes instead.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HangUp;

fn hang_up() -> Response {
    let mut response = Response::new(Body::empty());
    response.extensions_mut().insert(HangUp);
    response
}

/// What the caller asks for.
struct Asked {
    method: String,
    path: String,
    params: Result<Params, StripeError>,
    key_end: String,
    /// Only a POST's key has an effect.
    key: Option<String>,
    key_as_sent: Option<String>,
    origin: Origin,
    request_id: String,
}

/// What the caller gets.
struct Answer {
    status: u16,
    body: String,
    headers: Vec<(String, String)>,
    /// The id of the first call with this key, if this is its answer again.
    original_request: Option<String>,
}

async fn run(app: Arc<App>, refused: Option<StripeError>, parts: Parts, body: Result<Bytes, StripeError>) -> Response {
    let asked = Asked::new(&parts, body);
    let number = app.change(|state| {
        let call = asked.to_call(state.clock.now_ms());
        state.calls.push(call)
    });
    let expired = app.read(|state| state.settings.expired_keys.clone());
    let authorised = authorise(&parts.headers, &app.secret_keys, &expired).and(refused.map_or(Ok(()), Err));
    let outcome = match authorised.and(asked.params.clone()) {
        Ok(params) => work(&app, &asked, &params, number).await,
        Err(error) => Ok(app.read(|state| Answer::refusal(&error, &asked, state))),
    };
    let Ok(answer) = outcome else { return hang_up() };
    let date = app.change(|state| {
        if let Some(call) = state.calls.get_mut(number) {
            call.status = Some(answer.status);
            call.replayed = answer.original_request.is_some();
        }
        state.clock.now()
    });
    let version = parts.headers.get("stripe-version").cloned().unwrap_or(HeaderValue::from_static(API_VERSION));
    answer.into_response(&asked, version, date)
}

async fn work(app: &Arc<App>, asked: &Asked, params: &Params, number: u64) -> Result<Answer, HangUp> {
    let Asked { method, path, key, .. } = asked;
    let met = app.change(|state| {
        let met = state.faults.meet(method, path);
        if let (Some(met), Some(call)) = (&met, state.calls.get_mut(number)) {
            call.fault = Some(format!("{:?}", met.fault));
        }
        met
    });
    let fault = met.as_ref().map(|met| &met.fault);
    let reached = |met: &Option<Met>| {
        if let Some(met) = met {
            app.change(|state| state.faults.reached(met.id));
        }
    };
    match fault {
        Some(Fault::DropRequest) => {
            reached(&met);
            return Err(HangUp);
        }
        Some(Fault::Status { status, code, param, headers }) => {
            reached(&met);
            let error = StripeError::asked_for(*status, code.as_deref(), param.as_deref(), headers);
            return Ok(app.read(|state| Answer::refusal(&error, asked, state)));
        }
        _ => {}
    }
    let turn = app.change(|state| {
        state.limiter.admit(state.settings.rate_limit, &endpoint_of(method, path), Instant::now())?;
        match key {
            Some(key) => state.keys.begin(key, path, &params.fingerprint(), state.clock.now_ms()),
            None => Ok(Turn::First),
        }
    });
    let answer = match turn {
        Ok(Turn::First) => {
            hold_up(&met, Moment::BeforeWork, &reached).await;
            let answer = app.change(|state| carry_out(state, app, asked, params, fault, number));
            if let Some(Fault::Fail500BeforeWork | Fault::Fail500AfterWork) = fault {
                reached(&met);
            }
            answer
        }
        Ok(Turn::Again(saved)) => {
            app.change(|state| name_customer(state, number, saved.customer.as_deref()));
            Answer::again(*saved)
        }
        Err(error) => app.read(|state| Answer::refusal(&error, asked, state)),
    };
    if fault == Some(&Fault::DropReply) {
        reached(&met);
        return Err(HangUp);
    }
    hold_up(&met, Moment::BeforeReply, &reached).await;
    Ok(answer)
}

/// Where a call can be made to wait.
#[derive(PartialEq, Eq)]
enum Moment {
    BeforeWork,
    BeforeReply,
}

/// Waits, if the fault is one that waits at this moment.
async fn hold_up(met: &Option<Met>, moment: Moment, reached: impl Fn(&Option<Met>)) {
    let Some(Met { fault, release, .. }) = met else { return };
    match fault {
        Fault::DelayMs(pause) if moment == Moment::BeforeWork => {
            reached(met);
            tokio::time::sleep(Duration::from_millis(*pause)).await;
        }
        Fault::DelayReplyMs(pause) if moment == Moment::BeforeReply => {
            reached(met);
            tokio::time::sleep(Duration::from_millis(*pause)).await;
        }
        Fault::Hang if moment == Moment::BeforeWork => {
            reached(met);
            release.cancelled().await;
        }
        Fault::HangReply if moment == Moment::BeforeReply => {
            reached(met);
            release.cancelled().await;
        }
        _ => {}
    }
}

/// The work, and its answer saved for the key, as one.
fn carry_out(
    state: &mut State,
    app: &App,
    asked: &Asked,
    params: &Params,
    fault: Option<&Fault>,
    number: u64,
) -> Answer {
    let Asked { method, path, origin, .. } = asked;
    let mut result = match fault {
        Some(Fault::Fail500BeforeWork) => Err(StripeError::internal()),
        _ => route(state, &app.account, method, path, params, origin),
    };
    let made = result.as_ref().ok().and_then(|object| object.get("id")).and_then(Value::as_str);
    let customer = made.filter(|id| id.starts_with("cus_")).or(customer_of(path)).map(str::to_owned);
    name_customer(state, number, customer.as_deref());
    if fault == Some(&Fault::Fail500AfterWork) {
        result = Err(StripeError::internal());
    }
    let (answer, save) = match result {
        Ok(object) => (Answer::success(&object), true),
        Err(error) => (Answer::refusal(&error, asked, state), error.saved),
    };
    if let Some(key) = &asked.key {
        let saved = save.then(|| Saved {
            path: path.clone(),
            fingerprint: params.fingerprint(),
            at_ms: state.clock.now_ms(),
            request_id: asked.request_id.clone(),
            status: answer.status,
            body: answer.body.clone(),
            customer,
        });
        if let Some(saved) = &saved {
            state.records.push(Record::Key { key: key.clone(), saved: saved.clone() });
        }
        state.keys.finish(key, saved);
    }
    answer
}

fn name_customer(state: &mut State, number: u64, customer: Option<&str>) {
    if let Some(call) = state.calls.get_mut(number) {
        call.customer = customer.map(str::to_owned);
    }
}

/// Whose call it is: of the connected account that it names, or of the account whose key it is.
fn addressed(first: &Arc<App>, headers: &HeaderMap) -> Result<Arc<App>, StripeError> {
    match headers.get("stripe-account").and_then(|value| value.to_str().ok()) {
        Some(named) if named == first.account => Ok(first.clone()),
        Some(named) => {
            let connected = first.others.iter().find(|other| other.connected && other.account == named);
            connected.cloned().ok_or_else(|| StripeError::no_access(named))
        }
        None => {
            let key = key(headers);
            let own = first.others.iter().find(|other| !other.connected && other.secret_keys.contains(&key));
            Ok(own.unwrap_or(first).clone())
        }
    }
}

/// Bearer, or Basic with the key as the user's name.
fn key(headers: &HeaderMap) -> String {
    let header = headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (scheme, credentials) = header.split_once(' ').unwrap_or_default();
    match scheme.to_ascii_lowercase().as_str() {
        "bearer" => credentials.trim().to_owned(),
        "basic" => base64::engine::general_purpose::STANDARD
            .decode(credentials.trim())
            .ok()
            .and_then(|plain| String::from_utf8(plain).ok())
            .and_then(|plain| plain.split(':').next().map(str::to_owned))
            .unwrap_or_default(),
        _ => String::new(),
    }
}

fn authorise(headers: &HeaderMap, accepted: &[String], expired: &[String]) -> Result<(), StripeError> {
    let key = key(headers);
    if key.is_empty() {
        return Err(StripeError::no_key());
    }
    let fits = match accepted {
        [] => key.starts_with("sk_test_") || key.starts_with("rk_test_"),
        accepted => accepted.contains(&key),
    };
    if fits && !expired.contains(&key) { Ok(()) } else { Err(StripeError::wrong_key(&key)) }
}

impl Asked {
    fn new(parts: &Parts, body: Result<Bytes, StripeError>) -> Self {
        let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
        let json = header("content-type").is_some_and(|kind| kind.starts_with("application/json"));
        let params = body.and_then(|body| match json && !body.is_empty() {
            true => Err(StripeError::not_a_form()),
            false => Params::parse(parts.uri.query().unwrap_or_default(), &body),
        });
        let method = parts.method.as_str().to_owned();
        let key_as_sent = header("idempotency-key").map(str::to_owned).filter(|key| !key.is_empty());
        let secret = key(&parts.headers);
        let key = key_as_sent.clone().filter(|_| method == "POST");
        let request_id = ids::request();
        Self {
            key_end: secret.chars().skip(secret.chars().count().saturating_sub(4)).collect(),
            path: parts.uri.path().to_owned(),
            params,
            origin: Origin { request_id: Some(request_id.clone()), idempotency_key: key.clone() },
            key,
            key_as_sent,
            method,
            request_id,
        }
    }

    fn to_call(&self, at_ms: i64) -> Call {
        Call {
            number: 0,
            at_ms,
            received_us: machine_us(),
            method: self.method.clone(),
            path: self.path.clone(),
            params: self.params.as_ref().map(Params::as_sent).unwrap_or_default(),
            key_end: self.key_end.clone(),
            idempotency_key: self.key_as_sent.clone(),
            request_id: self.request_id.clone(),
            status: None,
            replayed: false,
            customer: customer_of(&self.path).map(str::to_owned),
            fault: None,
        }
    }
}

impl Answer {
    fn success(object: &Value) -> Self {
        Self { status: 200, body: pretty(object), headers: Vec::new(), original_request: None }
    }

    fn refusal(error: &StripeError, asked: &Asked, state: &State) -> Self {
        let body = pretty(&error.body(&asked.request_id, state.clock.now()));
        Self { status: error.status, body, headers: error.headers.clone(), original_request: None }
    }

    fn again(saved: Saved) -> Self {
        Self { status: saved.status, body: saved.body, headers: Vec::new(), original_request: Some(saved.request_id) }
    }

    fn into_response(self, asked: &Asked, version: HeaderValue, date: i64) -> Response {
        let mut response = Response::new(Body::from(self.body));
        *response.status_mut() = self.status.try_into().unwrap_or_default();
        let headers = response.headers_mut();
        headers.insert("content-type", HeaderValue::from_static("application/json"));
        headers.insert("stripe-version", version);
        let mut set = |name: &str, value: &str| {
            if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value)) {
                headers.insert(name, value);
            }
        };
        set("request-id", &asked.request_id);
        set("date", &http_date(date));
        if let Some(key) = &asked.key {
            set("idempotency-key", key);
            set("original-request", self.original_request.as_ref().unwrap_or(&asked.request_id));
        }
        if self.original_request.is_some() {
            set("idempotent-replayed", "true");
        }
        for (name, value) in &self.headers {
            set(name, value);
        }
        response
    }
}

/// As Stripe writes it, two spaces deep.
fn pretty(value: &Value) -> String {
    format!("{value:#}")
}

fn http_date(seconds: i64) -> String {
    let date = chrono::DateTime::from_timestamp(seconds, 0).unwrap_or_default();
    date.format("%a, %d %b %Y %H:%M:%S GMT").to_string()
}
