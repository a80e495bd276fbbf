//! Whether PostgreSQL has room for the connections that this process may take.

use sqlx::PgPool;
use tandem_eventlog::Connections;

/// Who may have how many of PostgreSQL's connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    /// As many as PostgreSQL lets clients like us have.
    allowed: i64,
    /// Those of other programs, now.
    others: i64,
    /// Processes of Tandem on this database that are at work, besides this one.
    processes: i64,
}

impl Room {
    /// # Errors
    /// The database is unavailable.
    pub(crate) async fn read(pool: &PgPool) -> Result<Self, sqlx::Error> {
        // Of other roles' sessions PostgreSQL tells how many there are, and no more.
        let (allowed, others) = sqlx::query_as(
            "SELECT least(
                        current_setting('max_connections')::bigint - current_setting('superuser_reserved_connections')::bigint
                            - COALESCE(current_setting('reserved_connections', true)::bigint, 0),
                        (SELECT NULLIF(datconnlimit, -1) FROM pg_database WHERE datname = current_database()),
                        (SELECT NULLIF(rolconnlimit, -1) FROM pg_roles WHERE rolname = current_user)),
                    greatest(0, (SELECT sum(numbackends) FROM pg_stat_database)::bigint
                        - (SELECT count(*) FROM pg_stat_activity WHERE application_name = 'tandem'))",
        )
        .fetch_one(pool)
        .await?;
        Ok(Self { allowed, others, processes: tandem_gateways::processes(pool).await? })
    }

    /// What to change if there is no room for so many connections; every process of Tandem is taken to have the same setting.
    pub(crate) fn lack(self, each: u32) -> Option<String> {
        let Self { allowed, others, processes } = self;
        let processes = processes + 1;
        let free = allowed - others;
        let lacking = processes * i64::from(each) - free;
        let fits = free / processes;
        (lacking > 0).then(|| {
            let smaller = match u32::try_from(fits) {
                Ok(fits) if fits >= Connections::FEWEST => format!("set TANDEM_DATABASE__MAX_CONNECTIONS to {fits}, or "),
                Ok(_) | Err(_) => String::new(),
            };
            format!(
                "PostgreSQL allows {allowed} connections and other programs have {others}, but {processes} processes of Tandem may take \
                 {each} each: {smaller}let PostgreSQL have {lacking} more (max_connections, or the limit of the database or of the role)"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use sqlx::PgPool;

    use super::*;

    #[test]
    fn four_processes_fit_a_postgresql_as_it_comes() {
        assert_eq!(Room { allowed: 97, others: 5, processes: 3 }.lack(20), None);
    }

    #[test]
    fn what_lacks_is_told_with_what_to_change() {
        let lack = Room { allowed: 97, others: 40, processes: 2 }.lack(20).unwrap_or_default();
        assert!(lack.contains("TANDEM_DATABASE__MAX_CONNECTIONS to 19,") && lack.contains("have 3 more"), "{lack}");
    }

    #[test]
    fn fewer_than_a_process_needs_are_not_advised() {
        let lack = Room { allowed: 30, others: 25, processes: 0 }.lack(20);
        assert!(lack.as_ref().is_some_and(|lack| !lack.contains("TANDEM_DATABASE__MAX_CONNECTIONS")), "{lack:?}");
    }

    #[tokio::test]
    async fn the_least_limit_counts() -> Result<(), sqlx::Error> {
        let pool = PgPool::connect(&tandem_local::test::database().await.url).await?;
        let limit = "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I CONNECTION LIMIT 30', current_database()); END $$";
        sqlx::query(limit).execute(&pool).await?;

        assert_eq!(Room::read(&pool).await?.allowed, 30);
        Ok(())
    }
}
