//! The fold: what each event makes of a customer's row.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use cqrs_es::Aggregate;
use quick_cache::sync::Cache;
use sqlx::postgres::{PgArguments, PgRow, Postgres};
use sqlx::query::Query;
use sqlx::types::Json;
use sqlx::{FromRow, PgTransaction, Row};
use tandem_domain::{Customer, CustomerEvent, CustomerId, EmailKey, Field, Profile, name_key, upcasters};
use tandem_eventlog::{Projection, ProjectionError, Recorded, signed, unsigned};
use uuid::Uuid;

use super::NAME;
use super::changes::Changes;
use super::row::{COLUMNS, CustomerRow, State};
use super::version::shows;
use crate::conflicts;

/// How many customers are remembered.
const RECENT: usize = 4096;

/// Of a larger batch some are hardly ever remembered, and to find that out takes as long as to read them.
const FEW: usize = 32;

/// One generation of the read model being kept.
#[derive(Debug)]
pub(super) struct Fold {
    generation: u32,
    /// `None` for a generation that nobody reads yet.
    changes: Option<Changes>,
    /// What the batch that is being applied makes of its customers.
    drafts: Mutex<Drafts>,
    /// What others were made into, as they are in the table for as long as nobody else writes it.
    recent: Cache<Uuid, Draft>,
}

/// A row as it will be written.
#[derive(Debug, Clone)]
struct Draft {
    row: CustomerRow,
    /// The last event's.
    position: u64,
}

type Drafts = HashMap<Uuid, Draft>;

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
        let events = events(batch)?;
        let mut drafts = self.read(transaction, &events).await?;
        for (id, recorded, event) in events {
            let at = (signed(recorded.version), signed(recorded.position));
            conflicts::fold(transaction, self.generation(), id, at, &event).await?;
            fold(&mut drafts, id, recorded, event)?;
        }
        if !drafts.is_empty() {
            let statement = format!("WITH moved AS (SELECT) {WRITE}");
            self.bind(sqlx::query(&statement), &drafts).execute(&mut **transaction).await?;
        }
        self.keep(drafts);
        Ok(())
    }

    fn write(&self, batch: &[Recorded]) -> Option<Query<'static, Postgres, PgArguments>> {
        if batch.len() > FEW {
            return None;
        }
        // `apply` says what is wrong with them.
        let events = events(batch).ok()?;
        let mut drafts = Drafts::new();
        for (id, recorded, event) in events {
            if conflicts::concerns(&event) {
                return None;
            }
            if let Entry::Vacant(vacant) = drafts.entry(id)
                && !matches!(event, CustomerEvent::Created { .. })
            {
                vacant.insert(self.recent.get(&id)?);
            }
            fold(&mut drafts, id, recorded, event).ok()?;
        }
        let write = self.bind(sqlx::query(WRITE), &drafts);
        self.keep(drafts);
        Some(write)
    }

    async fn applied(&self, _batch: &[Recorded]) {
        let Some(changes) = &self.changes else { return };
        let drafts = std::mem::take(&mut *self.drafts.lock().unwrap_or_else(PoisonError::into_inner));
        changes.tell(changes.wants(drafts.len()).then(|| drafts.values().map(|draft| draft.row.clone()).collect()));
        for (id, draft) in drafts {
            self.recent.insert(id, draft);
        }
    }

    fn forget(&self) {
        self.recent.clear();
    }
}

/// Writes all rows by one statement.
const WRITE: &str = "
    INSERT INTO customer_rows
        (generation, id, state, profile, name_key, email_key, version, seen, position, created_at, updated_at)
    SELECT $1, drafts.*
    FROM moved, unnest($2::uuid[], $3::text[], $4::jsonb[], $5::text[], $6::text[], $7::bigint[], $8::bigint[],
                       $9::bigint[], $10::timestamptz[], $11::timestamptz[]) AS drafts
    ON CONFLICT (generation, id) DO UPDATE SET
        state = excluded.state, profile = excluded.profile, name_key = excluded.name_key,
        email_key = excluded.email_key, version = excluded.version, seen = excluded.seen,
        position = excluded.position, created_at = excluded.created_at, updated_at = excluded.updated_at";

/// The customers' events of a batch.
fn events(batch: &[Recorded]) -> Result<Vec<(Uuid, &Recorded, CustomerEvent)>, ProjectionError> {
    let upcasters = upcasters();
    let of_customers = batch.iter().filter(|recorded| recorded.aggregate_type == Customer::TYPE);
    let events = of_customers.map(|recorded| {
        let id = recorded.aggregate_id.parse().map_err(|error| unfit(Unfit::Id(error)))?;
        Ok((id, recorded, recorded.event::<Customer>(&upcasters)?))
    });
    events.collect()
}

/// Takes one event in.
fn fold(drafts: &mut Drafts, id: Uuid, recorded: &Recorded, event: CustomerEvent) -> Result<(), ProjectionError> {
    let Recorded { version, position, .. } = *recorded;
    if let CustomerEvent::Created { profile, at } = event {
        let (created_at, updated_at, state) = (at, at, State::Active);
        let name_key = key_of_name(&profile);
        let id = CustomerId(id);
        let row = CustomerRow { id, state, profile, version, seen: version, created_at, updated_at, name_key };
        drafts.insert(id.0, Draft { row, position });
        return Ok(());
    }
    let draft = drafts.get_mut(&id).ok_or_else(|| unfit(Unfit::Unborn))?;
    draft.position = position;
    let row = &mut draft.row;
    row.seen = version;
    if shows(&event) {
        row.version = version;
    }
    match event {
        // Above.
        CustomerEvent::Created { .. } => {}
        CustomerEvent::Updated { changes, at } => {
            for (field, change) in changes {
                row.profile.set(field, change.after);
            }
            row.updated_at = at;
        }
        CustomerEvent::Deleted { at } => {
            row.state = State::Deleted;
            row.updated_at = at;
        }
        CustomerEvent::Erased { .. } => row.profile = Profile::default(),
        CustomerEvent::Linked { .. }
        | CustomerEvent::Unlinked { .. }
        | CustomerEvent::ConflictOpened(_)
        | CustomerEvent::ConflictResolved(_) => {}
    }
    row.name_key = key_of_name(&row.profile);
    Ok(())
}

/// Empty without a name: those come first.
fn key_of_name(profile: &Profile) -> String {
    profile.text(&Field::Name).map(name_key).unwrap_or_default()
}

impl FromRow<'_, PgRow> for Draft {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self { row: CustomerRow::from_row(row)?, position: unsigned(row.try_get("position")?) })
    }
}

impl Fold {
    /// Of that generation; its news are told there.
    pub(super) fn new(generation: u32, changes: Option<Changes>) -> Self {
        Self { generation, changes, drafts: Mutex::default(), recent: Cache::new(RECENT) }
    }

    async fn read(
        &self,
        transaction: &mut PgTransaction<'_>,
        events: &[(Uuid, &Recorded, CustomerEvent)],
    ) -> Result<Drafts, sqlx::Error> {
        let ids: Vec<Uuid> = events
            .iter()
            .filter(|(.., event)| !matches!(event, CustomerEvent::Created { .. }))
            .map(|(id, ..)| *id)
            .collect();
        if ids.is_empty() {
            return Ok(Drafts::new());
        }
        let drafts: Vec<Draft> = sqlx::query_as(&format!(
            "SELECT {COLUMNS}, position FROM customer_rows WHERE generation = $1 AND id = ANY($2)"
        ))
        .bind(self.generation())
        .bind(ids)
        .fetch_all(&mut **transaction)
        .await?;
        Ok(drafts.into_iter().map(|draft| (draft.row.id.0, draft)).collect())
    }

    /// What [`WRITE`] writes.
    fn bind<'q>(&self, write: Query<'q, Postgres, PgArguments>, drafts: &Drafts) -> Query<'q, Postgres, PgArguments> {
        let (mut ids, mut states, mut profiles, mut names, mut emails) = (vec![], vec![], vec![], vec![], vec![]);
        let (mut versions, mut seen, mut positions, mut created, mut updated) =
            (vec![], vec![], vec![], vec![], vec![]);
        for Draft { row, position } in drafts.values() {
            ids.push(row.id.0);
            states.push(row.state.as_str());
            profiles.push(Json(row.profile.clone()));
            names.push(row.name_key.clone());
            emails.push(EmailKey::of_profile(&row.profile).map(|key| key.stored()));
            versions.push(signed(row.version));
            seen.push(signed(row.seen));
            positions.push(signed(*position));
            created.push(row.created_at);
            updated.push(row.updated_at);
        }
        write
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
    }

    /// Keeps what a batch makes of its customers until that is committed.
    fn keep(&self, drafts: Drafts) {
        *self.drafts.lock().unwrap_or_else(PoisonError::into_inner) = drafts;
    }

    fn generation(&self) -> i32 {
        i32::try_from(self.generation).unwrap_or(i32::MAX)
    }
}

fn unfit(unfit: Unfit) -> ProjectionError {
    ProjectionError::CannotApply(Box::new(unfit))
}
