//! What comes with a command: its key, the version it expects, where it came from.

use std::collections::HashMap;

/// What comes with a command. Start with [`Context::from_origin`] and set what is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Context {
    /// Makes the command happen once, however often it is sent.
    pub key: Option<CommandKey>,
    /// Refuses the command if the aggregate is at another version; 0 means that it must not exist yet.
    pub expected_version: Option<u64>,
    /// Who asked: `api`, `stripe`.
    pub origin: String,
    /// What all events of one story share.
    pub correlation_id: Option<String>,
    /// What this change follows from: of a change from Stripe, its event id.
    pub causation_id: Option<String>,
    /// The W3C trace that the command belongs to.
    pub traceparent: Option<String>,
}

/// A client's idempotency key. Keys are unique in the whole database: scope them before, if several clients share it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandKey {
    /// The key as the client sent it.
    pub key: String,
    /// A hash of the request: the same key with another fingerprint is refused.
    pub fingerprint: Vec<u8>,
}

impl Context {
    /// A command from there, with nothing else known.
    pub fn from_origin(origin: impl Into<String>) -> Self {
        Self { origin: origin.into(), ..Self::default() }
    }

    /// With an idempotency key.
    pub fn key(mut self, key: impl Into<String>, fingerprint: impl Into<Vec<u8>>) -> Self {
        self.key = Some(CommandKey { key: key.into(), fingerprint: fingerprint.into() });
        self
    }

    /// Only if the aggregate is at this version.
    pub fn expecting(mut self, version: u64) -> Self {
        self.expected_version = Some(version);
        self
    }

    /// As part of that story.
    pub fn correlation(mut self, id: impl Into<String>) -> Self {
        self.correlation_id = Some(id.into());
        self
    }

    /// Following from that.
    pub fn causation(mut self, id: impl Into<String>) -> Self {
        self.causation_id = Some(id.into());
        self
    }

    /// As part of that trace.
    pub fn trace(mut self, traceparent: impl Into<String>) -> Self {
        self.traceparent = Some(traceparent.into());
        self
    }

    /// What is stored beside each event.
    pub(crate) fn metadata(&self) -> HashMap<String, String> {
        let mut metadata = HashMap::from([("origin".to_owned(), self.origin.clone())]);
        for (name, value) in [
            ("correlation_id", &self.correlation_id),
            ("causation_id", &self.causation_id),
            ("traceparent", &self.traceparent),
        ] {
            if let Some(value) = value {
                metadata.insert(name.to_owned(), value.clone());
            }
        }
        metadata
    }
}
