//! Every answer that is not a success: the only place that chooses status codes for errors (RFC 9457).

mod causes;
mod documented;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::log::chain;

pub(crate) use documented::{Admission, Common, OfBody, OfCustomer, OfPrecondition, OfQuery};

/// How long a client should wait before it asks again, in seconds.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

/// What kind of problem it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Malformed,
    WebhookRefused,
    Unauthorised,
    NotLocal,
    NotFound,
    MethodNotAllowed,
    BodyTimeout,
    Deleted,
    Decided,
    NotDecidable,
    VersionMismatch,
    NotLinkable,
    TooLarge,
    MediaType,
    Invalid,
    KeyReused,
    Internal,
    Busy,
    Unavailable,
    Behind,
}

impl Kind {
    /// Status, the last part of `type`, and the title.
    fn described(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::Malformed => (StatusCode::BAD_REQUEST, "malformed", "The body cannot be read"),
            Self::WebhookRefused => (StatusCode::BAD_REQUEST, "webhook-refused", "The webhook was not taken"),
            Self::Unauthorised => (StatusCode::UNAUTHORIZED, "unauthorised", "An API key is needed"),
            Self::NotLocal => (StatusCode::FORBIDDEN, "not-local", "Without API keys only this machine may ask"),
            Self::NotFound => (StatusCode::NOT_FOUND, "not-found", "There is no such thing"),
            Self::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "Not this method"),
            Self::BodyTimeout => (StatusCode::REQUEST_TIMEOUT, "body-timeout", "The body did not come"),
            Self::Deleted => (StatusCode::GONE, "deleted", "The customer is deleted"),
            Self::Decided => (StatusCode::CONFLICT, "decided", "The conflict is decided already"),
            Self::NotDecidable => (StatusCode::CONFLICT, "not-decidable", "That cannot be said of it"),
            Self::VersionMismatch => {
                (StatusCode::PRECONDITION_FAILED, "version-mismatch", "The customer is at another version")
            }
            Self::NotLinkable => (StatusCode::CONFLICT, "not-linkable", "The two cannot be linked"),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "too-large", "The body is too large"),
            Self::MediaType => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "media-type", "The body is of another media type"),
            Self::Invalid => (StatusCode::UNPROCESSABLE_ENTITY, "invalid", "The request breaks a rule"),
            Self::KeyReused => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "idempotency-key-reused",
                "The idempotency key was used for another request",
            ),
            Self::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "internal", "Something is wrong here"),
            Self::Busy => (StatusCode::SERVICE_UNAVAILABLE, "busy", "Others change the customer at the same time"),
            Self::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "unavailable", "The service is unavailable"),
            Self::Behind => (StatusCode::SERVICE_UNAVAILABLE, "behind", "The read model has not come so far"),
        }
    }
}

/// An answer that is not a success. It never holds customers' data, SQL, or how the program is built.
#[derive(Debug)]
pub(crate) struct Problem {
    kind: Kind,
    detail: String,
    errors: Vec<FieldError>,
}

/// A problem as it is written (RFC 9457, `application/problem+json`).
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct ProblemBody {
    /// Which problem it is, for programs: `urn:tandem:problem:` and a word.
    #[schema(example = "urn:tandem:problem:invalid")]
    r#type: String,
    /// The same for people.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// What happened this time.
    detail: String,
    /// What is wrong with which field.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    errors: Vec<FieldError>,
}

/// What is wrong with one field, query parameter, header, or part of the path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct FieldError {
    /// Its name, such as `email`, `address.country`, `metadata.plan` or `limit`.
    pub field: String,
    /// What is wrong, without its value.
    pub message: String,
}

impl Problem {
    fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), errors: vec![] }
    }

    pub(crate) fn malformed(detail: impl Into<String>) -> Self {
        Self::new(Kind::Malformed, detail)
    }

    pub(crate) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(Kind::NotFound, detail)
    }

    /// This part of the path cannot be read.
    pub(crate) fn names_nothing(part: impl Into<String>) -> Self {
        Self { kind: Kind::NotFound, ..Self::invalid(part, "cannot be read, and so names nothing") }
    }

    /// A later version of Tandem opened a conflict about it.
    pub(crate) fn later_field(field: &str) -> Self {
        let detail =
            format!("this version of Tandem does not know the field {field}: decide with the version that found it");
        Self::new(Kind::NotDecidable, detail)
    }

    pub(crate) fn no_customer() -> Self {
        Self::not_found("there is no customer with this id")
    }

    pub(crate) fn deleted() -> Self {
        Self::new(Kind::Deleted, "the customer was deleted, for ever")
    }

    pub(crate) fn method_not_allowed() -> Self {
        Self::new(Kind::MethodNotAllowed, "the header Allow names the methods of this path")
    }

    pub(crate) fn body_timeout() -> Self {
        Self::new(Kind::BodyTimeout, "the body did not arrive in time")
    }

    pub(crate) fn unauthorised() -> Self {
        Self::new(Kind::Unauthorised, "send one of the service's API keys as Authorization: Bearer <key>")
    }

    pub(crate) fn not_local() -> Self {
        Self::new(
            Kind::NotLocal,
            "no API keys are set: Host must be a loopback address or localhost, and so must Origin, if it is there. To \
             be asked through a proxy, through a tunnel or by another name, set TANDEM_API_KEYS",
        )
    }

    pub(crate) fn version_mismatch() -> Self {
        Self::new(Kind::VersionMismatch, "no version in If-Match is the customer's: read it again and decide anew")
    }

    pub(crate) fn too_large(limit: usize) -> Self {
        Self::new(Kind::TooLarge, format!("the body has more than {} KiB", limit / 1024))
    }

    pub(crate) fn media_type(expected: &str) -> Self {
        Self::new(Kind::MediaType, format!("Content-Type must be {expected}"))
    }

    fn key_reused() -> Self {
        Self::new(Kind::KeyReused, "a repeat must be the same request to the byte; another needs a key of its own")
    }

    pub(crate) fn busy() -> Self {
        Self::new(Kind::Busy, "others changed the customer at the same time, again and again: try again")
    }

    pub(crate) fn behind() -> Self {
        Self::new(Kind::Behind, "the read model has not reached this version in time: ask again")
    }

    pub(crate) fn starting() -> Self {
        Self::new(Kind::Unavailable, "the service is starting; /readyz says what it waits for")
    }

    /// There are as many large bodies on their way as there may be.
    pub(crate) fn too_many_bodies() -> Self {
        Self::new(Kind::Unavailable, "too many large bodies are on their way at once: try again")
    }

    /// There are as many connections as there may be.
    pub(crate) fn full() -> Self {
        Self::new(
            Kind::Unavailable,
            "as many connections are open as TANDEM_HTTP__MAX_CONNECTIONS and the limit of open files let there be: try again",
        )
    }

    /// One field, parameter or header is wrong.
    pub(crate) fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::all_invalid(vec![FieldError { field: field.into(), message: message.into() }])
    }

    /// These are wrong.
    pub(crate) fn all_invalid(errors: Vec<FieldError>) -> Self {
        let told: Vec<String> = errors.iter().map(|error| format!("{}: {}", error.field, error.message)).collect();
        Self { kind: Kind::Invalid, detail: told.join("; "), errors }
    }

    /// A defect of ours: the log says which, the client does not hear it.
    pub(crate) fn internal(error: &(dyn std::error::Error + 'static)) -> Self {
        tracing::error!(error = %chain(error), "a request met a defect");
        Self::defect()
    }

    /// A defect that has been logged.
    pub(crate) fn defect() -> Self {
        Self::new(Kind::Internal, "the error is in the log, under this request's x-request-id")
    }

    fn unavailable(error: &(dyn std::error::Error + 'static)) -> Self {
        tracing::warn!(error = %chain(error), "a request met an unavailable database");
        Self::new(Kind::Unavailable, "the database is unavailable: try again")
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, word, title) = self.kind.described();
        let body = ProblemBody {
            r#type: format!("urn:tandem:problem:{word}"),
            title,
            status: status.as_u16(),
            detail: self.detail,
            errors: self.errors,
        };
        let mut response = (status, Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, RETRY_AFTER);
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
