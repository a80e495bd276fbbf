//! Waiting for the work: until nothing is due anywhere.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::Row;
use tandem_local::test::Looks;

use crate::Tandem;

/// How long the work may take before a test gives up. Generous: no test asserts on time.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long it may take in a test that must fail, in seconds: in the zoo nobody wants to wait.
pub(crate) const PATIENCE_S: &str = "TANDEM_TEST_PATIENCE_S";

fn patience() -> Duration {
    let set = std::env::var(PATIENCE_S).ok().and_then(|seconds| seconds.parse().ok());
    set.map_or(PATIENCE, Duration::from_secs)
}

impl Tandem {
    /// Waits until nothing is left to do: no webhook on its way, nothing in the inbox, no link due, every event numbered and
    /// read by every projector.
    ///
    /// # Panics
    /// When that does not come, saying what is left.
    pub async fn settled(&self) {
        let (mut before, mut looks) = (String::new(), Looks::default());
        let waited = tokio::time::timeout(patience(), async {
            loop {
                for gateway in self.gateways() {
                    self.stripe_of(gateway).webhooks_idle().await.expect("the local Stripe");
                }
                let (quiet, now) = self.work_left().await;
                // Twice the same, or a webhook may have come in between.
                if quiet && now == before {
                    return;
                }
                before = now;
                looks.pause().await;
            }
        });
        if waited.await.is_err() {
            let (_, left) = self.work_left().await;
            panic!("not settled: {left}\n{}", self.log());
        }
    }

    /// Waits until everything that Stripe tells has been read: until a sweep of each account that began after this call has ended.
    pub async fn swept(&self) {
        // The one under way does not count.
        for _ in 0..2 {
            let before = self.last_sweeps().await;
            self.until("a sweep of each account", || async {
                let now = self.last_sweeps().await;
                self.gateways().all(|gateway| now.get(gateway) > before.get(gateway))
            })
            .await;
        }
    }

    async fn last_sweeps(&self) -> BTreeMap<String, DateTime<Utc>> {
        let last = sqlx::query_as("SELECT gateway, swept_at FROM sweeps WHERE swept_at IS NOT NULL");
        let last: Vec<(String, DateTime<Utc>)> = last.fetch_all(&self.database).await.expect("the database");
        last.into_iter().collect()
    }

    /// Waits for a condition, looking again and again.
    ///
    /// # Panics
    /// When it does not come.
    pub async fn until<F: Future<Output = bool>>(&self, what: &str, mut holds: impl FnMut() -> F) {
        self.find(what, || {
            let holds = holds();
            async { holds.await.then_some(()) }
        })
        .await;
    }

    /// Waits for something to be there, looking again and again.
    ///
    /// # Panics
    /// When it does not come.
    pub async fn find<T, F: Future<Output = Option<T>>>(&self, what: &str, mut look: impl FnMut() -> F) -> T {
        let found = tokio::time::timeout(patience(), async {
            let mut looks = Looks::default();
            loop {
                if let Some(found) = look().await {
                    return found;
                }
                looks.pause().await;
            }
        });
        found.await.unwrap_or_else(|_| panic!("never came: {what}\n{}", self.log()))
    }

    /// Waits until Stripe's clock shows another second than now: events made before and after differ in `created`.
    pub async fn until_next_second(&self) {
        let before = self.stripe.now_ms().await.expect("the local Stripe") / 1000;
        self.until("the next second", || async {
            self.stripe.now_ms().await.expect("the local Stripe") / 1000 > before
        })
        .await;
    }

    /// Whether a statement waits for a row or a table that another transaction holds.
    pub async fn somebody_waits_for_a_lock(&self) -> bool {
        let waiting = "SELECT EXISTS (SELECT FROM pg_stat_activity
                       WHERE datname = current_database() AND wait_event_type = 'Lock')";
        sqlx::query_scalar(waiting).fetch_one(&self.database).await.expect("the database")
    }

    /// The sum of a measurement of its `/metrics`, over all labels.
    pub async fn measured(&self, name: &str) -> f64 {
        let shown = self.http.get(self.at("/metrics")).send().await.expect("an answer").text().await.expect("a text");
        let lines = shown.lines().filter(|line| line.split(['{', ' ']).next() == Some(name));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// How many rows of a table are so.
    pub async fn rows(&self, table: &str, condition: &str) -> i64 {
        sqlx::query_scalar(&format!("SELECT count(*) FROM {table} WHERE {condition}"))
            .fetch_one(&self.database)
            .await
            .expect("the database")
    }

    /// The tables that hold a text, whatever its case, each with how many rows.
    pub async fn tables_with(&self, text: &str) -> Vec<String> {
        let names = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1";
        let names: Vec<String> = sqlx::query_scalar(names).fetch_all(&self.database).await.expect("the database");
        let mut found = vec![];
        for name in names {
            let rows = self.rows(&format!("{name} AS it"), &format!("it::text ILIKE '%{text}%'")).await;
            if rows > 0 {
                found.push(format!("{name}: {rows}"));
            }
        }
        found
    }

    async fn work_left(&self) -> (bool, String) {
        let row = sqlx::query(
            "SELECT (SELECT count(*) FROM links WHERE due_seq > done_seq) AS due,
                    (SELECT count(*) FROM inbox WHERE state IN ('new', 'waiting')) AS inbox,
                    (SELECT count(*) FROM intents WHERE state = 'open') AS intents,
                    (SELECT count(*) FROM events WHERE position IS NULL) AS unnumbered,
                    (SELECT last_position FROM feed) AS head,
                    COALESCE((SELECT min(position) FROM checkpoints WHERE live), 0) AS read,
                    (SELECT count(*) FROM inbox) AS told,
                    (SELECT string_agg(last_error, '; ') FROM links) AS errors",
        )
        .fetch_one(&self.database)
        .await;
        let Ok(row) = row else { return (false, "the database is away".to_owned()) };
        let count = |name: &str| row.get::<i64, _>(name);
        let left = ["due", "inbox", "intents", "unnumbered"];
        let quiet = left.iter().all(|name| count(name) == 0) && count("head") == count("read");
        let told = left.iter().chain(&["head", "read", "told"]).map(|name| format!("{name} {}", count(name)));
        let errors = row.get::<Option<String>, _>("errors").unwrap_or_default();
        (quiet, format!("{} {errors}", told.collect::<Vec<_>>().join(", ")))
    }
}
