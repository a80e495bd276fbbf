//! The fold: what each event makes of a customer's row.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use cqrs_es::Aggregate;
use sqlx::PgTransaction;
use sqlx::types::Json;
use tandem_domain::{Customer, CustomerEvent, CustomerId, Field, Profile, upcasters};
use tandem_eventlog::{Projection, ProjectionError, Recorded, signed, unsigned};
use uuid::Uuid;

use super::NAME;
use super::changes::Changes;
use super::row::{CustomerRow, State};
use super::version::shows;
use crate::conflicts;

/// One generation of the read model being kept.
#[derive(Debug)]
pub(super) struct Fold {
    generation: u32,
    /// `None` for a generation that nobody reads yet.
    changes: Option<Changes>,
    /// What the batch that is being applied makes of its customers, if somebody waits.
    rows: Mutex<Option<Vec<CustomerRow>>>,
}

/// A row as it will be written.
#[derive(Debug, Clone)]
struct Draft {
    deleted: bool,
    profile: Profile,
    version: i64,
    seen: i64,
    position: i64,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

/// An event that no row can be made of.
#[derive(Debug, thiserror::Error)]
enum Unfit {
    #[error("the aggregate id is no UUID")]
    Id(#[source] uuid::Error),
    #[error("something happened to a customer before it was created")]
    Unborn,
}

#[async_trait]
impl Projection for Fold {
    fn name(&self) -> &str {
        NAME
    }

    async fn apply(&self, transaction: &mut PgTransaction<'_>, batch: &[Recorded]) -> Result<(), ProjectionError> {
        let upcasters = upcasters();
        let events: Vec<(Uuid, &Recorded, CustomerEvent)> = batch
            .iter()
            .filter(|recorded| recorded.aggregate_type == Customer::TYPE)
            .map(|recorded| {
                let id = recorded.aggregate_id.parse().map_err(|error| unfit(Unfit::Id(error)))?;
                Ok((id, recorded, recorded.event::<Customer>(&upcasters)?))
            })
            .collect::<Result<_, ProjectionError>>()?;
        let mut drafts = self.read(transaction, &events).await?;
        for (id, recorded, event) in events {
            let at = (signed(recorded.version), signed(recorded.position));
            conflicts::fold(transaction, self.generation(), id, at, &event).await?;
            fold(&mut drafts, id, recorded, event)?;
        }
        let wanted = self.changes.as_ref().is_some_and(|changes| changes.wants(drafts.len()));
        let rows = wanted.then(|| drafts.iter().map(|(id, draft)| draft.as_row(*id)).collect());
        *self.rows.lock().unwrap_or_else(PoisonError::into_inner) = rows;
        self.write(transaction, drafts).await
    }

    async fn applied(&self, _batch: &[Recorded]) {
        if let Some(changes) = &self.changes {
            changes.tell(self.rows.lock().unwrap_or_else(PoisonError::into_inner).take());
        }
    }
}

/// Takes one event in.
fn fold(
    drafts: &mut HashMap<Uuid, Draft>,
    id: Uuid,
    recorded: &Recorded,
    event: CustomerEvent,
) -> Result<(), ProjectionError> {
    let (number, position) = (signed(recorded.version), signed(recorded.position));
    if let CustomerEvent::Created { profile, at } = event {
        let draft =
            Draft { deleted: false, profile, version: number, seen: number, position, created_at: at, updated_at: at };
        drafts.insert(id, draft);
        return Ok(());
    }
    let draft = drafts.get_mut(&id).ok_or_else(|| unfit(Unfit::Unborn))?;
    draft.seen = number;
    draft.position = position;
    if shows(&event) {
        draft.version = number;
    }
    match event {
        // Above.
        CustomerEvent::Created { .. } => {}
        CustomerEvent::Updated { changes, at } => {
            for (field, change) in changes {
                draft.profile.set(field, change.after);
            }
            draft.updated_at = at;
        }
        CustomerEvent::Deleted { at } => {
            draft.deleted = true;
            draft.updated_at = at;
        }
        CustomerEvent::Erased { .. } => draft.profile = Profile::default(),
        CustomerEvent::Linked { .. }
        | CustomerEvent::Unlinked { .. }
        | CustomerEvent::ConflictOpened(_)
        | CustomerEvent::ConflictResolved(_) => {}
    }
    Ok(())
}

impl Draft {
    fn as_row(&self, id: Uuid) -> CustomerRow {
        CustomerRow {
            id: CustomerId(id),
            state: if self.deleted { State::Deleted } else { State::Active },
            profile: self.profile.clone(),
            version: unsigned(self.version),
            seen: unsigned(self.seen),
            created_at: self.created_at,
            updated_at: self.updated_at,
            name_key: self.key(Field::Name).unwrap_or_default(),
        }
    }

    /// A text as it is searched for.
    fn key(&self, field: Field) -> Option<String> {
        self.profile.text(&field).map(str::to_lowercase)
    }
}

impl Fold {
    /// Of that generation; its news are told there.
    pub(super) fn new(generation: u32, changes: Option<Changes>) -> Self {
        Self { generation, changes, rows: Mutex::default() }
    }

    async fn read(
        &self,
        transaction: &mut PgTransaction<'_>,
        events: &[(Uuid, &Recorded, CustomerEvent)],
    ) -> Result<HashMap<Uuid, Draft>, sqlx::Error> {
        let ids: Vec<Uuid> = events
            .iter()
            .filter(|(.., event)| !matches!(event, CustomerEvent::Created { .. }))
            .map(|(id, ..)| *id)
            .collect();
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        type Columns = (Uuid, bool, Json<Profile>, i64, i64, i64, DateTime<Utc>, DateTime<Utc>);
        let rows: Vec<Columns> = sqlx::query_as(
            "SELECT id, state = 'deleted', profile, version, seen, position, created_at, updated_at
             FROM customer_rows WHERE generation = $1 AND id = ANY($2)",
        )
        .bind(self.generation())
        .bind(ids)
        .fetch_all(&mut **transaction)
        .await?;
        let draft = |(id, deleted, Json(profile), version, seen, position, created_at, updated_at): Columns| {
            (id, Draft { deleted, profile, version, seen, position, created_at, updated_at })
        };
        Ok(rows.into_iter().map(draft).collect())
    }

    /// Writes all rows by one statement.
    async fn write(
        &self,
        transaction: &mut PgTransaction<'_>,
        drafts: HashMap<Uuid, Draft>,
    ) -> Result<(), ProjectionError> {
        if drafts.is_empty() {
            return Ok(());
        }
        let mut ids = Vec::with_capacity(drafts.len());
        let (mut states, mut profiles, mut names, mut emails) = (vec![], vec![], vec![], vec![]);
        let (mut versions, mut seen, mut positions, mut created, mut updated) =
            (vec![], vec![], vec![], vec![], vec![]);
        for (id, draft) in drafts {
            ids.push(id);
            states.push(if draft.deleted { "deleted" } else { "active" });
            names.push(draft.key(Field::Name).unwrap_or_default());
            emails.push(draft.key(Field::Email));
            versions.push(draft.version);
            seen.push(draft.seen);
            positions.push(draft.position);
            created.push(draft.created_at);
            updated.push(draft.updated_at);
            profiles.push(Json(draft.profile));
        }
        sqlx::query(
            "INSERT INTO customer_rows
                 (generation, id, state, profile, name_key, email_key, version, seen, position, created_at, updated_at)
             SELECT $1, * FROM unnest($2::uuid[], $3::text[], $4::jsonb[], $5::text[], $6::text[], $7::bigint[],
                                      $8::bigint[], $9::bigint[], $10::timestamptz[], $11::timestamptz[])
             ON CONFLICT (generation, id) DO UPDATE SET
                 state = excluded.state, profile = excluded.profile, name_key = excluded.name_key,
                 email_key = excluded.email_key, version = excluded.version, seen = excluded.seen,
                 position = excluded.position, created_at = excluded.created_at, updated_at = excluded.updated_at",
        )
        .bind(self.generation())
        .bind(ids)
        .bind(states)
        .bind(profiles)
        .bind(names)
        .bind(emails)
        .bind(versions)
        .bind(seen)
        .bind(positions)
        .bind(created)
        .bind(updated)
        .execute(&mut **transaction)
        .await?;
        Ok(())
    }

    fn generation(&self) -> i32 {
        i32::try_from(self.generation).unwrap_or(i32::MAX)
    }
}

fn unfit(unfit: Unfit) -> ProjectionError {
    ProjectionError::CannotApply(Box::new(unfit))
}
