//! The log of calls made to the API.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

/// How many calls are remembered.
const KEPT: usize = 50_000;

/// One call to `/v1`, as it came and as it was answered. Edits by the page or by [`crate::Control`] are none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// Counts the calls, from 1.
    pub number: u64,
    /// When it came, by the local Stripe's clock, in milliseconds since 1970.
    pub at_ms: i64,
    /// When it came, by the machine's clock, in microseconds since 1970: for measuring.
    pub received_us: i64,
    /// `GET`, `POST` or `DELETE`.
    pub method: String,
    /// Without the query.
    pub path: String,
    /// Names as sent (`address[line1]`) and values.
    pub params: BTreeMap<String, String>,
    /// The end of the key that it came with, its last four characters.
    #[serde(default)]
    pub key_end: String,
    /// The header, if sent; of no effect but with POST.
    pub idempotency_key: Option<String>,
    /// The id given to the call.
    pub request_id: String,
    /// `None` while it is not answered; for ever if the reply was dropped.
    pub status: Option<u16>,
    /// Whether the answer was a saved one.
    pub replayed: bool,
    /// The customer that it named or made.
    pub customer: Option<String>,
    /// The fault that befell it.
    pub fault: Option<String>,
}

impl Call {
    /// Whether the call asks for a change: it is not a GET.
    pub fn is_write(&self) -> bool {
        self.method != "GET"
    }
}

/// The last calls.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    kept: VecDeque<Call>,
    last_number: u64,
}

impl Calls {
    pub(crate) fn push(&mut self, mut call: Call) -> u64 {
        self.last_number += 1;
        call.number = self.last_number;
        if self.kept.len() == KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(call);
        self.last_number
    }

    pub(crate) fn get_mut(&mut self, number: u64) -> Option<&mut Call> {
        let first = self.kept.front()?.number;
        let index = usize::try_from(number.checked_sub(first)?).ok()?;
        self.kept.get_mut(index)
    }

    /// The last `limit`, oldest first.
    pub(crate) fn last(&self, limit: usize) -> impl Iterator<Item = &Call> {
        self.kept.iter().skip(self.kept.len().saturating_sub(limit))
    }

    pub(crate) fn clear(&mut self) {
        self.kept.clear();
    }
}
