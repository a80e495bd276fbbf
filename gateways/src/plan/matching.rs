//! Matching: which customer and which object are one. Done by the database, which holds both sides.
//!
//! Two tables that live as long as the transaction hold of each side only what is matched by, and what came of it.

use sqlx::PgTransaction;

use crate::SurveyError;
use crate::copies::DEAD;
use crate::erase::is_erased;
use crate::survey::Survey;

/// Writes the plan's items and ends the survey, in one transaction.
pub(super) async fn write(survey: &Survey<'_>) -> Result<(), SurveyError> {
    let mut tx = survey.pool().begin().await?;
    begin(&mut tx, survey.id, survey.match_key.as_deref()).await?;
    set_aside(&mut tx, survey.name().as_str()).await?;
    by_our_id(&mut tx, "tandem_id", "claims").await?;
    if survey.match_key.is_some() {
        by_our_id(&mut tx, "metadata", "match_key").await?;
        by_key(&mut tx, "metadata", "match_key").await?;
    }
    by_key(&mut tx, "email", "email_key").await?;
    alone(&mut tx).await?;
    // The planner still believes that nobody has a fate.
    sqlx::query("ANALYZE plan_here (fate), plan_there (fate)").execute(&mut *tx).await?;
    end(&mut tx, survey.id).await?;
    leave_out_the_erased(&mut tx, survey).await?;
    tx.commit().await?;
    Ok(())
}

async fn begin(tx: &mut PgTransaction<'_>, survey: i64, match_key: Option<&str>) -> Result<(), sqlx::Error> {
    // Both sides fit into it, up to some 100,000 customers; more are sorted on disk.
    sqlx::query("SET LOCAL work_mem = '64MB'").execute(&mut **tx).await?;
    let outcome = "fate text, partner text, matched_by text, reason text";
    for statement in [
        format!("CREATE TEMPORARY TABLE plan_here (id text, email_key text, match_key text, {outcome}) ON COMMIT DROP"),
        format!(
            "CREATE TEMPORARY TABLE plan_there (id text, claims text, email_key text, match_key text, {outcome})
             ON COMMIT DROP"
        ),
    ] {
        sqlx::query(&statement).execute(&mut **tx).await?;
    }
    let key = match_key.map(|key| format!("metadata.{key}"));
    for statement in [
        "INSERT INTO plan_here (id, email_key, match_key)
         SELECT customer_id::text, email_key, profile ->> $2 FROM survey_customers WHERE survey_id = $1",
        "INSERT INTO plan_there (id, claims, email_key, match_key)
         SELECT remote_id, customer_id::text, email_key, profile ->> $2 FROM survey_objects WHERE survey_id = $1",
    ] {
        sqlx::query(statement).bind(survey).bind(&key).execute(&mut **tx).await?;
    }
    sqlx::query("ANALYZE plan_here, plan_there").execute(&mut **tx).await?;
    Ok(())
}

/// What is linked, or about to be, is not planned.
async fn set_aside(tx: &mut PgTransaction<'_>, gateway: &str) -> Result<(), sqlx::Error> {
    for statement in [
        "UPDATE plan_here h SET fate = 'linked' FROM links l
         WHERE l.gateway = $1 AND l.customer_id::text = h.id AND (l.remote_id IS NOT NULL OR l.state <> 'active')",
        "UPDATE plan_here h SET fate = 'in_flight' FROM links l JOIN intents i ON i.link_id = l.id AND i.state = 'open'
         WHERE l.gateway = $1 AND l.customer_id::text = h.id AND h.fate IS NULL",
        "UPDATE plan_there t SET fate = 'linked' FROM links l WHERE l.gateway = $1 AND l.remote_id = t.id",
    ] {
        sqlx::query(statement).bind(gateway).execute(&mut **tx).await?;
    }
    sqlx::query(&format!(
        "UPDATE plan_there t
         SET fate = CASE WHEN EXISTS (SELECT FROM intents i WHERE i.link_id = l.id AND i.state = 'open')
                         THEN 'in_flight' ELSE 'duplicate' END,
             matched_by = 'tandem_id', reason = 'it carries the id of a customer that is deleted and was not linked to it'
         FROM links l WHERE t.fate IS NULL AND t.claims IS NOT NULL AND l.gateway = $1 AND l.customer_id = t.claims::uuid
           AND NOT EXISTS (SELECT FROM plan_here h WHERE h.id = t.claims) AND NOT {DEAD}"
    ))
    .bind(gateway)
    .execute(&mut **tx)
    .await?;
    for statement in [
        // The create that is out may have made this object.
        "UPDATE plan_there t SET fate = 'in_flight' FROM plan_here h
         WHERE t.fate IS NULL AND h.id = t.claims AND h.fate = 'in_flight'",
        "UPDATE plan_there t SET fate = 'duplicate', matched_by = 'tandem_id',
                                 reason = 'the customer whose id it carries has another object'
         FROM plan_here h WHERE t.fate IS NULL AND h.id = t.claims AND h.fate = 'linked'",
    ] {
        sqlx::query(statement).execute(&mut **tx).await?;
    }
    Ok(())
}

/// Objects that hold a customer's id in that column. Of several that hold one, a person must say which it is.
async fn by_our_id(tx: &mut PgTransaction<'_>, matched_by: &str, column: &str) -> Result<(), sqlx::Error> {
    let statement = format!(
        "WITH found AS (
             SELECT t.id AS object, h.id AS customer, count(*) OVER (PARTITION BY h.id) AS objects
             FROM plan_there t JOIN plan_here h ON h.id = t.{column} WHERE t.fate IS NULL AND h.fate IS NULL
         ), there AS (
             UPDATE plan_there t
             SET fate = CASE WHEN objects = 1 THEN 'link' ELSE 'ambiguous' END, partner = f.customer, matched_by = $1,
                 reason = CASE WHEN objects > 1 THEN objects || ' objects carry the id of one customer' END
             FROM found f WHERE t.id = f.object
         )
         UPDATE plan_here h
         SET fate = CASE WHEN objects = 1 THEN 'link' ELSE 'ambiguous' END,
             partner = CASE WHEN objects = 1 THEN f.object END, matched_by = $1,
             reason = CASE WHEN objects > 1 THEN objects || ' objects carry the id of one customer' END
         FROM found f WHERE h.id = f.customer"
    );
    sqlx::query(&statement).bind(matched_by).execute(&mut **tx).await?;
    Ok(())
}

/// Customers and objects that hold the same in that column. They are one only if it is there once on each side, among the
/// linked, too; whoever shares it with none of the other side is left to what comes next.
async fn by_key(tx: &mut PgTransaction<'_>, matched_by: &str, column: &str) -> Result<(), sqlx::Error> {
    let statement = format!(
        "WITH here AS (
             SELECT {column} AS held, count(*) AS n, count(*) FILTER (WHERE fate IS NULL) AS free,
                    min(id) FILTER (WHERE fate IS NULL) AS one
             FROM plan_here WHERE {column} IS NOT NULL GROUP BY 1
         ), there AS (
             SELECT {column} AS held, count(*) AS n, count(*) FILTER (WHERE fate IS NULL) AS free,
                    min(id) FILTER (WHERE fate IS NULL) AS one
             FROM plan_there WHERE {column} IS NOT NULL GROUP BY 1
         ), shared AS (
             SELECT held, here.n = 1 AND there.n = 1 AS is_one, here.one AS customer, there.one AS object,
                    CASE WHEN here.n > 1 OR there.n > 1
                         THEN 'with its ' || $1 || ': ' || here.n || ' here, ' || there.n || ' there' END AS reason
             FROM here JOIN there USING (held) WHERE here.free > 0 AND there.free > 0
         ), objects AS (
             UPDATE plan_there t SET fate = CASE WHEN is_one THEN 'link' ELSE 'ambiguous' END, matched_by = $1,
                                     reason = s.reason, partner = CASE WHEN is_one THEN s.customer END
             FROM shared s WHERE t.fate IS NULL AND t.{column} = s.held
         )
         UPDATE plan_here h SET fate = CASE WHEN is_one THEN 'link' ELSE 'ambiguous' END, matched_by = $1,
                                reason = s.reason, partner = CASE WHEN is_one THEN s.object END
         FROM shared s WHERE h.fate IS NULL AND h.{column} = s.held"
    );
    sqlx::query(&statement).bind(matched_by).execute(&mut **tx).await?;
    Ok(())
}

/// Whoever has nobody on the other side is created there, unless its email is there already, or its own side has another
/// with the same.
async fn alone(tx: &mut PgTransaction<'_>) -> Result<(), sqlx::Error> {
    for (table, fate) in [("plan_here", "create_there"), ("plan_there", "create_here")] {
        let statement = format!(
            "WITH free AS (SELECT DISTINCT email_key FROM {table} WHERE fate IS NULL AND email_key IS NOT NULL),
             counted AS (
                 SELECT email_key, sum(here) AS customers, sum(1 - here) AS objects
                 FROM (SELECT email_key, 1 AS here FROM plan_here UNION ALL SELECT email_key, 0 FROM plan_there) sides
                 JOIN free USING (email_key) GROUP BY email_key HAVING count(*) > 1
             )
             UPDATE {table} t SET fate = 'duplicate', matched_by = 'email',
                    reason = 'with its email: ' || c.customers || ' here, ' || c.objects || ' there'
             FROM counted c WHERE t.fate IS NULL AND t.email_key = c.email_key"
        );
        sqlx::query(&statement).execute(&mut **tx).await?;
        let statement = format!("UPDATE {table} SET fate = $1 WHERE fate IS NULL");
        sqlx::query(&statement).bind(fate).execute(&mut **tx).await?;
    }
    Ok(())
}

/// The plan, and the end of the survey: what was read is let go of.
async fn end(tx: &mut PgTransaction<'_>, survey: i64) -> Result<(), sqlx::Error> {
    for statement in [
        "INSERT INTO plan_items (plan_id, n, action, customer_id, remote_id, matched_by, reason, here, there)
         SELECT $1, row_number() OVER (ORDER BY rank, matched_by, customer_id, remote_id), fate, customer_id, remote_id,
                matched_by, reason, here, there
         FROM (
             SELECT array_position(ARRAY['link', 'create_there', 'create_here', 'ambiguous', 'duplicate'], h.fate) AS rank,
                    h.fate, c.customer_id, h.partner AS remote_id, h.matched_by, h.reason, c.profile AS here,
                    o.profile AS there
             FROM plan_here h JOIN survey_customers c ON c.survey_id = $1 AND c.customer_id = h.id::uuid
             LEFT JOIN survey_objects o ON o.survey_id = $1 AND o.remote_id = h.partner
             WHERE h.fate NOT IN ('linked', 'in_flight')
             UNION ALL
             SELECT array_position(ARRAY['link', 'create_there', 'create_here', 'ambiguous', 'duplicate'], t.fate),
                    t.fate, t.partner::uuid, t.id, t.matched_by, t.reason, NULL, o.profile
             FROM plan_there t JOIN survey_objects o ON o.survey_id = $1 AND o.remote_id = t.id
             WHERE t.fate NOT IN ('linked', 'in_flight', 'link')
         ) planned",
        "UPDATE surveys SET
             objects = (SELECT count(*) FROM plan_there),
             customers = (SELECT count(*) FROM plan_here),
             compared = (SELECT count(*) FROM plan_here WHERE fate = 'linked'),
             in_flight = (SELECT count(*) FROM plan_here WHERE fate = 'in_flight'),
             ended_at = clock_timestamp()
         WHERE id = $1",
        "DELETE FROM survey_objects WHERE survey_id = $1",
        "DELETE FROM survey_customers WHERE survey_id = $1",
    ] {
        sqlx::query(statement).bind(survey).execute(&mut **tx).await?;
    }
    Ok(())
}

/// Who was erased while this was planned. The survey's row is locked by now: whoever erases after this sees the items.
async fn leave_out_the_erased(tx: &mut PgTransaction<'_>, survey: &Survey<'_>) -> Result<(), sqlx::Error> {
    let statement = format!(
        "DELETE FROM plan_items WHERE plan_id = $1 AND {}",
        is_erased("$2", "plan_items.customer_id", "plan_items.remote_id")
    );
    sqlx::query(&statement).bind(survey.id).bind(survey.name().as_str()).execute(&mut **tx).await?;
    Ok(())
}
