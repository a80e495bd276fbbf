//! Lists, newest first, walked by cursor and narrowed by `created`.

use std::ops::Range;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::error::StripeError;
use crate::params::{Params, integer};

/// Where an object stands in its list: by `created`, then in the order in which they came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Place {
    pub(crate) created: i64,
    pub(crate) seq: u64,
}

const FIRST: Place = Place { created: i64::MIN, seq: 0 };
const LAST: Place = Place { created: i64::MAX, seq: u64::MAX };

/// The parameters that every list takes, besides `created`.
pub(crate) const PAGING: [&str; 3] = ["ending_before", "limit", "starting_after"];

/// Which part of a list is asked for.
#[derive(Debug)]
pub(crate) struct Window {
    limit: usize,
    oldest: Place,
    /// Exclusive.
    newest: Place,
    /// Walk up from `oldest` instead of down from `newest`.
    upwards: bool,
}

impl Window {
    /// `find` tells where the object stands that a cursor names.
    pub(crate) fn parse(
        params: &Params,
        object: &str,
        find: impl Fn(&str) -> Option<Place>,
    ) -> Result<Self, StripeError> {
        let mut window = Self { limit: limit(params, 10)?, oldest: FIRST, newest: LAST, upwards: false };
        for param in params.under("created") {
            let seconds = integer(&param.key, &param.value)?;
            let path: Vec<&str> = param.path.iter().map(String::as_str).collect();
            match path.as_slice() {
                [] => {
                    window.not_before(seconds);
                    window.before(seconds.saturating_add(1));
                }
                ["gte"] => window.not_before(seconds),
                ["gt"] => window.not_before(seconds.saturating_add(1)),
                ["lt"] => window.before(seconds),
                ["lte"] => window.before(seconds.saturating_add(1)),
                _ => return Err(StripeError::unknown_params(&[&param.key])),
            }
        }
        let place = |param: &str, id: &str| find(id).ok_or_else(|| StripeError::no_such(object, id, param));
        match (params.get("starting_after"), params.get("ending_before")) {
            (Some(_), Some(_)) => return Err(StripeError::exclusive_params("starting_after", "ending_before")),
            (Some(id), None) => window.newest = window.newest.min(place("starting_after", id)?),
            (None, Some(id)) => {
                let Place { created, seq } = place("ending_before", id)?;
                window.oldest = window.oldest.max(Place { created, seq: seq.saturating_add(1) });
                window.upwards = true;
            }
            (None, None) => {}
        }
        Ok(window)
    }

    /// Nothing older than this second.
    pub(crate) fn not_before(&mut self, created: i64) {
        self.oldest = self.oldest.max(Place { created, seq: 0 });
    }

    fn before(&mut self, created: i64) {
        self.newest = self.newest.min(Place { created, seq: 0 });
    }

    /// What to look through, oldest first.
    pub(crate) fn range(&self) -> Range<Place> {
        self.oldest.min(self.newest)..self.newest
    }

    /// Of what lies in the range, oldest first: the page, newest first, and whether there is more beyond it.
    pub(crate) fn page<T>(&self, items: impl DoubleEndedIterator<Item = T>) -> (Vec<T>, bool) {
        let mut page: Vec<T> = if self.upwards {
            items.take(self.limit + 1).collect()
        } else {
            items.rev().take(self.limit + 1).collect()
        };
        let has_more = page.len() > self.limit;
        page.truncate(self.limit);
        if self.upwards {
            page.reverse();
        }
        (page, has_more)
    }
}

/// `limit`, from 1 to 100.
pub(crate) fn limit(params: &Params, default: usize) -> Result<usize, StripeError> {
    let Some(value) = params.get("limit") else { return Ok(default) };
    match integer("limit", value)? {
        limit if limit < 1 => Err(StripeError::bad_param("limit", "This value must be greater than or equal to 1.")),
        limit if limit > 100 => Err(StripeError::bad_param("limit", "This value must be less than or equal to 100.")),
        limit => Ok(usize::try_from(limit).unwrap_or(default)),
    }
}

pub(crate) fn list(url: &str, data: Vec<Value>, has_more: bool) -> Value {
    json!({ "object": "list", "data": data, "has_more": has_more, "url": url })
}
