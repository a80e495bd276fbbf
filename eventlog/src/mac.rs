//! What proves that a message is the relay's: a MAC over all that it says, with a key that the database alone has.

use crate::cloudevent;
use crate::zoo::plays;
use async_nats::HeaderMap;
use async_nats::jetstream::message::StreamMessage;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use sqlx::{PgExecutor, Row};
use std::fmt;
use uuid::Uuid;

/// Begins what is signed: this key signs nothing else that could be taken for a message.
const PURPOSE: &[u8] = b"tandem-message-1";

/// The key of a database's history: signs the relay's messages, and tells them from what others published.
#[derive(Clone)]
pub struct MacKey {
    epoch: Uuid,
    /// Made once: a copy costs no hashing of the key.
    keyed: Hmac<Sha256>,
}

/// Why a message is not proved to be the relay's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unproved {
    /// It has no MAC: a version of before MACs published it, or somebody else.
    #[error("it has no MAC")]
    Missing,
    /// Its MAC is not that of what it says: somebody else made or changed it, or it is of another history.
    #[error("its MAC is wrong")]
    Wrong,
}

impl Unproved {
    /// As a metric's label.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Wrong => "wrong",
        }
    }
}

impl MacKey {
    /// The key that is in force.
    ///
    /// # Errors
    /// The database is unavailable.
    pub async fn read(database: impl PgExecutor<'_>) -> Result<Self, sqlx::Error> {
        let row = sqlx::query("SELECT epoch, mac_key FROM feed").fetch_one(database).await?;
        Self::from_row(&row)
    }

    pub(crate) fn from_row(row: &sqlx::postgres::PgRow) -> Result<Self, sqlx::Error> {
        Self::new(row.try_get("epoch")?, row.try_get("mac_key")?)
    }

    pub(crate) fn new(epoch: Uuid, key: &[u8]) -> Result<Self, sqlx::Error> {
        let keyed = Hmac::<Sha256>::new_from_slice(key).map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
        Ok(Self { epoch, keyed })
    }

    /// The history whose messages it signs.
    #[must_use]
    pub fn epoch(&self) -> Uuid {
        self.epoch
    }

    /// Whether a message that is stored in the stream is the relay's, of this history, and at its position.
    ///
    /// # Errors
    /// [`Unproved`] says why not.
    pub fn check(&self, message: &StreamMessage) -> Result<(), Unproved> {
        self.check_parts(&message.headers, &message.payload)?;
        let at = cloudevent::position(&message.headers);
        if at.is_ok_and(|position| position == message.sequence) { Ok(()) } else { Err(Unproved::Wrong) }
    }

    pub(crate) fn check_parts(&self, headers: &HeaderMap, data: &[u8]) -> Result<(), Unproved> {
        if plays("mac-not-checked") {
            return Ok(());
        }
        let mac = headers.get(cloudevent::MAC).ok_or(Unproved::Missing)?;
        let mac = hex::decode(mac.as_str()).map_err(|_| Unproved::Wrong)?;
        // It compares in constant time.
        self.over(headers, data).verify_slice(&mac).map_err(|_| Unproved::Wrong)?;
        if cloudevent::epoch(headers).is_ok_and(|epoch| epoch == self.epoch) { Ok(()) } else { Err(Unproved::Wrong) }
    }

    /// The value of the header.
    pub(crate) fn sign(&self, headers: &HeaderMap, data: &[u8]) -> String {
        hex::encode(self.over(headers, data).finalize().into_bytes())
    }

    /// Each part with its length before it, and an absent one told from an empty one: no two messages are the same bytes.
    fn over(&self, headers: &HeaderMap, data: &[u8]) -> Hmac<Sha256> {
        let mut mac = self.keyed.clone();
        mac.update(PURPOSE);
        for name in cloudevent::SIGNED {
            match headers.get(name) {
                Some(value) => {
                    mac.update(&[1]);
                    part(&mut mac, value.as_str().as_bytes());
                }
                None => mac.update(&[0]),
            }
        }
        part(&mut mac, data);
        mac
    }
}

fn part(mac: &mut Hmac<Sha256>, bytes: &[u8]) {
    mac.update(&(bytes.len() as u64).to_be_bytes());
    mac.update(bytes);
}

/// Without the key.
impl fmt::Debug for MacKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MacKey").field("epoch", &self.epoch).finish_non_exhaustive()
    }
}
