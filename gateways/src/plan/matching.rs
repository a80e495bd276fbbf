//! Matching: which customer and which object are one. Done by the database, which holds both sides.

use sqlx::PgTransaction;

use crate::SurveyError;
use crate::survey::Survey;

/// Writes the plan's items and ends the survey, in one transaction.
pub(super) async fn write(survey: &Survey<'_>, match_key: Option<&str>) -> Result<(), SurveyError> {
    let mut tx = survey.pool().begin().await?;
    set_aside(&mut tx, survey).await?;
    by_our_id(&mut tx, survey.id, "tandem_id", "o.customer_id::text", None).await?;
    if let Some(key) = match_key {
        let key = format!("metadata.{key}");
        by_our_id(&mut tx, survey.id, "metadata", "o.profile ->> $3", Some(&key)).await?;
        by_key(&mut tx, survey.id, "metadata", "profile ->> $3", Some(&key)).await?;
    }
    by_key(&mut tx, survey.id, "email", "email_key", None).await?;
    alone(&mut tx, survey.id).await?;
    items(&mut tx, survey.id).await?;
    tx.commit().await?;
    Ok(())
}

/// What is linked, or about to be, is not planned.
async fn set_aside(tx: &mut PgTransaction<'_>, survey: &Survey<'_>) -> Result<(), sqlx::Error> {
    let statements = [
        "UPDATE survey_customers c SET fate = 'linked' FROM links l
         WHERE c.survey_id = $1 AND l.gateway = $2 AND l.customer_id = c.customer_id
           AND (l.remote_id IS NOT NULL OR l.state <> 'active')",
        "UPDATE survey_customers c SET fate = 'in_flight' FROM links l JOIN intents i ON i.link_id = l.id AND i.state = 'open'
         WHERE c.survey_id = $1 AND l.gateway = $2 AND l.customer_id = c.customer_id AND c.fate IS NULL",
        "UPDATE survey_objects o SET fate = 'linked' FROM links l
         WHERE o.survey_id = $1 AND l.gateway = $2 AND l.remote_id = o.remote_id",
        // The create that is out may have made this object.
        "UPDATE survey_objects o SET fate = 'in_flight' FROM survey_customers c
         WHERE o.survey_id = $1 AND $2 <> '' AND o.fate IS NULL AND c.survey_id = $1
           AND c.customer_id = o.customer_id AND c.fate = 'in_flight'",
        "UPDATE survey_objects o SET fate = 'duplicate', matched_by = 'tandem_id',
                                     reason = 'the customer whose id it carries has another object'
         FROM survey_customers c
         WHERE o.survey_id = $1 AND $2 <> '' AND o.fate IS NULL AND c.survey_id = $1
           AND c.customer_id = o.customer_id AND c.fate = 'linked'",
    ];
    for statement in statements {
        sqlx::query(statement).bind(survey.id).bind(survey.name().as_str()).execute(&mut **tx).await?;
    }
    Ok(())
}

/// Objects that carry a customer's id. Of several that carry one, a person must say which it is.
async fn by_our_id(
    tx: &mut PgTransaction<'_>,
    survey: i64,
    matched_by: &str,
    id: &str,
    key: Option<&str>,
) -> Result<(), sqlx::Error> {
    let statement = format!(
        "WITH pairs AS (
             SELECT o.remote_id, c.customer_id, count(*) OVER (PARTITION BY c.customer_id) AS objects
             FROM survey_objects o JOIN survey_customers c ON c.customer_id::text = {id} AND c.survey_id = $1
             WHERE o.survey_id = $1 AND o.fate IS NULL AND c.fate IS NULL AND ($3::text IS NULL OR $3 <> '')
         ), found AS (
             SELECT remote_id, customer_id, CASE WHEN objects = 1 THEN 'link' ELSE 'ambiguous' END AS fate,
                    CASE WHEN objects > 1 THEN objects || ' objects carry the id of one customer' END AS reason
             FROM pairs
         ), there AS (
             UPDATE survey_objects o SET fate = f.fate, partner = f.customer_id, matched_by = $2, reason = f.reason
             FROM found f WHERE o.survey_id = $1 AND o.remote_id = f.remote_id
         )
         UPDATE survey_customers c SET fate = f.fate, partner = CASE WHEN f.fate = 'link' THEN f.remote_id END,
                                       matched_by = $2, reason = f.reason
         FROM (SELECT DISTINCT ON (customer_id) * FROM found ORDER BY customer_id, remote_id) f
         WHERE c.survey_id = $1 AND c.customer_id = f.customer_id"
    );
    sqlx::query(&statement).bind(survey).bind(matched_by).bind(key).execute(&mut **tx).await?;
    Ok(())
}

/// Customers and objects that hold the same under a key. They are one only if the key is there once on each side, among
/// the linked, too; whoever shares it with none of the other side is left to what comes next.
async fn by_key(
    tx: &mut PgTransaction<'_>,
    survey: i64,
    matched_by: &str,
    held: &str,
    key: Option<&str>,
) -> Result<(), sqlx::Error> {
    let statement = format!(
        "WITH here AS (
             SELECT {held} AS held, count(*) AS n, count(*) FILTER (WHERE fate IS NULL) AS free,
                    min(customer_id::text) FILTER (WHERE fate IS NULL) AS one
             FROM survey_customers WHERE survey_id = $1 AND ($3::text IS NULL OR $3 <> '') GROUP BY 1
         ), there AS (
             SELECT {held} AS held, count(*) AS n, count(*) FILTER (WHERE fate IS NULL) AS free,
                    min(remote_id) FILTER (WHERE fate IS NULL) AS one
             FROM survey_objects WHERE survey_id = $1 GROUP BY 1
         ), shared AS (
             SELECT held, CASE WHEN here.n = 1 AND there.n = 1 THEN 'link' ELSE 'ambiguous' END AS fate,
                    here.one AS customer, there.one AS object,
                    CASE WHEN here.n > 1 OR there.n > 1
                         THEN here.n || ' customers and ' || there.n || ' objects share its ' || $2 END AS reason
             FROM here JOIN there USING (held)
             WHERE held IS NOT NULL AND here.free > 0 AND there.free > 0
         ), objects AS (
             UPDATE survey_objects o SET fate = s.fate, matched_by = $2, reason = s.reason,
                                         partner = CASE WHEN s.fate = 'link' THEN s.customer::uuid END
             FROM shared s WHERE o.survey_id = $1 AND o.fate IS NULL AND {held} = s.held
         )
         UPDATE survey_customers c SET fate = s.fate, matched_by = $2, reason = s.reason,
                                       partner = CASE WHEN s.fate = 'link' THEN s.object END
         FROM shared s WHERE c.survey_id = $1 AND c.fate IS NULL AND {held} = s.held"
    );
    sqlx::query(&statement).bind(survey).bind(matched_by).bind(key).execute(&mut **tx).await?;
    Ok(())
}

/// Whoever has nobody on the other side is created there, unless its email is there already, or its own side has another
/// with the same.
async fn alone(tx: &mut PgTransaction<'_>, survey: i64) -> Result<(), sqlx::Error> {
    for (table, fate) in [("survey_customers", "create_there"), ("survey_objects", "create_here")] {
        let statement = format!(
            "WITH held AS (
                 SELECT email_key, count(*) FILTER (WHERE side = 'survey_customers') AS customers,
                        count(*) FILTER (WHERE side = 'survey_objects') AS objects
                 FROM (SELECT email_key, 'survey_customers' AS side FROM survey_customers WHERE survey_id = $1
                       UNION ALL SELECT email_key, 'survey_objects' FROM survey_objects WHERE survey_id = $1) sides
                 WHERE email_key IS NOT NULL GROUP BY email_key HAVING count(*) > 1
             )
             UPDATE {table} t SET fate = 'duplicate', matched_by = 'email',
                    reason = held.customers || ' customers and ' || held.objects || ' objects have its email'
             FROM held WHERE t.survey_id = $1 AND t.fate IS NULL AND t.email_key = held.email_key"
        );
        sqlx::query(&statement).bind(survey).execute(&mut **tx).await?;
        let statement = format!("UPDATE {table} SET fate = $2 WHERE survey_id = $1 AND fate IS NULL");
        sqlx::query(&statement).bind(survey).bind(fate).execute(&mut **tx).await?;
    }
    Ok(())
}

/// The plan, and the end of the survey: what was read is let go of.
async fn items(tx: &mut PgTransaction<'_>, survey: i64) -> Result<(), sqlx::Error> {
    let statements = [
        "INSERT INTO plan_items (plan_id, n, action, customer_id, remote_id, matched_by, reason, here, there)
         SELECT $1, row_number() OVER (ORDER BY rank, matched_by, customer_id, remote_id), action, customer_id, remote_id,
                matched_by, reason, here, there
         FROM (
             SELECT array_position(ARRAY['link', 'create_there', 'create_here', 'ambiguous', 'duplicate'], fate) AS rank,
                    fate AS action, c.customer_id, c.partner AS remote_id, c.matched_by, c.reason, c.profile AS here,
                    (SELECT profile FROM survey_objects o WHERE o.survey_id = $1 AND o.remote_id = c.partner) AS there
             FROM survey_customers c WHERE c.survey_id = $1 AND c.fate NOT IN ('linked', 'in_flight')
             UNION ALL
             SELECT array_position(ARRAY['link', 'create_there', 'create_here', 'ambiguous', 'duplicate'], fate),
                    fate, o.partner, o.remote_id, o.matched_by, o.reason, NULL, o.profile
             FROM survey_objects o WHERE o.survey_id = $1 AND o.fate NOT IN ('linked', 'in_flight', 'link')
         ) planned",
        "UPDATE surveys SET
             objects = (SELECT count(*) FROM survey_objects WHERE survey_id = $1),
             customers = (SELECT count(*) FROM survey_customers WHERE survey_id = $1),
             compared = (SELECT count(*) FROM survey_customers WHERE survey_id = $1 AND fate = 'linked'),
             in_flight = (SELECT count(*) FROM survey_customers WHERE survey_id = $1 AND fate = 'in_flight'),
             ended_at = clock_timestamp()
         WHERE id = $1",
        "DELETE FROM survey_objects WHERE survey_id = $1",
        "DELETE FROM survey_customers WHERE survey_id = $1",
    ];
    for statement in statements {
        sqlx::query(statement).bind(survey).execute(&mut **tx).await?;
    }
    Ok(())
}
