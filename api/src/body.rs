//! Reading a request strictly: its body, its query, its path.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{FromRequestParts, MatchedPath, Path, RawQuery};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use bytes::BytesMut;
use http_body_util::BodyExt;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use tandem_domain::CustomerId;
use tokio::sync::Semaphore;

use crate::problem::Problem;

/// Most bytes of a JSON body.
pub(crate) const JSON_LIMIT: usize = 64 * 1024;

/// So many bytes of a body are read from every connection.
const SMALL: usize = 16 * 1024;

/// And so many more of all larger bodies together that are on their way: nobody has shown yet who sends them.
const ON_THEIR_WAY: usize = 64 * 1024 * 1024;

/// How bodies are read: in what time, and with how much memory for those that are on their way. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Bodies {
    patience: Duration,
    room: Arc<Semaphore>,
}

impl Bodies {
    /// Longest time for a body to arrive.
    pub(crate) fn new(patience: Duration) -> Self {
        Self { patience, room: Arc::new(Semaphore::new(ON_THEIR_WAY)) }
    }

    /// A body whole, or the reason why not.
    pub(crate) async fn read(&self, body: Body, limit: usize) -> Result<Bytes, Problem> {
        let reading = tokio::time::timeout(self.patience, self.collect(body, limit));
        reading.await.map_err(|_| Problem::body_timeout())?
    }

    async fn collect(&self, mut body: Body, limit: usize) -> Result<Bytes, Problem> {
        if body.size_hint().lower() > limit as u64 {
            return Err(Problem::too_large(limit));
        }
        // What is held is given back when the body is here, or is given up.
        let (mut bytes, mut room, mut held) = (BytesMut::new(), SMALL, vec![]);
        while let Some(frame) = body.frame().await {
            let Ok(more) = frame.map_err(|_| Problem::malformed("the body broke off"))?.into_data() else { continue };
            let length = bytes.len() + more.len();
            if length > limit {
                return Err(Problem::too_large(limit));
            }
            if length > room {
                // As much again as there is: a few steps for the largest.
                let step = (length - room).max(room).min(limit);
                let step = u32::try_from(step).unwrap_or(u32::MAX);
                held.push(self.room.try_acquire_many(step).map_err(|_| Problem::too_many_bodies())?);
                room += step as usize;
            }
            bytes.extend_from_slice(&more);
        }
        Ok(bytes.freeze())
    }
}

/// A JSON body of one of these media types.
pub(crate) fn json<T: DeserializeOwned>(headers: &HeaderMap, bytes: &[u8], media: &[&str]) -> Result<T, Problem> {
    let sent = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let sent = sent.split(';').next().unwrap_or_default().trim();
    if !media.iter().any(|media| sent.eq_ignore_ascii_case(media)) {
        return Err(Problem::media_type(&media.join(" or ")));
    }
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let Object(body) = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.into_inner();
        match inner.classify() {
            serde_json::error::Category::Data => wrong(&path, &inner.to_string(), "body"),
            _ => Problem::malformed(format!("not JSON at line {} column {}", inner.line(), inner.column())),
        }
    })?;
    json.end().map_err(|_| Problem::malformed("something follows the JSON value"))?;
    Ok(body)
}

/// Read from a JSON object only: serde takes an array for a struct, too, field by field.
#[derive(Debug)]
pub(crate) struct Object<T>(pub(crate) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OfMap<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for OfMap<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }

        deserializer.deserialize_map(OfMap(PhantomData))
    }
}

/// Query parameters. Unknown and unreadable ones are named.
pub(crate) struct Query<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        // It cannot fail: its rejection is Infallible.
        let Ok(RawQuery(query)) = RawQuery::from_request_parts(parts, state).await;
        let pairs = url::form_urlencoded::parse(query.as_deref().unwrap_or_default().as_bytes());
        serde_path_to_error::deserialize(serde_urlencoded::Deserializer::new(pairs)).map(Self).map_err(|error| {
            let path = error.path().to_string();
            wrong(&path, &error.into_inner().to_string(), "query")
        })
    }
}

/// The customer that a path names. An id that is no UUID is nobody's.
pub(crate) struct CustomerPath(pub(crate) CustomerId);

impl<S: Send + Sync> FromRequestParts<S> for CustomerPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path: Result<Path<String>, _> = Path::from_request_parts(parts, state).await;
        let Path(id) = path.map_err(|_| Problem::no_customer())?;
        id.parse().map(Self).map_err(|_| Problem::no_customer())
    }
}

/// What else a path names, as its template calls it. What cannot be read names nothing.
pub(crate) struct Named<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Named<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let template = parts.extensions.get::<MatchedPath>().map(|path| path.as_str().to_owned());
        let path: Result<Path<T>, _> = Path::from_request_parts(parts, state).await;
        let Path(named) = path.map_err(|_| {
            let name = template.as_deref().and_then(|path| path.split(['{', '}']).nth(1));
            Problem::names_nothing(name.unwrap_or("path"))
        })?;
        Ok(Self(named))
    }
}

/// Names what is wrong, from serde's message. Its words quote what was sent: only what it expected is told.
fn wrong(path: &str, message: &str, whole: &str) -> Problem {
    let message = message.rsplit_once(" at line ").map_or(message, |(message, _)| message);
    let quoted = || message.split('`').nth(1).unwrap_or_default();
    let inside = |name: &str| match path {
        "." | "?" | "" => name.to_owned(),
        path if path == name || path.ends_with(&format!(".{name}")) => path.to_owned(),
        path => format!("{path}.{name}"),
    };
    if message.starts_with("unknown field") {
        let known = message.split_once(", expected ").map(|(_, known)| format!(": expected {known}"));
        return Problem::invalid(inside(quoted()), format!("is not known{}", known.unwrap_or_default()));
    }
    if message.starts_with("missing field") {
        return Problem::invalid(inside(quoted()), "is required");
    }
    if message.starts_with("duplicate field") {
        return Problem::invalid(inside(quoted()), "is there twice");
    }
    let field = if matches!(path, "." | "?" | "") { whole } else { path };
    match message.rsplit_once("expected ") {
        Some((_, expected)) => Problem::invalid(field, format!("must be {expected}")),
        None => Problem::invalid(field, "cannot be read"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use axum::response::IntoResponse;
    use serde::Deserialize;

    use super::*;

    /// A body of which so much comes, and then nothing.
    fn unending(bytes: usize) -> Body {
        let first = futures::stream::once(async move { Ok::<_, std::io::Error>(vec![b'x'; bytes]) });
        Body::from_stream(futures::StreamExt::chain(first, futures::stream::pending()))
    }

    /// Fails where each connection may keep as much as the largest body has.
    #[tokio::test]
    async fn large_bodies_share_what_memory_there_is_for_them() {
        let bodies = Bodies { patience: Duration::from_secs(3600), room: Arc::new(Semaphore::new(200_000)) };
        let limit = 256 * 1024;
        let waiting = bodies.clone();
        let first = tokio::spawn(async move { waiting.read(unending(150_000), limit).await });
        while bodies.room.available_permits() > 100_000 {
            tokio::task::yield_now().await;
        }

        assert_eq!(length(&bodies, unending(150_000), limit).await, Err(503));
        assert_eq!(length(&bodies, Body::from(vec![b'x'; SMALL]), limit).await, Ok(SMALL));

        first.abort();
        assert!(first.await.is_err_and(|ended| ended.is_cancelled()));
        assert_eq!(length(&bodies, Body::from(vec![b'x'; 150_000]), limit).await, Ok(150_000));
        assert_eq!(length(&bodies, Body::from(vec![b'x'; limit + 1]), limit).await, Err(413));
    }

    /// Of a body that was read, or the status that it was refused with.
    async fn length(bodies: &Bodies, body: Body, limit: usize) -> Result<usize, u16> {
        let read = bodies.read(body, limit).await;
        read.map(|bytes| bytes.len()).map_err(|problem| problem.into_response().status().as_u16())
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only reading is tested")]
    struct Sample {
        name: String,
        inner: Option<Object<Inner>>,
        map: Option<BTreeMap<String, String>>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only reading is tested")]
    struct Inner {
        line1: Option<String>,
    }

    fn read(body: &str) -> (u16, String) {
        let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, "application/json".parse().unwrap())]);
        match json::<Sample>(&headers, body.as_bytes(), &["application/json"]) {
            Ok(_) => (200, String::new()),
            Err(problem) => {
                let told = format!("{problem:?}");
                (problem.into_response().status().as_u16(), told)
            }
        }
    }

    #[test]
    fn what_is_wrong_is_named_and_never_quoted() {
        for (body, status, told) in [
            (r#"{"name":"x"}"#, 200, ""),
            (r#"{"name":"#, 400, "not JSON"),
            (r#"{"name":"x"} y"#, 400, "follows"),
            (r#"{"name":4711}"#, 422, "field: \"name\", message: \"must be a string\""),
            (r#"{"name":"x","secret":1}"#, 422, "field: \"secret\", message: \"is not known"),
            (r#"{"name":"x","inner":{"secret":1}}"#, 422, "field: \"inner.secret\", message: \"is not known"),
            (r#"{"name":"x","inner":{"line1":4711}}"#, 422, "field: \"inner.line1\""),
            (r#"{"name":"x","map":{"plan":4711}}"#, 422, "field: \"map.plan\", message: \"must be a string\""),
            (r#"{"name":"x","inner":"4711"}"#, 422, "field: \"inner\", message: \"must be an object\""),
            (r#"{"name":"x","inner":["4711"]}"#, 422, "field: \"inner\", message: \"must be an object\""),
            (r#"["4711"]"#, 422, "field: \"body\", message: \"must be an object\""),
            (r#"{"name":"x","name":"y"}"#, 422, "field: \"name\", message: \"is there twice\""),
            ("{}", 422, "field: \"name\", message: \"is required\""),
        ] {
            let (found, problem) = read(body);
            assert_eq!(found, status, "{body}: {problem}");
            assert!(problem.contains(told), "{body}: {problem}");
            assert!(!problem.contains("4711"), "{body}: {problem}");
        }
    }
}
