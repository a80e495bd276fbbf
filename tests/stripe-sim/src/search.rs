//! `GET /v1/customers/search`, over what search has seen so far: it lags behind changes, as Stripe's does.

use serde_json::{Value, json};

use crate::error::StripeError;
use crate::fields::Object;
use crate::lists::limit;
use crate::params::Params;
use crate::state::State;

/// Newest first; `page` goes on where the last page ended.
pub(crate) fn search(state: &State, params: &Params) -> Result<Value, StripeError> {
    params.only(&["limit", "page", "query"])?;
    let query = Query::parse(params.get("query").ok_or_else(|| StripeError::missing_param("query"))?)?;
    let limit = limit(params, 10)?;
    let before: u64 = match params.get("page") {
        None => u64::MAX,
        Some(page) => page
            .strip_prefix("page_")
            .and_then(|seq| seq.parse().ok())
            .ok_or_else(|| StripeError::bad_param("page", format!("Invalid page: {page}")))?,
    };
    let lag_ms = i64::try_from(state.settings.search_lag_ms).unwrap_or(i64::MAX);
    let seen_ms = state.clock.now_ms().saturating_sub(lag_ms);
    let mut found: Vec<(u64, Value)> = state
        .customers
        .entries()
        .rev()
        .filter(|(_, entry)| entry.place.seq < before)
        .filter_map(|(_, entry)| entry.at(seen_ms).map(|object| (entry.place.seq, object)))
        .filter(|(_, object)| query.matches(object))
        .take(limit + 1)
        .map(|(seq, object)| (seq, Value::Object((**object).clone())))
        .collect();
    let has_more = found.len() > limit;
    found.truncate(limit);
    let next_page = found.last().filter(|_| has_more).map(|(seq, _)| format!("page_{seq}"));
    Ok(json!({
        "object": "search_result",
        "data": found.into_iter().map(|(_, object)| object).collect::<Vec<_>>(),
        "has_more": has_more,
        "next_page": next_page,
        "url": "/v1/customers/search",
    }))
}

/// Clauses joined by AND, or by OR, never by both.
#[derive(Debug)]
struct Query {
    clauses: Vec<Clause>,
    any: bool,
}

#[derive(Debug)]
struct Clause {
    negated: bool,
    field: String,
    /// Of metadata.
    key: Option<String>,
    operator: Operator,
    /// `None` is `null`.
    value: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Equals,
    Contains,
    Above,
    Below,
    AtLeast,
    AtMost,
}

const TEXTS: [&str; 3] = ["email", "name", "phone"];

impl Query {
    fn parse(text: &str) -> Result<Self, StripeError> {
        let mut rest = text.trim();
        let mut query = Self { clauses: Vec::new(), any: false };
        let mut joined: Option<bool> = None;
        loop {
            let (clause, after) = Clause::parse(rest).ok_or_else(|| refuse(text))?;
            query.clauses.push(clause);
            rest = after.trim_start();
            if rest.is_empty() {
                return Ok(query);
            }
            let any = match rest.get(..3).map(str::to_ascii_uppercase).as_deref() {
                Some("AND") => {
                    rest = rest[3..].trim_start();
                    false
                }
                Some(word) if word.starts_with("OR ") => {
                    rest = rest[2..].trim_start();
                    true
                }
                // Clauses side by side are joined by AND.
                _ => false,
            };
            if joined.is_some_and(|joined| joined != any) {
                return Err(StripeError::bad_param("query", "A query can't combine AND and OR."));
            }
            joined = Some(any);
            query.any = any;
        }
    }

    fn matches(&self, object: &Object) -> bool {
        match self.any {
            true => self.clauses.iter().any(|clause| clause.matches(object)),
            false => self.clauses.iter().all(|clause| clause.matches(object)),
        }
    }
}

impl Clause {
    /// The clause at the start, and what follows it.
    fn parse(text: &str) -> Option<(Self, &str)> {
        let (negated, text) = match text.strip_prefix('-') {
            Some(text) => (true, text),
            None => (false, text),
        };
        let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_')?;
        let (field, mut rest) = text.split_at(end);
        let mut key = None;
        if let Some(inside) = rest.strip_prefix('[') {
            let (name, after) = quoted(inside)?;
            key = Some(name);
            rest = after.strip_prefix(']')?;
        }
        let operators = [
            (">=", Operator::AtLeast),
            ("<=", Operator::AtMost),
            (">", Operator::Above),
            ("<", Operator::Below),
            (":", Operator::Equals),
            ("~", Operator::Contains),
        ];
        let (sign, operator) = operators.into_iter().find(|(sign, _)| rest.starts_with(sign))?;
        rest = &rest[sign.len()..];
        let (value, rest) = match quoted(rest) {
            Some((value, rest)) => (Some(value), rest),
            None if rest.starts_with(['"', '\'']) => return None,
            None => {
                let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
                let (word, rest) = rest.split_at(end);
                match word {
                    "" => return None,
                    "null" => (None, rest),
                    word => (Some(word.to_owned()), rest),
                }
            }
        };
        let ordered = matches!(operator, Operator::Above | Operator::Below | Operator::AtLeast | Operator::AtMost);
        let sensible = match field {
            "created" => {
                operator != Operator::Contains && value.as_ref().is_some_and(|value| value.parse::<i64>().is_ok())
            }
            "metadata" => key.is_some() && operator == Operator::Equals,
            field => TEXTS.contains(&field) && !ordered,
        };
        let long_enough =
            operator != Operator::Contains || value.as_ref().is_some_and(|value| value.chars().count() >= 3);
        (sensible && long_enough).then(|| (Self { negated, field: field.to_owned(), key, operator, value }, rest))
    }

    fn matches(&self, object: &Object) -> bool {
        let held = object.get(&self.field);
        let found = if self.field == "created" {
            let held = held.and_then(Value::as_i64).unwrap_or_default();
            let wanted = self.value.as_ref().and_then(|value| value.parse::<i64>().ok()).unwrap_or_default();
            match self.operator {
                Operator::Above => held > wanted,
                Operator::Below => held < wanted,
                Operator::AtLeast => held >= wanted,
                Operator::AtMost => held <= wanted,
                Operator::Equals | Operator::Contains => held == wanted,
            }
        } else {
            let held = match &self.key {
                Some(key) => held.and_then(|metadata| metadata.get(key)),
                None => held,
            };
            match (held.and_then(Value::as_str), &self.value) {
                (None, None) => true,
                (Some(held), Some(wanted)) => {
                    let (held, wanted) = (held.to_lowercase(), wanted.to_lowercase());
                    if self.operator == Operator::Contains { held.contains(&wanted) } else { held == wanted }
                }
                _ => false,
            }
        };
        found != self.negated
    }
}

/// A text in quotes at the start, and what follows it; a backslash keeps the next character.
fn quoted(text: &str) -> Option<(String, &str)> {
    let quote = text.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let mut inside = String::new();
    let mut characters = text.char_indices().skip(1);
    while let Some((at, c)) = characters.next() {
        match c {
            '\\' => inside.push(characters.next()?.1),
            c if c == quote => return Some((inside, &text[at + 1..])),
            c => inside.push(c),
        }
    }
    None
}

fn refuse(query: &str) -> StripeError {
    StripeError::bad_param("query", format!("We were unable to parse your search query: {query}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn matches(query: &str) -> bool {
        let customer = json!({
            "created": 100, "name": "Ada Lovelace", "email": "ada@old.example", "phone": null,
            "metadata": { "tandem_id": "42" },
        });
        Query::parse(query).unwrap().matches(customer.as_object().unwrap())
    }

    #[test]
    fn clauses_match_as_documented() {
        assert!(matches(r#"email:"ADA@old.example""#));
        assert!(matches("metadata['tandem_id']:'42' AND created>=100"));
        assert!(matches("name~'lovel'"));
        assert!(matches("phone:null"));
        assert!(matches(r#"-metadata["tandem_id"]:null"#));
        assert!(matches("name:'x' OR created<101"));
        assert!(!matches("name:'Ada'"));
    }

    #[test]
    fn nonsense_is_refused() {
        for query in
            ["", "name", "name>'a'", "color:'red'", "name~'ad'", "name:'a' AND name:'b' OR name:'c'", "name:'a"]
        {
            assert!(Query::parse(query).is_err(), "{query}");
        }
    }
}
