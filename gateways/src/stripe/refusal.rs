//! What it means when Stripe does not answer 200.
//!
//! "Error handling", "Advanced error handling" and "Idempotent requests" say which answers are worth another try.

use std::time::Duration;

use http::{HeaderMap, StatusCode};

use super::form::field_of;
use super::wire::{Complaint, Refused};
use crate::CallError;

/// An answer that is not what was asked for.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    /// `None` if the body is not Stripe's: something on the way answered.
    complaint: Option<Complaint>,
    should_retry: Option<bool>,
    retry_after: Option<Duration>,
    request_id: Option<String>,
    /// Stripe's message, if it repeats nothing of what was sent.
    words: Option<String>,
}

/// More than this, no `Retry-After` holds us up.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(3600);

impl Refusal {
    pub fn read(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Self {
        let refused = std::str::from_utf8(body).ok().and_then(|body| miniserde::json::from_str::<Refused>(body).ok());
        Self {
            status,
            complaint: refused.map(|refused| bounded(refused.error)),
            should_retry: header(headers, "stripe-should-retry").and_then(|value| value.parse().ok()),
            retry_after: header(headers, "retry-after")
                .and_then(|value| value.parse().ok())
                .map(|seconds| Duration::from_secs(seconds).min(LONGEST_RETRY_AFTER)),
            request_id: header(headers, "request-id").map(str::to_owned),
            words: None,
        }
    }

    /// Of a call that sent these values: Stripe's message is told on, if it repeats none of them.
    pub fn of(mut self, sent: &[String]) -> Self {
        let message = self.complaint.as_ref().and_then(|complaint| complaint.message.as_deref());
        self.words = message.filter(|message| !repeats(message, sent)).map(|message| {
            let shown = message.chars().map(|c| if c.is_control() { ' ' } else { c });
            shown.take(LONGEST_MESSAGE).collect()
        });
        self
    }

    /// We call too often, and how long we are asked to wait. A lock on one object is no reason to slow down the others.
    pub fn too_fast(&self) -> Option<Option<Duration>> {
        let limited = self.status == StatusCode::TOO_MANY_REQUESTS && self.code() != Some("lock_timeout");
        limited.then_some(self.retry_after)
    }

    /// What the caller does next.
    pub fn into_error(self, write: bool) -> CallError {
        let reason = self.reason();
        let unavailable = CallError::Unavailable { reason: reason.clone(), retry_after: self.retry_after };
        let spent = |reason| CallError::Failed { reason };
        let spoilt = write && self.should_retry == Some(false);
        let Some(complaint) = &self.complaint else {
            let failed = write && self.status == StatusCode::INTERNAL_SERVER_ERROR;
            return if failed { spent(reason) } else { unavailable };
        };
        match self.status.as_u16() {
            401 | 403 => CallError::Unauthorised { reason: self.in_its_words(complaint) },
            _ if self.should_retry == Some(true) => unavailable,
            // Timeouts, conflicts, limits: nothing was done.
            408 | 409 | 424 | 425 | 429 => unavailable,
            // The answer is saved with the key.
            500 if write => spent(reason),
            500.. if spoilt => spent(reason),
            500.. => unavailable,
            400..=499 if complaint.kind.as_deref() == Some("idempotency_error") => spent(reason),
            404 if self.of_other_mode(complaint) => CallError::Unauthorised { reason: self.in_its_words(complaint) },
            404 if self.code() == Some("resource_missing") => CallError::Missing,
            400..=499 => CallError::Rejected {
                field: complaint.param.as_deref().map(field_of),
                code: complaint.code.clone().or_else(|| complaint.kind.clone()),
                reason: match &self.words {
                    Some(words) => format!("{reason}: {words}"),
                    None => reason,
                },
            },
            _ => unavailable,
        }
    }

    /// "No such customer: 'cus_1'; a similar object exists in live mode, but a test mode key was used". It is there:
    /// taking it for deleted would delete it here.
    fn of_other_mode(&self, complaint: &Complaint) -> bool {
        complaint.message.as_deref().is_some_and(|message| message.contains("similar object exists in"))
    }

    fn code(&self) -> Option<&str> {
        self.complaint.as_ref()?.code.as_deref()
    }

    /// Stripe's messages may repeat what they were sent, so they stay out; the Dashboard shows them by the request's id.
    fn reason(&self) -> String {
        let mut reason = format!("Stripe answered {}", self.status.as_u16());
        match &self.complaint {
            None => reason = format!("{} came in answer, but not from Stripe", self.status.as_u16()),
            Some(Complaint { kind, code, param, .. }) => {
                if let Some(code) = code.as_ref().or(kind.as_ref()) {
                    reason += &format!(", {code}");
                }
                if let Some(param) = param {
                    reason += &format!(" of {param}");
                }
            }
        }
        if let Some(id) = &self.request_id {
            reason += &format!(" (request {id})");
        }
        reason
    }

    /// Of a key that is not accepted, which Stripe masks itself.
    fn in_its_words(&self, complaint: &Complaint) -> String {
        match &complaint.message {
            Some(message) => format!("{}: {message}", self.reason()),
            None => self.reason(),
        }
    }
}

/// Of what it says as much as is stored: PostgreSQL cannot keep a NUL character, nor an index a long text.
fn bounded(complaint: Complaint) -> Complaint {
    let cut = |text: String| text.chars().filter(|c| *c != '\0').take(500).collect();
    let Complaint { kind, code, param, message } = complaint;
    Complaint { kind: kind.map(cut), code: code.map(cut), param: param.map(cut), message: message.map(cut) }
}

/// No message of Stripe's is longer.
const LONGEST_MESSAGE: usize = 300;

/// Whether a message may hold a part of a value: the value, one of its words, or what a shortened one begins or ends with.
fn repeats(message: &str, sent: &[String]) -> bool {
    let message = message.to_lowercase();
    let said: Vec<&str> = words(&message).collect();
    let is_part = |word: &str| {
        let cut = |said: &&str| said.chars().count() > 2 && (word.starts_with(*said) || word.ends_with(*said));
        said.iter().any(|said| *said == word || cut(said))
    };
    sent.iter().map(|value| value.to_lowercase()).any(|value| {
        let is_long = value.trim().chars().count() > 2;
        is_long && message.contains(value.trim()) || words(&value).any(is_part)
    })
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty())
}

/// The text of a header.
pub(super) fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};
    use serde_json::{Value, json};

    use super::*;

    fn refusal(status: u16, headers: &[(&'static str, &'static str)], body: &str) -> Refusal {
        let headers = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        Refusal::read(StatusCode::from_u16(status).unwrap(), &headers, body.as_bytes())
    }

    /// What a write's refusal comes to, in a word.
    fn outcome(status: u16, headers: &[(&'static str, &'static str)], error: Value, write: bool) -> &'static str {
        match refusal(status, headers, &json!({ "error": error }).to_string()).into_error(write) {
            CallError::Unavailable { .. } => "unavailable",
            CallError::Failed { .. } => "failed",
            CallError::Rejected { .. } => "rejected",
            CallError::Missing => "missing",
            CallError::Unauthorised { .. } => "unauthorised",
        }
    }

    #[test]
    fn each_refusal_has_its_consequence() {
        const AGAIN: (&str, &str) = ("stripe-should-retry", "true");
        const NEVER: (&str, &str) = ("stripe-should-retry", "false");
        let invalid = json!({ "type": "invalid_request_error" });
        let missing = json!({ "type": "invalid_request_error", "code": "resource_missing", "param": "id" });
        let key = json!({ "type": "idempotency_error" });
        let api = json!({ "type": "api_error" });
        for (status, headers, error, write, read) in [
            (400, &[][..], &invalid, "rejected", "rejected"),
            (400, &[AGAIN][..], &invalid, "unavailable", "unavailable"),
            (400, &[], &key, "failed", "failed"),
            (400, &[], &missing, "rejected", "rejected"),
            (401, &[], &invalid, "unauthorised", "unauthorised"),
            (402, &[], &invalid, "rejected", "rejected"),
            (403, &[], &invalid, "unauthorised", "unauthorised"),
            (404, &[], &missing, "missing", "missing"),
            (404, &[], &invalid, "rejected", "rejected"),
            (409, &[NEVER][..], &invalid, "unavailable", "unavailable"),
            (429, &[], &invalid, "unavailable", "unavailable"),
            (500, &[], &api, "failed", "unavailable"),
            (500, &[AGAIN], &api, "unavailable", "unavailable"),
            (502, &[], &api, "unavailable", "unavailable"),
            (503, &[NEVER], &api, "failed", "unavailable"),
            (301, &[], &invalid, "unavailable", "unavailable"),
        ] {
            assert_eq!(outcome(status, headers, error.clone(), true), write, "write {status} {headers:?} {error}");
            assert_eq!(outcome(status, headers, error.clone(), false), read, "read {status} {headers:?} {error}");
        }
    }

    #[test]
    fn a_page_of_something_on_the_way_decides_nothing() {
        for status in [200, 301, 400, 401, 403, 404, 407, 502] {
            let error = refusal(status, &[], "<html>Sign in to the Wi-Fi</html>").into_error(true);
            assert!(matches!(error, CallError::Unavailable { .. }), "{status}: {error}");
        }
    }

    #[test]
    fn a_customer_of_the_other_mode_is_not_missing() {
        let message = "No such customer: 'cus_1'; a similar object exists in live mode, but a test mode key was used.";
        let error = json!({ "code": "resource_missing", "param": "id", "message": message });
        assert_eq!(outcome(404, &[], error, false), "unauthorised");
    }

    #[test]
    fn a_rejection_names_the_field_and_never_the_value() {
        let body = json!({ "error": {
            "type": "invalid_request_error", "code": "email_invalid", "param": "email",
            "message": "Invalid email address: ada@"
        } });
        let error = refusal(400, &[("request-id", "req_1")], &body.to_string()).into_error(true);
        let CallError::Rejected { field, code, reason } = error else { panic!("{error}") };
        assert_eq!((field.as_deref(), code.as_deref()), (Some("email"), Some("email_invalid")));
        assert_eq!(reason, "Stripe answered 400, email_invalid of email (request req_1)");
    }

    #[test]
    fn a_rejection_says_stripes_words_if_they_hold_nothing_of_what_was_sent() {
        let told = |message: &str, sent: &[&str]| {
            let body = json!({ "error": { "code": "odd", "param": "metadata", "message": message } }).to_string();
            let sent: Vec<String> = sent.iter().map(|value| (*value).to_owned()).collect();
            let CallError::Rejected { reason, .. } = refusal(400, &[], &body).of(&sent).into_error(true) else {
                panic!("{message}")
            };
            reason
        };
        let limit = "Metadata can have up to 50 keys, but this would be 51 keys.";
        assert_eq!(
            told(limit, &["pro", "1", "Ada Lovelace"]),
            format!("Stripe answered 400, odd of metadata: {limit}")
        );
        for (message, sent) in [
            ("Invalid string: abcdefghij...qrstuvwxyz; must be at most 20", "abcdefghijklmnopqrstuvwxyz"),
            ("Invalid email address: ADA@old", "ada@old.example"),
            ("Invalid value: Lovel...", "Ada Lovelace"),
            ("Invalid value: 7", "7"),
            ("Invalid value: Ж", "Ж"),
            ("Invalid value: ???", "???"),
        ] {
            assert_eq!(told(message, &[sent]), "Stripe answered 400, odd of metadata", "{message}");
        }
        assert!(told("a\u{1b}[31mb", &[]).ends_with(": a [31mb"));
    }

    #[test]
    fn only_a_rate_limit_slows_down_other_calls() {
        let limit = json!({ "error": { "code": "rate_limit" } }).to_string();
        let lock = json!({ "error": { "code": "lock_timeout" } }).to_string();
        assert_eq!(refusal(429, &[], &limit).too_fast(), Some(None));
        assert_eq!(refusal(429, &[("retry-after", "3")], &limit).too_fast(), Some(Some(Duration::from_secs(3))));
        assert_eq!(refusal(429, &[], &lock).too_fast(), None);
        assert_eq!(refusal(503, &[("retry-after", "3")], &limit).too_fast(), None);
    }

    #[test]
    fn an_absurd_retry_after_is_cut_short() {
        let error = refusal(503, &[("retry-after", "18446744073709551615")], "{}").into_error(true);
        let CallError::Unavailable { retry_after, .. } = error else { panic!("{error}") };
        assert_eq!(retry_after, Some(LONGEST_RETRY_AFTER));
    }
}
