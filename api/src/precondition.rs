//! `If-Match`: which versions a write is meant for (RFC 9110, 13.1.1).

use axum::http::{HeaderMap, header};

use crate::problem::Problem;

/// Which versions a write is meant for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum IfMatch {
    /// Any: no header, or `*`.
    Any,
    /// One of these. Weak tags and tags that are no version of ours match nothing.
    OneOf(Vec<u64>),
}

impl IfMatch {
    pub(crate) fn read(headers: &HeaderMap) -> Result<Self, Problem> {
        let mut lines = headers.get_all(header::IF_MATCH).iter().peekable();
        if lines.peek().is_none() {
            return Ok(Self::Any);
        }
        let mut versions = vec![];
        for line in lines {
            let line = line.to_str().map_err(|_| broken())?.trim();
            if line == "*" {
                return Ok(Self::Any);
            }
            read_tags(line, &mut versions)?;
        }
        Ok(Self::OneOf(versions))
    }
}

fn read_tags(mut rest: &str, versions: &mut Vec<u64>) -> Result<(), Problem> {
    loop {
        let strong = rest.strip_prefix("W/");
        let (tag, after) =
            strong.unwrap_or(rest).strip_prefix('"').and_then(|opened| opened.split_once('"')).ok_or_else(broken)?;
        if strong.is_none()
            && let Ok(version) = tag.parse()
        {
            versions.push(version);
        }
        let after = after.trim_start();
        if after.is_empty() {
            return Ok(());
        }
        rest = after.strip_prefix(',').ok_or_else(broken)?.trim_start();
    }
}

fn broken() -> Problem {
    Problem::invalid("If-Match", "must be * or a list of quoted versions, such as \"3\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&str]) -> Option<IfMatch> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header::IF_MATCH, line.parse().unwrap());
        }
        IfMatch::read(&headers).ok()
    }

    #[test]
    fn no_header_and_a_star_match_any_version() {
        assert_eq!(read(&[]), Some(IfMatch::Any));
        assert_eq!(read(&["*"]), Some(IfMatch::Any));
    }

    #[test]
    fn a_list_of_versions_may_be_spread_over_lines() {
        assert_eq!(read(&[r#""1", "2""#, r#""3""#]), Some(IfMatch::OneOf(vec![1, 2, 3])));
    }

    #[test]
    fn weak_and_foreign_tags_match_nothing() {
        assert_eq!(read(&[r#"W/"1", "a,b", "2""#]), Some(IfMatch::OneOf(vec![2])));
        assert_eq!(read(&[r#"W/"1""#]), Some(IfMatch::OneOf(vec![])));
    }

    #[test]
    fn a_version_without_quotes_is_told() {
        for bad in ["1", "\"1", "\"1\" \"2\"", "\"1\",", ""] {
            assert_eq!(read(&[bad]), None, "{bad}");
        }
    }
}
