//! What seems to differ by a survey, page by page.

use sqlx::types::Json;
use tandem_domain::{CustomerId, Profile, RemoteId, Spellings, differences};
use uuid::Uuid;

use crate::SurveyError;
use crate::survey::Survey;

/// Something that seems to differ.
#[derive(Clone, Debug)]
pub(super) enum Candidate {
    /// A link whose sides are not the same.
    Link(i64),
    /// An object that no link knows; and whose copy it says it is.
    Object(RemoteId, Option<CustomerId>),
    /// A living customer without a link.
    Customer(CustomerId),
}

/// A page of them.
pub(super) struct Candidates {
    pub found: Vec<Candidate>,
    /// Where the next page begins; `None` if this part is done.
    pub next: Option<String>,
}

/// How many parts the comparison has.
pub(super) const PARTS: i32 = 3;

/// The next page of a part.
pub(super) async fn page(survey: &Survey<'_>, part: i32, after: &str, limit: i64) -> Result<Candidates, SurveyError> {
    match part {
        0 => links(survey, after, limit).await,
        1 => objects(survey, after, limit).await,
        _ => customers(survey, after, limit).await,
    }
}

type Linked = (i64, Option<Json<Profile>>, Option<Json<Profile>>, Json<Spellings>, bool);

async fn links(survey: &Survey<'_>, after: &str, limit: i64) -> Result<Candidates, SurveyError> {
    let rows: Vec<Linked> = sqlx::query_as(
        // Of the unlinked nothing is compared. Where neither side lives, both are dead.
        "SELECT l.id, c.profile, o.profile, l.spellings, l.state = 'active'
         FROM links l
         LEFT JOIN survey_customers c ON c.survey_id = $1 AND c.customer_id = l.customer_id
         LEFT JOIN survey_objects o ON o.survey_id = $1 AND o.remote_id = l.remote_id
         WHERE l.gateway = $2 AND l.id > COALESCE(NULLIF($3, '')::bigint, 0) AND l.state <> 'unlinked'
           AND (c.profile IS DISTINCT FROM o.profile OR l.state = 'deleted' AND c.customer_id IS NOT NULL)
         ORDER BY l.id LIMIT $4",
    )
    .bind(survey.id)
    .bind(survey.name().as_str())
    .bind(after)
    .bind(limit)
    .fetch_all(survey.pool())
    .await?;
    let next = next(rows.len(), limit, rows.last().map(|row| row.0.to_string()));
    let differ = |(_, here, there, Json(spellings), active): &Linked| match (here, there) {
        // The gateway's known spelling of our value is no difference.
        (Some(Json(here)), Some(Json(there))) if *active => !differences(here, there, spellings).is_empty(),
        _ => true,
    };
    let found = rows.iter().filter(|row| differ(row)).map(|row| Candidate::Link(row.0)).collect();
    Ok(Candidates { found, next })
}

async fn objects(survey: &Survey<'_>, after: &str, limit: i64) -> Result<Candidates, SurveyError> {
    let rows: Vec<(String, Option<Uuid>)> = sqlx::query_as(
        "SELECT o.remote_id, o.customer_id FROM survey_objects o
         WHERE o.survey_id = $1 AND o.remote_id > $3
           AND NOT EXISTS (SELECT FROM links l WHERE l.gateway = $2 AND l.remote_id = o.remote_id)
         ORDER BY o.remote_id LIMIT $4",
    )
    .bind(survey.id)
    .bind(survey.name().as_str())
    .bind(after)
    .bind(limit)
    .fetch_all(survey.pool())
    .await?;
    let next = next(rows.len(), limit, rows.last().map(|row| row.0.clone()));
    let object = |(id, customer): (String, Option<Uuid>)| Candidate::Object(id.into(), customer.map(CustomerId));
    Ok(Candidates { found: rows.into_iter().map(object).collect(), next })
}

async fn customers(survey: &Survey<'_>, after: &str, limit: i64) -> Result<Candidates, SurveyError> {
    let rows: Vec<Uuid> = sqlx::query_scalar(
        "SELECT c.customer_id FROM survey_customers c
         WHERE c.survey_id = $1 AND ($3 = '' OR c.customer_id > NULLIF($3, '')::uuid)
           AND NOT EXISTS (SELECT FROM links l WHERE l.gateway = $2 AND l.customer_id = c.customer_id)
         ORDER BY c.customer_id LIMIT $4",
    )
    .bind(survey.id)
    .bind(survey.name().as_str())
    .bind(after)
    .bind(limit)
    .fetch_all(survey.pool())
    .await?;
    let next = next(rows.len(), limit, rows.last().map(Uuid::to_string));
    Ok(Candidates { found: rows.into_iter().map(|id| Candidate::Customer(CustomerId(id))).collect(), next })
}

fn next(rows: usize, limit: i64, last: Option<String>) -> Option<String> {
    last.filter(|_| rows as i64 == limit)
}
