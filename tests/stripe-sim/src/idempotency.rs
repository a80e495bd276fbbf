//! Idempotency keys: a key's first answer is its answer for a day.

use std::collections::{HashMap, HashSet, VecDeque};

use serde::{Deserialize, Serialize};

use crate::error::StripeError;

const KEPT_MS: i64 = 24 * 3600 * 1000;
const KEY_MAX: usize = 255;

/// The first answer to a key.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Saved {
    pub(crate) path: String,
    pub(crate) fingerprint: String,
    pub(crate) at_ms: i64,
    pub(crate) request_id: String,
    pub(crate) status: u16,
    pub(crate) body: String,
    pub(crate) customer: Option<String>,
}

/// All keys of the last day, and those whose first call is running.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    saved: HashMap<String, Saved>,
    by_age: VecDeque<(i64, String)>,
    running: HashSet<String>,
}

/// What a key makes of a call.
#[derive(Debug)]
pub(crate) enum Turn {
    /// Go on, and report with [`Keys::finish`].
    First,
    /// Answer this again.
    Again(Box<Saved>),
}

impl Keys {
    pub(crate) fn begin(&mut self, key: &str, path: &str, fingerprint: &str, now_ms: i64) -> Result<Turn, StripeError> {
        if key.chars().count() > KEY_MAX {
            return Err(StripeError::key_too_long());
        }
        self.forget_old(now_ms);
        if self.running.contains(key) {
            return Err(StripeError::key_in_use(key));
        }
        match self.saved.get(key) {
            Some(saved) if saved.path != path => Err(StripeError::key_of_other_endpoint(key, path, &saved.path)),
            Some(saved) if saved.fingerprint != fingerprint => Err(StripeError::key_of_other_params(key)),
            Some(saved) => Ok(Turn::Again(Box::new(saved.clone()))),
            None => {
                self.running.insert(key.to_owned());
                Ok(Turn::First)
            }
        }
    }

    /// The first call is over; `None` leaves the key unused.
    pub(crate) fn finish(&mut self, key: &str, saved: Option<Saved>) {
        self.running.remove(key);
        if let Some(saved) = saved {
            self.by_age.push_back((saved.at_ms, key.to_owned()));
            self.saved.insert(key.to_owned(), saved);
        }
    }

    pub(crate) fn saved(&self) -> impl Iterator<Item = (&String, &Saved)> {
        self.saved.iter()
    }

    fn forget_old(&mut self, now_ms: i64) {
        while let Some((at_ms, key)) = self.by_age.front() {
            if *at_ms > now_ms.saturating_sub(KEPT_MS) {
                break;
            }
            self.saved.remove(key);
            self.by_age.pop_front();
        }
    }
}
