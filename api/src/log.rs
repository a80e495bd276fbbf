//! Where the log goes, what of it is written, and how errors are written in it.

use std::io;

use serde::Deserialize;
use tracing::level_filters::LevelFilter;
use tracing::{Level, Metadata};
use tracing_subscriber::filter::{ParseError, filter_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt};

pub(crate) use tandem_eventlog::chain;

/// How a line of the log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts the log, on standard error. Once a process; a second call changes nothing.
///
/// Below `info`, other crates write what we never would: the password for NATS, and messages with customers' values. So
/// they are heard there only if the filter names them.
///
/// # Errors
/// The filter cannot be read.
pub fn start(filter: &str, format: LogFormat) -> Result<(), ParseError> {
    let named = named(filter);
    let heard =
        Registry::default().with(EnvFilter::try_new(filter)?).with(filter_fn(move |line| may_be_heard(line, &named)));
    let lines = fmt::layer().with_writer(io::stderr);
    // Whoever started one before us keeps it.
    let _ = match format {
        LogFormat::Text => heard.with(lines).try_init(),
        LogFormat::Json => heard.with(lines.json().flatten_event(true)).try_init(),
    };
    Ok(())
}

fn may_be_heard(line: &Metadata<'_>, named: &[String]) -> bool {
    let target = line.target();
    *line.level() <= Level::INFO || is_ours(target) || named.iter().any(|name| target.starts_with(name))
}

fn is_ours(target: &str) -> bool {
    target == "tandem" || target.starts_with("tandem_")
}

/// The targets that a filter names: `a` and `b::c` in `debug,a=trace,b::c[span{field=1,other}]=debug`.
fn named(filter: &str) -> Vec<String> {
    let mut depth = 0_usize;
    let directives = filter.split(|c| {
        match c {
            '[' | '{' => depth += 1,
            ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    });
    directives
        .map(|directive| directive.split(['[', '=']).next().unwrap_or_default().trim())
        .filter(|target| !target.is_empty() && target.parse::<LevelFilter>().is_err())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_names_targets_and_a_level_is_none() {
        assert_eq!(named("debug"), [""; 0]);
        assert_eq!(named("TRACE, [request]=trace,[call{a=1,b}]=debug"), [""; 0]);
        assert_eq!(named("debug,async_nats=debug, sqlx::query"), ["async_nats", "sqlx::query"]);
        assert_eq!(named("hyper[span{a=1,b}]=trace,info"), ["hyper"]);
    }
}
