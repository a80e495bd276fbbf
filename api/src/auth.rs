//! Who may ask: whoever has an API key; where none is set, this machine alone.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Uri, header};
use axum::middleware::Next;
use axum::response::Response;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};
use tandem_loopback::is_local;

use crate::app::App;
use crate::problem::Problem;

/// The keys that open the API.
#[derive(Clone, Default)]
pub(crate) struct ApiKeys(Arc<[[u8; 32]]>);

impl ApiKeys {
    pub(crate) fn new(keys: &[SecretString]) -> Self {
        Self(keys.iter().map(|key| digest(key.expose_secret())).collect())
    }

    /// Whether a request is let in.
    ///
    /// # Errors
    /// What it lacks.
    pub(crate) fn admit(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
        if self.0.is_empty() {
            return if is_local(uri, headers) { Ok(()) } else { Err(Problem::not_local()) };
        }
        let sent = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(bearer);
        if sent.is_some_and(|key| self.accept(key)) { Ok(()) } else { Err(Problem::unauthorised()) }
    }

    /// Compares with every key, always: how long it takes tells nothing. Digests have one length.
    fn accept(&self, key: &str) -> bool {
        let sent = digest(key);
        self.0.iter().fold(Choice::from(0), |found, key| found | key.ct_eq(&sent)).into()
    }
}

fn digest(key: &str) -> [u8; 32] {
    Sha256::digest(key.as_bytes()).into()
}

/// Lets a request through that may ask.
pub(crate) async fn guard(State(app): State<App>, request: Request, next: Next) -> Result<Response, Problem> {
    app.keys.admit(request.uri(), request.headers())?;
    Ok(next.run(request).await)
}

/// The scheme's name ignores case.
fn bearer(header: &str) -> Option<&str> {
    let (scheme, key) = header.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_of_the_keys_opens_and_nothing_else_does() {
        let keys = ApiKeys::new(&["one".into(), "two".into()]);
        assert!(keys.accept("one") && keys.accept("two"));
        for wrong in ["", "on", "onee", "One"] {
            assert!(!keys.accept(wrong), "{wrong}");
        }
    }

    #[test]
    fn a_key_is_sent_as_bearer() {
        assert_eq!(bearer("Bearer one"), Some("one"));
        assert_eq!(bearer("bearer one"), Some("one"));
        assert_eq!(bearer("Basic one"), None);
        assert_eq!(bearer("one"), None);
    }
}
