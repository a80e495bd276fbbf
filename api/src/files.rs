//! Open files, of which every connection is one.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::Config;
use crate::connections::FOR_HEALTH;

/// Kept for the log, for NATS, and for what the libraries open.
const OTHERS: usize = 64;

/// Fewest connections that are of any use.
const FEWEST: usize = 8;

/// Raises the limit of open files as far as this process may, and returns it.
pub(crate) fn raise() -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = current != maximum && setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_ok();
    // None is no limit.
    let limit = if raised { maximum } else { current };
    limit.and_then(|limit| limit.try_into().ok()).unwrap_or(usize::MAX)
}

/// How many connections of clients the settings let there be, if there may be so many open files.
pub(crate) fn connections(config: &Config, files: usize) -> usize {
    let many = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    // And what calls of two runs for each worker take, one ending and one beginning.
    let database = many(config.database.max_connections);
    let calls = many(config.gateways.workers).saturating_mul(2 * config.stripes().count());
    let kept = database.saturating_add(calls).saturating_add(OTHERS + FOR_HEALTH);
    let most = files.saturating_sub(kept).max(FEWEST);
    let asked = config.http.max_connections;
    if asked > most {
        tracing::warn!(
            files,
            most,
            "TANDEM_HTTP__MAX_CONNECTIONS is {asked}, but this process may have {files} open files (ulimit -n): it takes {most} \
             connections at once"
        );
    }
    asked.min(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_raised_as_far_as_it_may_be() {
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        let lower = current.map(|current| current - 1);
        setrlimit(Resource::Nofile, Rlimit { current: lower, maximum }).unwrap();
        assert_eq!(raise(), maximum.map_or(usize::MAX, |most| usize::try_from(most).unwrap()));
        assert_eq!(getrlimit(Resource::Nofile).current, maximum);
    }

    #[test]
    fn so_many_connections_are_taken_that_files_are_left_for_all_else() {
        let config = Config::new("postgres://localhost/tandem");
        assert_eq!(connections(&config, usize::MAX), config.http.max_connections);
        let few = connections(&config, 1024);
        assert!((500..=1024 - 3 * 20 - FOR_HEALTH).contains(&few), "{few}");
        assert_eq!(connections(&config, 10), FEWEST);
    }
}
