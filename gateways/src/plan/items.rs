//! The items of a plan, as they are told.

use serde::{Deserialize, Serialize};
use sqlx::{FromRow, PgPool};
use tandem_domain::{CustomerId, Profile, RemoteId, Spellings, differences};
use uuid::Uuid;

use crate::FieldDrift;

/// What a plan says is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, sqlx::Type)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum Action {
    /// Customer and object are one: keep them in step from now on.
    Link,
    /// The customer is not there yet: create it.
    CreateThere,
    /// The object is not here yet: import it.
    CreateHere,
    /// It may belong to several: a person must say to which.
    Ambiguous,
    /// Its own side has another of the same kind: likely one person twice. Carried out only where it is asked for by name:
    /// then each is created on the other side, too.
    Duplicate,
}

impl Action {
    /// Its name, as it is told and stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Link => "link",
            Self::CreateThere => "create_there",
            Self::CreateHere => "create_here",
            Self::Ambiguous => "ambiguous",
            Self::Duplicate => "duplicate",
        }
    }
}

/// One item of a plan.
#[derive(Clone, Debug, FromRow)]
pub struct Item {
    /// Its number in the plan.
    pub n: i64,
    /// What is to be done.
    pub action: Action,
    /// With which customer.
    pub customer_id: Option<Uuid>,
    /// With which object.
    pub remote_id: Option<String>,
    /// By what they were matched.
    pub matched_by: Option<String>,
    /// Why a person must look.
    pub reason: Option<String>,
    /// `planned`, `done`, or `changed`: a side had changed since, and it was left.
    pub state: String,
    #[sqlx(json(nullable))]
    pub(super) here: Option<Profile>,
    #[sqlx(json(nullable))]
    pub(super) there: Option<Profile>,
}

impl Item {
    /// Where both sides of a pair differ; of one side alone, what it holds.
    pub fn fields(&self) -> Vec<FieldDrift> {
        let (nothing, none) = (Profile::default(), Spellings::new());
        let (here, there) = (self.here.as_ref().unwrap_or(&nothing), self.there.as_ref().unwrap_or(&nothing));
        let differing = differences(here, there, &none);
        let fields = differing.iter().map(|(field, _)| field);
        fields
            .map(|field| FieldDrift {
                here: here.get(field).cloned(),
                there: there.get(field).cloned(),
                field: field.clone(),
            })
            .collect()
    }

    pub(super) fn customer(&self) -> Option<CustomerId> {
        self.customer_id.map(CustomerId)
    }

    pub(super) fn remote(&self) -> Option<RemoteId> {
        self.remote_id.clone().map(RemoteId::from)
    }
}

/// A page of a plan's items after that number, of all kinds or of one.
///
/// # Errors
/// The database is unavailable.
pub async fn items(
    pool: &PgPool,
    plan: i64,
    action: Option<Action>,
    after: i64,
    limit: i64,
) -> Result<Vec<Item>, sqlx::Error> {
    sqlx::query_as(
        "SELECT n, action, customer_id, remote_id, matched_by, reason, state, here, there FROM plan_items
         WHERE plan_id = $1 AND n > $2 AND ($3::text IS NULL OR action = $3) ORDER BY n LIMIT $4",
    )
    .bind(plan)
    .bind(after)
    .bind(action.map(Action::as_str))
    .bind(limit)
    .fetch_all(pool)
    .await
}
