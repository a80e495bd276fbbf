//! Many customers: filtered, sorted, page by page.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use chrono::{DateTime, Datelike, Utc};
use serde::{Deserialize, Serialize};
use sqlx::{Postgres, QueryBuilder};
use tandem_domain::EmailKey;
use uuid::Uuid;

use super::Customers;
use super::row::{COLUMNS, CustomerRow};

/// Which customers, in which order, and how many. Deleted ones are never among them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Search {
    /// Exactly this email, ignoring case and blanks around it.
    pub email: Option<String>,
    /// This text somewhere in the name or the email, ignoring case. Of a longer one than the catalog takes, only the beginning is
    /// looked at.
    pub q: Option<String>,
    /// The order.
    pub sort: Sort,
    /// Where the page before ended. It must be of the same order.
    pub after: Option<Cursor>,
    /// How many at most.
    pub limit: u32,
}

/// The order of a list. Each is total: customers that are equal in it are told apart by their ids.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Sort {
    /// Oldest first.
    #[serde(rename = "created")]
    Created,
    /// Newest first.
    #[default]
    #[serde(rename = "-created")]
    CreatedDescending,
    /// By name, ignoring case; customers without one first. Names that only differ after a thousand bytes come in no particular
    /// order, but always in the same.
    #[serde(rename = "name")]
    Name,
    /// By name, backwards.
    #[serde(rename = "-name")]
    NameDescending,
}

/// Some customers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The customers.
    pub customers: Vec<CustomerRow>,
    /// Where the next page begins; `None` if this is the last.
    pub next: Option<Cursor>,
}

/// A place in a list, written as an opaque text. Customers that are created, changed or deleted meanwhile never make
/// others appear twice or be left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    sort: Sort,
    #[serde(flatten)]
    key: Key,
    id: Uuid,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Key {
    Created(DateTime<Utc>),
    Name(String),
}

/// A text that is no cursor of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a cursor that this list gave")]
pub struct InvalidCursor;

impl Cursor {
    /// The order of the list that it belongs to.
    pub fn sort(&self) -> Sort {
        self.sort
    }

    fn of(row: &CustomerRow, sort: Sort) -> Self {
        let key = match sort {
            Sort::Created | Sort::CreatedDescending => Key::Created(row.created_at),
            Sort::Name | Sort::NameDescending => Key::Name(row.name_key.clone()),
        };
        Self { sort, key, id: row.id.0 }
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let json = serde_json::to_vec(self).map_err(|_| fmt::Error)?;
        f.write_str(&BASE64_URL_SAFE_NO_PAD.encode(json))
    }
}

impl FromStr for Cursor {
    type Err = InvalidCursor;

    fn from_str(text: &str) -> Result<Self, InvalidCursor> {
        let json = BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| InvalidCursor)?;
        let cursor: Self = serde_json::from_slice(&json).map_err(|_| InvalidCursor)?;
        let by_name = matches!(cursor.key, Key::Name(_));
        let fits = match cursor.sort {
            Sort::Created | Sort::CreatedDescending => !by_name,
            Sort::Name | Sort::NameDescending => by_name,
        };
        // PostgreSQL's text has no NUL, and its time no such years.
        let known = match &cursor.key {
            Key::Created(at) => (1..=9999).contains(&at.year()),
            Key::Name(name) => !name.contains('\0'),
        };
        if fits && known { Ok(cursor) } else { Err(InvalidCursor) }
    }
}

impl Customers {
    /// One page of the customers that are sought.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn list(&self, search: &Search) -> Result<Page, sqlx::Error> {
        let limit = i64::from(search.limit);
        let mut query = QueryBuilder::<Postgres>::new("");
        let mut source = "customers WHERE state = 'active'";
        if let Some(email) = &search.email {
            // Keys have no statistics, since these outlive who is erased: the planner would walk through all customers in the order
            // that is asked for until it has found enough.
            query.push(format!(
                "WITH found AS MATERIALIZED (SELECT {COLUMNS}, email_key FROM {source} AND email_key = "
            ));
            query.push_bind(EmailKey::of(email).stored()).push(") ");
            source = "found WHERE true";
        }
        query.push(format!("SELECT {COLUMNS} FROM {source}"));
        if let Some(q) = &search.q {
            let pattern = format!("%{}%", escaped(&q.to_lowercase()));
            query.push(" AND (name_key LIKE ").push_bind(pattern.clone());
            query.push(" OR email_key LIKE ").push_bind(pattern).push(")");
        }
        let (column, direction, beyond) = match search.sort {
            Sort::Created => ("created_at", "", ">"),
            Sort::CreatedDescending => ("created_at", " DESC", "<"),
            Sort::Name => ("name_key", "", ">"),
            Sort::NameDescending => ("name_key", " DESC", "<"),
        };
        if let Some(cursor) = &search.after {
            query.push(format!(" AND ({column}, id) {beyond} ("));
            match &cursor.key {
                Key::Created(at) => query.push_bind(*at),
                Key::Name(name) => query.push_bind(name.clone()),
            };
            query.push(", ").push_bind(cursor.id).push(")");
        }
        // One more than asked for tells whether there is a next page.
        query.push(format!(" ORDER BY {column}{direction}, id{direction} LIMIT ")).push_bind(limit + 1);
        let mut customers: Vec<CustomerRow> = query.build_query_as().fetch_all(self.connections.pool()).await?;
        let more = customers.len() as i64 > limit;
        customers.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        let next = customers.last().filter(|_| more).map(|row| Cursor::of(row, search.sort));
        Ok(Page { customers, next })
    }
}

/// LIKE's own characters, taken as they are.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '\\' | '%' | '_') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back_as_what_it_was() {
        for (sort, key) in
            [(Sort::CreatedDescending, Key::Created(DateTime::UNIX_EPOCH)), (Sort::Name, Key::Name("ada".to_owned()))]
        {
            let cursor = Cursor { sort, key, id: Uuid::from_u128(7) };
            assert_eq!(cursor.to_string().parse(), Ok(cursor));
        }
    }

    #[test]
    fn a_cursor_of_another_order_or_of_nobody_is_refused() {
        let mixed = Cursor { sort: Sort::Name, key: Key::Created(DateTime::UNIX_EPOCH), id: Uuid::nil() };
        assert_eq!(mixed.to_string().parse::<Cursor>(), Err(InvalidCursor));
        for bad in ["", "x", "!!!", "e30"] {
            assert_eq!(bad.parse::<Cursor>(), Err(InvalidCursor), "{bad}");
        }
    }

    /// Fails if PostgreSQL is asked: it knows no such year, and the answer would be our defect.
    #[test]
    fn a_cursor_of_a_year_that_never_was_is_refused() {
        for at in [DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC] {
            let made_up = Cursor { sort: Sort::Created, key: Key::Created(at), id: Uuid::nil() };
            assert_eq!(made_up.to_string().parse::<Cursor>(), Err(InvalidCursor), "{at}");
        }
    }

    #[test]
    fn a_search_for_a_percent_sign_finds_percent_signs() {
        assert_eq!(escaped(r"50%_\"), r"50\%\_\\");
    }
}
