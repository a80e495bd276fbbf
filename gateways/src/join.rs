//! Joining: a customer and its twin become one link, or are said to be two.

use sqlx::{FromRow, PgTransaction};
use tandem_domain::{GatewayName, RemoteId};
use uuid::Uuid;

use crate::copies::DEAD;
use crate::link::{FREE, Link, Priority, mark_due};
use crate::taken::unless_taken;
use crate::{ParkedError, parked, twins};

/// A link as a join sees it.
#[derive(Debug, FromRow)]
struct Row {
    id: i64,
    customer_id: Uuid,
    remote_id: Option<String>,
    /// It has a customer and no object yet.
    waits_for_an_object: bool,
    /// It has an object and no customer yet.
    waits_for_a_customer: bool,
    calling: bool,
    relabel: bool,
}

/// The two links of a customer and an object, locked, and found to be free for each other.
pub(crate) struct Pair {
    ours: i64,
    theirs: Option<i64>,
    remote_id: RemoteId,
    /// It carries the id of a customer that is dead.
    relabel: bool,
    /// What is parked because it may be the twin of one of them: it is not, any more.
    named: Vec<i64>,
}

/// Locks the links of a customer and an object. `None` if one of them is linked meanwhile, or about to be.
pub(crate) async fn pair(
    tx: &mut PgTransaction<'_>,
    gateway: &GatewayName,
    customer: Uuid,
    remote_id: &RemoteId,
) -> Result<Option<Pair>, sqlx::Error> {
    let sides = [customer.to_string(), remote_id.to_string()];
    let named = twins::naming(&mut **tx, gateway, &sides).await?;
    // In the order of the customers, as everywhere: see mark_due. What is read is read once they are locked.
    sqlx::query(
        "SELECT FROM links WHERE gateway = $1 AND (customer_id = $2 OR remote_id = $3) OR id = ANY($4)
         ORDER BY customer_id FOR UPDATE",
    )
    .bind(gateway.as_str())
    .bind(customer)
    .bind(remote_id.as_str())
    .bind(&named)
    .execute(&mut **tx)
    .await?;
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT id, customer_id, remote_id, relabel,
                state = 'active' AND remote_id IS NULL AND NOT erased AS waits_for_an_object,
                state = 'active' AND base IS NULL AND due_version = 0 AS waits_for_a_customer,
                EXISTS (SELECT FROM intents WHERE link_id = links.id AND intents.state = 'open') AS calling
         FROM links WHERE gateway = $1 AND (customer_id = $2 OR remote_id = $3)",
    )
    .bind(gateway.as_str())
    .bind(customer)
    .bind(remote_id.as_str())
    .fetch_all(&mut **tx)
    .await?;
    let ours = rows.iter().find(|row| row.customer_id == customer && row.waits_for_an_object && !row.calling);
    let theirs = rows.iter().find(|row| row.remote_id.as_deref() == Some(remote_id.as_str()));
    Ok(match (ours, theirs) {
        (Some(_), Some(theirs)) if !theirs.waits_for_a_customer => None,
        (Some(ours), theirs) => Some(Pair {
            ours: ours.id,
            theirs: theirs.map(|row| row.id),
            remote_id: remote_id.clone(),
            relabel: theirs.is_some_and(|row| row.relabel),
            named,
        }),
        (None, _) => None,
    })
}

/// Makes one link of two. Whoever works on either of them loses the lease, and the next run looks at the object, and merges.
///
/// False if the object was imported in this instant: the transaction must be rolled back.
pub(crate) async fn join(tx: &mut PgTransaction<'_>, pair: Pair) -> Result<bool, sqlx::Error> {
    let Pair { ours, theirs, remote_id, relabel, named } = pair;
    // What was rejected of either is tried anew, as `refused` below says.
    sqlx::query(
        "UPDATE parked SET state = CASE kind WHEN 'ambiguous' THEN 'linked' ELSE 'superseded' END,
                           closed_at = clock_timestamp()
         WHERE link_id = ANY($1) AND state = 'open' AND kind IN ('ambiguous', 'rejected')",
    )
    .bind([Some(ours), theirs].into_iter().flatten().collect::<Vec<_>>())
    .execute(&mut **tx)
    .await?;
    if let Some(theirs) = theirs {
        // All that names it, what a verification told of it, too.
        for table in ["inbox", "parked", "drifts"] {
            sqlx::query(&format!("UPDATE {table} SET link_id = $1 WHERE link_id = $2"))
                .bind(ours)
                .bind(theirs)
                .execute(&mut **tx)
                .await?;
        }
        // It had no customer: nothing is lost with it.
        sqlx::query("DELETE FROM links WHERE id = $1").bind(theirs).execute(&mut **tx).await?;
    }
    let statement = format!(
        "UPDATE links SET remote_id = $2, relabel = $3, look = true, ambiguous = false, refused = '{{}}', attempts = 0,
                          not_before = clock_timestamp(), {FREE}
         WHERE id = $1"
    );
    let linking = sqlx::query(&statement).bind(ours).bind(remote_id.as_str()).bind(relabel);
    if unless_taken(tx, linking).await?.is_none() {
        return Ok(false);
    }
    mark_due(tx, &[ours], Priority::Live).await?;
    let others: Vec<i64> = named.into_iter().filter(|link| *link != ours && Some(*link) != theirs).collect();
    look_again(tx, &others).await?;
    Ok(true)
}

/// What a person is asked about.
#[derive(Debug, FromRow)]
struct Question {
    gateway: String,
    kind: String,
    customer_id: Option<Uuid>,
    remote_id: Option<String>,
    candidates: Vec<String>,
    /// The customer is, and its object.
    dead: bool,
}

/// A person says that they are the same. `chosen` is one of the candidates, needed where there are several. A second object whose
/// customer is dead is linked to a customer of its own.
pub(crate) async fn link(tx: &mut PgTransaction<'_>, id: i64, chosen: Option<&str>) -> Result<(), ParkedError> {
    let question = question(tx, id).await?;
    if question.kind == "duplicate" && question.dead {
        return parked::retry(tx, id, Priority::Live).await;
    }
    if question.kind != "ambiguous" {
        return Err(ParkedError::NotAmbiguous);
    }
    let candidate = match (chosen, question.candidates.as_slice()) {
        (Some(chosen), all) if all.iter().any(|one| one == chosen) => chosen,
        (None, [only]) => only,
        _ => return Err(ParkedError::NotACandidate),
    };
    let (customer, remote_id) = match question.remote_id {
        Some(remote_id) => (candidate.parse().map_err(|_| ParkedError::NotACandidate)?, remote_id),
        None => (question.customer_id.ok_or(ParkedError::NotAmbiguous)?, candidate.to_owned()),
    };
    // It was one when it was stored.
    let gateway: GatewayName = question.gateway.parse().map_err(|_| ParkedError::NotParked)?;
    let pair = pair(tx, &gateway, customer, &RemoteId::from(remote_id)).await?.ok_or(ParkedError::Taken)?;
    if join(tx, pair).await? { Ok(()) } else { Err(ParkedError::Taken) }
}

async fn question(tx: &mut PgTransaction<'_>, id: i64) -> Result<Question, ParkedError> {
    sqlx::query_as(&format!(
        "SELECT p.gateway, p.kind, l.customer_id, l.remote_id, p.candidates, COALESCE({DEAD}, false) AS dead
         FROM parked p LEFT JOIN links l ON l.id = p.link_id WHERE p.id = $1 AND p.state = 'open'"
    ))
    .bind(id)
    .fetch_optional(&mut **tx)
    .await?
    .ok_or(ParkedError::NotParked)
}

/// A person says that they are two, in the transaction that closes the question: the link is created or imported, and whatever
/// was held up for its sake is looked at again.
pub(crate) async fn part(tx: &mut PgTransaction<'_>, link_id: i64) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE links SET apart = true WHERE id = $1").bind(link_id).execute(&mut **tx).await?;
    let mut due: Vec<i64> = sqlx::query_scalar(
        "UPDATE parked SET state = 'superseded', closed_at = clock_timestamp() FROM links l
         WHERE l.id = $1 AND parked.gateway = l.gateway AND parked.state = 'open' AND parked.kind = 'ambiguous'
           AND parked.candidates @> ARRAY[COALESCE(l.remote_id, l.customer_id::text)]
         RETURNING parked.link_id",
    )
    .bind(link_id)
    .fetch_all(&mut **tx)
    .await?;
    due.push(link_id);
    look_again(tx, &due).await
}

/// Has both sides looked at again.
pub(crate) async fn look_again(tx: &mut PgTransaction<'_>, links: &[i64]) -> Result<(), sqlx::Error> {
    // Marked first: it locks them in their order.
    mark_due(tx, links, Priority::Live).await?;
    sqlx::query(
        "UPDATE links SET look = remote_id IS NOT NULL, attempts = 0, not_before = clock_timestamp()
         WHERE id = ANY($1)",
    )
    .bind(links)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// The object died before anybody had seen it as the customer's: a death that is none of the customer, who gets another. A
/// link of its own keeps it from being imported by what is told of it late.
pub(crate) async fn let_go(
    tx: &mut PgTransaction<'_>,
    gateway: &GatewayName,
    link: &Link,
    remote_id: &RemoteId,
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE links SET remote_id = NULL, look = false WHERE id = $1")
        .bind(link.id)
        .execute(&mut **tx)
        .await?;
    sqlx::query(
        "INSERT INTO links (gateway, customer_id, remote_id, state, erased) VALUES ($1, $2, $3, 'deleted', true)",
    )
    .bind(gateway.as_str())
    .bind(Uuid::now_v7())
    .bind(remote_id.as_str())
    .execute(&mut **tx)
    .await?;
    // What was told of it meanwhile is for that link: here it would be news of an object that is another's.
    sqlx::query(
        "UPDATE inbox SET state = 'new', link_id = NULL
         WHERE link_id = $1 AND state = 'waiting' AND change ->> 'remote_id' = $2",
    )
    .bind(link.id)
    .bind(remote_id.as_str())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{somebody_waits, stripe, tables};

    const ADA: Uuid = Uuid::from_u128(1);

    #[tokio::test]
    async fn an_object_that_is_imported_in_this_instant_is_joined_to_nobody() -> anyhow::Result<()> {
        let pool = tables().await?;
        sqlx::query("INSERT INTO links (gateway, customer_id) VALUES ('stripe', $1)").bind(ADA).execute(&pool).await?;
        let mut tx = pool.begin().await?;
        let pair = pair(&mut tx, &stripe(), ADA, &RemoteId::from("cus_1".to_owned())).await?;
        let mut import = pool.begin().await?;
        sqlx::query(
            "INSERT INTO links (gateway, customer_id, remote_id) VALUES ('stripe', gen_random_uuid(), 'cus_1')",
        )
        .execute(&mut *import)
        .await?;

        let joining = join(&mut tx, pair.expect("both are free"));
        let importing = async {
            somebody_waits(&pool).await?;
            import.commit().await
        };
        let (joined, imported) = tokio::join!(joining, importing);
        imported?;

        assert!(!joined?);
        Ok(())
    }

    #[tokio::test]
    async fn what_was_rejected_of_both_is_tried_anew() -> anyhow::Result<()> {
        let pool = tables().await?;
        let add = "INSERT INTO links (gateway, customer_id, remote_id) VALUES ('stripe', $1, $2) RETURNING id";
        for (customer, remote_id) in [(ADA, None), (Uuid::from_u128(2), Some("cus_1"))] {
            let link: i64 = sqlx::query_scalar(add).bind(customer).bind(remote_id).fetch_one(&pool).await?;
            sqlx::query("INSERT INTO parked (gateway, link_id, kind, reason) VALUES ('stripe', $1, 'rejected', 'no')")
                .bind(link)
                .execute(&pool)
                .await?;
        }
        let mut tx = pool.begin().await?;
        let pair = pair(&mut tx, &stripe(), ADA, &RemoteId::from("cus_1".to_owned())).await?;

        assert!(join(&mut tx, pair.expect("both are free")).await?);

        let open: i64 =
            sqlx::query_scalar("SELECT count(*) FROM parked WHERE state = 'open'").fetch_one(&mut *tx).await?;
        assert_eq!(open, 0);
        Ok(())
    }
}
