//! Reading both sides, side by side.

use std::sync::atomic::{AtomicU64, Ordering};

use sqlx::types::Json;
use tandem_domain::{Customer, CustomerId, EmailKey, RemoteId};
use tandem_eventlog::Loaded;
use uuid::Uuid;

use super::{Progress, Survey, SurveyError, Tell, patiently};
use crate::erase::is_erased;
use crate::{CallError, Listed, Object};

/// How many customers are read from the event log at once.
const PAGE: u32 = 500;

#[derive(Default)]
struct Counts {
    customers: AtomicU64,
    objects: AtomicU64,
}

impl Counts {
    fn tell(&self, tell: Tell<'_>) {
        let (customers, objects) = (self.customers.load(Ordering::Relaxed), self.objects.load(Ordering::Relaxed));
        tell(Progress { customers, objects, looked_at: 0 });
    }
}

impl Survey<'_> {
    /// Reads what has not been read yet. Then both sides are in `survey_objects` and `survey_customers`.
    pub async fn read(&self, tell: Tell<'_>) -> Result<(), SurveyError> {
        let counts = Counts::default();
        tokio::try_join!(self.read_there(&counts, tell), self.read_here(&counts, tell))?;
        // The planner knows nothing of tables that were empty a moment ago.
        sqlx::query(
            "ANALYZE survey_objects (survey_id, remote_id, customer_id, email_key),
                     survey_customers (survey_id, customer_id, email_key)",
        )
        .execute(self.pool())
        .await?;
        Ok(())
    }

    async fn read_there(&self, counts: &Counts, tell: Tell<'_>) -> Result<(), SurveyError> {
        let (cursor, mut done, objects): (Option<String>, bool, i64) =
            sqlx::query_as("SELECT there_cursor, there_done, objects FROM surveys WHERE id = $1")
                .bind(self.id)
                .fetch_one(self.pool())
                .await?;
        let mut cursor = cursor.map(RemoteId::from);
        counts.objects.store(objects.unsigned_abs(), Ordering::Relaxed);
        while !done {
            let page = match patiently(|| self.sides.gateway.list(None, cursor.as_ref())).await {
                // Deleted since: the one before it is as good a place to go on from.
                Err(CallError::Missing) if cursor.is_some() => {
                    cursor = self.step_back(cursor).await?;
                    continue;
                }
                page => page?,
            };
            counts.objects.fetch_add(page.seen.len() as u64, Ordering::Relaxed);
            self.stage_objects(cursor.as_ref(), &page).await?;
            counts.tell(tell);
            done = page.next.is_none();
            cursor = page.next;
        }
        Ok(())
    }

    async fn stage_objects(&self, cursor: Option<&RemoteId>, page: &Listed) -> Result<(), SurveyError> {
        let (mut ids, mut customers, mut profiles, mut emails) = (vec![], vec![], vec![], vec![]);
        for seen in &page.seen {
            if let Object::Present { remote_id, profile, customer, .. } = &seen.object {
                ids.push(remote_id.as_str());
                customers.push(customer.map(|CustomerId(id)| id));
                emails.push(EmailKey::of_profile(profile).map(|email| self.email_key(&email)));
                profiles.push(Json(profile));
            }
        }
        let mut tx = self.pool().begin().await?;
        let moved = sqlx::query(
            "UPDATE surveys SET there_cursor = COALESCE($3, there_cursor), there_done = $3 IS NULL, objects = objects + $4
             WHERE id = $1 AND there_cursor IS NOT DISTINCT FROM $2 AND NOT there_done",
        )
        .bind(self.id)
        .bind(cursor.map(RemoteId::as_str))
        .bind(page.next.as_ref().map(RemoteId::as_str))
        .bind(ids.len() as i64)
        .execute(&mut *tx)
        .await?;
        if moved.rows_affected() == 0 {
            return Err(SurveyError::Busy(self.name().clone()));
        }
        // A copy that carries an erased customer's id is another's.
        let erased = is_erased("$6", "NULL", "t.remote_id");
        let insert = format!(
            "INSERT INTO survey_objects (survey_id, remote_id, customer_id, profile, email_key)
             SELECT $1, remote_id, customer_id, profile, email_key
             FROM unnest($2::text[], $3::uuid[], $4::jsonb[], $5::text[])
                  WITH ORDINALITY AS t (remote_id, customer_id, profile, email_key, n)
             WHERE NOT {erased} ORDER BY n
             ON CONFLICT (survey_id, remote_id) DO UPDATE SET
                 customer_id = excluded.customer_id, profile = excluded.profile, email_key = excluded.email_key"
        );
        sqlx::query(&insert)
            .bind(self.id)
            .bind(ids)
            .bind(customers)
            .bind(profiles)
            .bind(emails)
            .bind(self.name().as_str())
            .execute(&mut *tx)
            .await?;
        Ok(tx.commit().await?)
    }

    async fn step_back(&self, cursor: Option<RemoteId>) -> Result<Option<RemoteId>, SurveyError> {
        let before: Option<String> = sqlx::query_scalar(
            "UPDATE surveys SET there_cursor = (
                 SELECT remote_id FROM survey_objects WHERE survey_id = $1 AND ordinal < (
                     SELECT ordinal FROM survey_objects WHERE survey_id = $1 AND remote_id = $2)
                 ORDER BY ordinal DESC LIMIT 1)
             WHERE id = $1 RETURNING there_cursor",
        )
        .bind(self.id)
        .bind(cursor.as_ref().map(RemoteId::as_str))
        .fetch_one(self.pool())
        .await?;
        Ok(before.map(RemoteId::from))
    }

    async fn read_here(&self, counts: &Counts, tell: Tell<'_>) -> Result<(), SurveyError> {
        let (mut cursor, mut done, customers): (String, bool, i64) =
            sqlx::query_as("SELECT here_cursor, here_done, customers FROM surveys WHERE id = $1")
                .bind(self.id)
                .fetch_one(self.pool())
                .await?;
        counts.customers.store(customers.unsigned_abs(), Ordering::Relaxed);
        while !done {
            let page = self.sides.store.page(&cursor, PAGE).await?;
            done = page.is_empty();
            let last = page.last().map_or_else(|| cursor.clone(), |last| last.id.clone());
            let living = self.stage_customers(&cursor, &last, done, &page).await?;
            counts.customers.fetch_add(living, Ordering::Relaxed);
            counts.tell(tell);
            cursor = last;
        }
        Ok(())
    }

    async fn stage_customers(
        &self,
        cursor: &str,
        last: &str,
        done: bool,
        page: &[Loaded<Customer>],
    ) -> Result<u64, SurveyError> {
        let (mut ids, mut profiles, mut emails) = (vec![], vec![], vec![]);
        for one in page {
            if let (Customer::Active { profile, .. }, Ok(id)) = (&one.aggregate, one.id.parse::<Uuid>()) {
                ids.push(id);
                emails.push(EmailKey::of_profile(profile).map(|email| self.email_key(&email)));
                // What a later version knows of it differs from nothing here.
                profiles.push(Json(profile.known()));
            }
        }
        let living = ids.len() as u64;
        let mut tx = self.pool().begin().await?;
        let moved = sqlx::query(
            "UPDATE surveys SET here_cursor = $3, here_done = $4, customers = customers + $5
             WHERE id = $1 AND here_cursor = $2 AND NOT here_done",
        )
        .bind(self.id)
        .bind(cursor)
        .bind(last)
        .bind(done)
        .bind(ids.len() as i64)
        .execute(&mut *tx)
        .await?;
        if moved.rows_affected() == 0 {
            return Err(SurveyError::Busy(self.name().clone()));
        }
        let erased = is_erased("NULL", "t.customer_id", "NULL");
        let insert = format!(
            "INSERT INTO survey_customers (survey_id, customer_id, profile, email_key)
             SELECT $1, * FROM unnest($2::uuid[], $3::jsonb[], $4::text[]) AS t (customer_id, profile, email_key)
             WHERE NOT {erased} ON CONFLICT DO NOTHING"
        );
        sqlx::query(&insert).bind(self.id).bind(ids).bind(profiles).bind(emails).execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(living)
    }
}
