//! Lists, page by page.

use serde::de::Error;
use serde::{Deserialize, Deserializer};

/// Most on a page.
const MOST: u32 = 100;

/// How many there may be on a page, as a query says it: `limit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limit(u32);

impl Limit {
    pub(crate) const MOST: Self = Self(MOST);
    pub(crate) const TWENTY: Self = Self(20);

    pub(crate) fn get(self) -> u32 {
        self.0
    }

    /// How many to look for: one more than fit tells whether another page follows.
    pub(crate) fn and_one(self) -> u32 {
        self.0 + 1
    }
}

impl<'de> Deserialize<'de> for Limit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let limit = text.parse().ok().filter(|limit| (1..=MOST).contains(limit));
        limit.map(Self).ok_or_else(|| D::Error::custom(format!("expected from 1 to {MOST}")))
    }
}

/// As many as fit of those that were found, and where the next page begins; `None` on the last.
pub(crate) fn page<T, N>(mut found: Vec<T>, limit: Limit, place: impl Fn(&T) -> N) -> (Vec<T>, Option<N>) {
    let fit = limit.0 as usize;
    let more = found.len() > fit;
    found.truncate(fit);
    let next = found.last().filter(|_| more).map(place);
    (found, next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_followed_by_another_only_if_more_was_found_than_fits() {
        assert_eq!(page(vec![3, 5, 8], Limit(2), |last| *last), (vec![3, 5], Some(5)));
        assert_eq!(page(vec![3, 5], Limit(2), |last| *last), (vec![3, 5], None));
        assert_eq!(page(vec![], Limit(2), |last: &i32| *last), (vec![], None));
    }

    #[test]
    fn a_limit_is_from_1_to_100() {
        let read = |query| serde_urlencoded::from_str::<Vec<(String, Limit)>>(query).map(|limits| limits[0].1.get());
        assert_eq!((read("limit=1").unwrap(), read("limit=100").unwrap()), (1, 100));
        for wrong in ["limit=0", "limit=101", "limit=-1", "limit=", "limit=many", "limit=4294967297"] {
            assert_eq!(read(wrong).unwrap_err().to_string(), "expected from 1 to 100", "{wrong}");
        }
    }
}
