//! What a gateway is: another system that holds copies of customers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use http::HeaderMap;
use serde::{Deserialize, Serialize};
use tandem_domain::{CustomerId, Field, GatewayName, Interval, Patch, Profile, RemoteId, Value};

use crate::{Foreign, Pace, Untold};

/// A system that holds copies of customers. The reconciler drives all of them by the same steps; a gateway only
/// speaks its vendor's language. It paces its calls and bounds each with a timeout, and never repeats one by itself.
#[async_trait]
pub trait Gateway: Send + Sync + 'static {
    /// Its name in paths, tables and events.
    fn name(&self) -> &GatewayName;

    /// The same, for calls that nobody waits for: they leave a quarter of the pace to the others.
    fn in_bulk(&self) -> Arc<dyn Gateway>;

    /// How it paces its calls, if the account has a pace.
    fn pace(&self) -> Option<&dyn Pace>;

    /// The longest that one call may take, waiting for its turn included. Leases are longer.
    fn call_timeout(&self) -> Duration;

    /// The bytes that ask for this write of an object that was last seen to hold that. Frozen: the same body goes with the same
    /// key, however often it is sent.
    fn freeze(&self, write: &Write, held: &Profile) -> String;

    /// Asks for a write.
    ///
    /// # Errors
    /// [`CallError`] says what to do next.
    async fn send(&self, call: &Call<'_>) -> Result<Reply, CallError>;

    /// Looks at one object. A deleted one is [`Object::Gone`], not an error.
    ///
    /// # Errors
    /// [`CallError::Unavailable`], [`CallError::Unauthorised`], or [`CallError::Missing`]: the gateway never heard of it.
    async fn retrieve(&self, remote_id: &RemoteId) -> Result<Seen, CallError>;

    /// One page of what changed there since `since` (the gateway's time), newest first, of one object or of all: the first
    /// page, or the one after that cursor. What changes meanwhile makes no other appear twice or be left out. A page may be
    /// empty, and others follow.
    ///
    /// # Errors
    /// [`CallError::Unavailable`] or [`CallError::Unauthorised`].
    async fn changes(
        &self,
        since: DateTime<Utc>,
        of: Option<&RemoteId>,
        after: Option<&str>,
    ) -> Result<Changes, CallError>;

    /// Living objects that were created for this customer of ours, not before `since` (the gateway's time). Reads what
    /// was written a moment ago: a list, never a search index.
    ///
    /// # Errors
    /// [`CallError::Unavailable`] or [`CallError::Unauthorised`].
    async fn created_for(&self, customer: CustomerId, since: DateTime<Utc>) -> Result<Vec<Seen>, CallError>;

    /// One page of the living objects, newest first, of all or of those created since then (the gateway's time): the first
    /// page, or the one after that cursor. Objects that come or go meanwhile make no other appear twice or be left out.
    ///
    /// # Errors
    /// [`CallError::Unavailable`], [`CallError::Unauthorised`], or [`CallError::Missing`]: the object that the cursor names
    /// is gone.
    async fn list(&self, since: Option<DateTime<Utc>>, after: Option<&RemoteId>) -> Result<Listed, CallError>;

    /// Living objects with this email, ignoring case as far as the gateway can be asked so. Reads what was written a moment
    /// ago.
    ///
    /// # Errors
    /// [`CallError::Unavailable`] or [`CallError::Unauthorised`].
    async fn with_email(&self, email: &str) -> Result<Vec<Seen>, CallError>;

    /// Whether a webhook with these headers may be genuine, whatever its body: it need not be read otherwise.
    ///
    /// # Errors
    /// [`WebhookError`], as [`Gateway::verify`] would say.
    fn may_be_genuine(&self, headers: &HeaderMap, now: DateTime<Utc>) -> Result<(), WebhookError>;

    /// Whether a webhook is genuine, and what it says.
    ///
    /// # Errors
    /// [`WebhookError`]: the sender hears that it was not taken, and sends it again.
    fn verify(&self, headers: &HeaderMap, body: &[u8], now: DateTime<Utc>) -> Result<Notice, WebhookError>;

    /// How far its clock is ahead of ours, as the last reply showed; zero while it cannot be told from ours.
    fn clock_offset(&self) -> TimeDelta;

    /// The least that its clock may be ahead of ours, by the replies so far: until our time and this it has surely run.
    fn least_clock_offset(&self) -> TimeDelta;
}

/// Something to be done at a gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "write", rename_all = "snake_case")]
pub enum Write {
    /// Create an object that carries our id, if it has room for it.
    Create {
        /// Whose copy it is.
        customer: CustomerId,
        /// Its fields.
        profile: Profile,
    },
    /// Change these fields, and no other.
    Update {
        /// Which object.
        remote_id: RemoteId,
        /// The changed fields.
        patch: Patch,
    },
    /// Say on the object that it is this customer's copy, and no longer another's.
    Claim {
        /// Which object.
        remote_id: RemoteId,
        /// Whose copy it is.
        customer: CustomerId,
    },
    /// Delete it.
    Delete {
        /// Which object.
        remote_id: RemoteId,
    },
}

/// One call that changes something.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// What it does.
    pub write: &'a Write,
    /// Its frozen body.
    pub body: &'a str,
    /// The idempotency key that belongs to the body.
    pub key: &'a str,
}

/// What came back from a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The object as it was when the call was carried out.
    pub seen: Seen,
    /// The gateway had carried it out before, and repeated its old answer: no sight of now.
    pub replayed: bool,
}

/// An object, and when it was so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The object.
    pub object: Object,
    /// In the gateway's time.
    pub interval: Interval,
}

/// One page of a gateway's objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The objects, newest first, each as it was when the page was made.
    pub seen: Vec<Seen>,
    /// The cursor of the next page; `None` if this is the last.
    pub next: Option<RemoteId>,
}

/// One page of what changed at a gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changes {
    /// The changes, newest first.
    pub changes: Vec<RemoteChange>,
    /// The cursor of the next page; `None` if this is the last.
    pub next: Option<String>,
}

/// A gateway's copy of a customer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "object", rename_all = "snake_case")]
pub enum Object {
    /// It lives.
    Present {
        /// Its id there.
        remote_id: RemoteId,
        /// Its fields.
        profile: Profile,
        /// Whose copy it says it is.
        customer: Option<CustomerId>,
        /// What it does not say.
        #[serde(default, skip_serializing_if = "Untold::is_nothing")]
        untold: Untold,
    },
    /// It is deleted, for ever.
    Gone {
        /// Its id there.
        remote_id: RemoteId,
    },
}

/// One change at a gateway, as its webhook or its list of events tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteChange {
    /// The gateway's id of the event. Told twice, it is the same.
    pub event_id: String,
    /// What happened.
    pub kind: ChangeKind,
    /// When, in the gateway's time, as exact as it says (Stripe: whole seconds).
    pub created: DateTime<Utc>,
    /// Which object.
    pub remote_id: RemoteId,
    /// Its fields after the change; of a deletion, its last.
    pub profile: Profile,
    /// Whose copy it says it is.
    pub customer: Option<CustomerId>,
    /// Of which of its fields it says nothing.
    #[serde(default, skip_serializing_if = "Untold::is_nothing")]
    pub untold: Untold,
    /// The changed fields with what they held before. Whole values: an address is complete.
    pub previous: BTreeMap<Field, Option<Value>>,
    /// The key of the call that made the change, if one did.
    pub idempotency_key: Option<String>,
}

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// It was created.
    Created,
    /// Some fields changed.
    Updated,
    /// It was deleted.
    Deleted,
}

/// What a genuine webhook says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A customer changed.
    Change(Box<RemoteChange>),
    /// Something that is not ours to follow, of this type.
    Ignored(String),
    /// Of another account or mode than ours.
    Foreign(Foreign),
    /// The gateway tries whether the endpoint answers: it tells of an object that there never was.
    Sample,
}

/// Why a call brought no result, and what to do next.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Timeouts, 409, 429, most 5xx: it may or may not have been carried out. The same call again, with the same key,
    /// not before `retry_after`.
    #[error("the gateway is unavailable: {reason}")]
    Unavailable {
        /// What happened, without customers' data.
        reason: String,
        /// How long it asks to be left alone.
        retry_after: Option<Duration>,
    },
    /// It was carried out, perhaps in part, and failed, or the key is spoilt; sending it again only repeats this
    /// answer. Look what is there, then go on with a new key.
    #[error("the gateway failed while it carried out the call: {reason}")]
    Failed {
        /// What happened, without customers' data.
        reason: String,
    },
    /// Repeating cannot help: park the push and say why.
    #[error("the gateway rejected {}: {reason}", field.as_deref().unwrap_or("the call"))]
    Rejected {
        /// The field that it names.
        field: Option<String>,
        /// Its code, such as `email_invalid`.
        code: Option<String>,
        /// Its words, without customers' data.
        reason: String,
    },
    /// There is no such object, or no longer. No proof of a deletion: the key may be of another account.
    #[error("the gateway has no such object")]
    Missing,
    /// The gateway does not accept our credentials. Nobody's push is at fault: it waits until they are mended.
    #[error("the gateway does not accept our credentials: {reason}")]
    Unauthorised {
        /// Its words.
        reason: String,
    },
}

/// The code of a read that brought more than can be kept.
pub(crate) const CANNOT_BE_KEPT: &str = "cannot_be_kept";

/// Why a webhook was not taken. The text is for its sender and names no secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WebhookError {
    /// No signature, or one that none of our secrets makes.
    #[error("the signature is missing or wrong")]
    Signature,
    /// Signed too long ago, or in the future.
    #[error("the signature is older than five minutes, or from the future")]
    Stale,
    /// Not what the gateway sends.
    #[error("the body cannot be read as an event: {0}")]
    Malformed(String),
}
