//! A write as it was asked for: its body, its idempotency key, its precondition, its trace.

use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, Method};
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use tandem_eventlog::Context;
use utoipa::IntoParams;

use crate::app::App;
use crate::body::{self, JSON_LIMIT};
use crate::precondition::IfMatch;
use crate::problem::Problem;
use crate::request::RequestId;

/// Makes a write happen once, however often it is sent.
const KEY: &str = "idempotency-key";

/// A write as it was asked for.
pub(crate) struct Write<T> {
    pub(crate) body: T,
    pub(crate) context: Context,
    pub(crate) if_match: IfMatch,
}

/// The header by which a write happens once, as the document tells of it.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "described for the API's document; Write reads the header")]
pub(crate) struct OnceHeader {
    /// Makes the request happen once, however often it is sent
    #[param(rename = "Idempotency-Key")]
    key: Option<String>,
}

/// The header of a write's precondition, as the document tells of it.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "described for the API's document; Write reads the header")]
pub(crate) struct IfMatchHeader {
    /// Only if the customer is at one of these versions, as its ETag told them
    #[param(rename = "If-Match")]
    versions: Option<String>,
}

/// What a write says, beside its path and its headers.
pub(crate) trait WriteBody: Sized {
    fn read(headers: &HeaderMap, bytes: &[u8]) -> Result<Self, Problem>;
}

/// Nothing; what is sent anyway is not looked at.
pub(crate) struct NoBody;

impl WriteBody for NoBody {
    fn read(_: &HeaderMap, _: &[u8]) -> Result<Self, Problem> {
        Ok(Self)
    }
}

/// Bodies that are plain JSON.
pub(crate) trait JsonBody: DeserializeOwned {
    /// The media types that it may be sent as.
    const MEDIA: &[&str] = &["application/json"];
}

impl<T: JsonBody> WriteBody for T {
    fn read(headers: &HeaderMap, bytes: &[u8]) -> Result<Self, Problem> {
        body::json(headers, bytes, T::MEDIA)
    }
}

/// Plain JSON that may be left out.
pub(crate) struct Optional<T>(pub(crate) T);

impl<T: JsonBody + Default> WriteBody for Optional<T> {
    fn read(headers: &HeaderMap, bytes: &[u8]) -> Result<Self, Problem> {
        if bytes.is_empty() { Ok(Self(T::default())) } else { T::read(headers, bytes).map(Self) }
    }
}

impl<T: WriteBody> FromRequest<App> for Write<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        let mut context = Context::from_origin("api");
        if let Some(RequestId(id)) = parts.extensions.get() {
            context = context.correlation(id.clone());
        }
        if let Some(trace) = traceparent(&parts.headers) {
            context = context.trace(trace);
        }
        let if_match = IfMatch::read(&parts.headers)?;
        let key = key(&parts.headers)?;
        let bytes = app.bodies.read(body, JSON_LIMIT).await?;
        if let Some(key) = key {
            context = context.key(key, fingerprint(&parts.method, parts.uri.path(), &bytes));
        }
        let body = T::read(&parts.headers, &bytes)?;
        Ok(Self { body, context, if_match })
    }
}

/// Tells two requests with one key apart.
fn fingerprint(method: &Method, path: &str, body: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in [method.as_str().as_bytes(), path.as_bytes()] {
        hash.update(part);
        // In neither of the two.
        hash.update([0]);
    }
    hash.update(body);
    hash.finalize().into()
}

fn key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut sent = headers.get_all(KEY).iter();
    let Some(key) = sent.next() else { return Ok(None) };
    let wrong = || Problem::invalid("Idempotency-Key", "must be there once, with 1 to 255 printable ASCII characters");
    let key = key.to_str().map_err(|_| wrong())?;
    let fits = (1..=255).contains(&key.len()) && key.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    if fits && sent.next().is_none() { Ok(Some(key.to_owned())) } else { Err(wrong()) }
}

/// The W3C trace that the request belongs to, if it names one that can be read.
fn traceparent(headers: &HeaderMap) -> Option<String> {
    let value = headers.get("traceparent")?.to_str().ok()?;
    let mut parts = value.split('-');
    let mut hex = |length: usize| {
        let part = parts.next()?;
        let fits = part.len() == length && part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        fits.then_some(part)
    };
    let version = hex(2)?;
    let (trace, parent) = (hex(32)?, hex(16)?);
    hex(2)?;
    let real = |id: &str| id.bytes().any(|byte| byte != b'0');
    // Later versions may add parts; this one may not.
    let whole = parts.next().is_none() || version != "00";
    (version != "ff" && real(trace) && real(parent) && whole && value.len() <= 255).then(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())])
    }

    #[test]
    fn a_key_has_1_to_255_printable_characters() {
        assert_eq!(key(&HeaderMap::new()).unwrap(), None);
        assert_eq!(key(&headers(KEY, "a b-1")).unwrap().as_deref(), Some("a b-1"));
        assert_eq!(key(&headers(KEY, &"k".repeat(255))).unwrap().map(|key| key.len()), Some(255));
        for bad in ["", &"k".repeat(256), "tab\tkey", "ké"] {
            assert!(key(&headers(KEY, bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn method_path_and_body_make_the_fingerprint() {
        let of = |method, path, body: &str| fingerprint(&method, path, body.as_bytes());
        let one = of(Method::POST, "/customers", "{}");
        assert_eq!(one, of(Method::POST, "/customers", "{}"));
        assert_ne!(one, of(Method::PUT, "/customers", "{}"));
        assert_ne!(one, of(Method::POST, "/customer", "s{}"));
        assert_ne!(one, of(Method::POST, "/customers", "{ }"));
    }

    #[test]
    fn only_a_whole_traceparent_is_passed_on() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(traceparent(&headers("traceparent", good)).as_deref(), Some(good));
        for bad in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
        ] {
            assert_eq!(traceparent(&headers("traceparent", bad)), None, "{bad}");
        }
    }
}
