//! An error and its causes in one line, without what may be a customer's.

use crate::transient::is_transient_answer;
use sqlx::error::DatabaseError;
use sqlx::postgres::PgDatabaseError;
use std::error::Error;

/// `the relay failed: connection closed: broken pipe`.
///
/// PostgreSQL's words about a statement may quote a row, and serde's about JSON a value: their code and their place are
/// told instead. PostgreSQL's words about itself (a full disk, a shutdown) stay.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut lines = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let (line, source) = told(error);
        lines.push(line);
        next = source;
    }
    lines.join(": ")
}

/// What is told of an error, and the cause to go on with.
fn told<'e>(error: &'e (dyn Error + 'static)) -> (String, Option<&'e (dyn Error + 'static)>) {
    if let Some(json) = error.downcast_ref::<serde_json::Error>() {
        let (line, column) = (json.line(), json.column());
        return (format!("unfit JSON ({:?}) at line {line} column {column}", json.classify()), None);
    }
    if let Some(answer) = error.downcast_ref::<PgDatabaseError>() {
        return (answered(answer), None);
    }
    match error.downcast_ref::<sqlx::Error>() {
        Some(sqlx::Error::Database(answer)) => (answered(answer.as_ref()), None),
        // These would repeat what their source says.
        Some(sqlx::Error::ColumnDecode { index, source }) => {
            (format!("the column {index} cannot be read"), Some(&**source))
        }
        Some(sqlx::Error::Decode(source)) => ("a value cannot be read".to_owned(), Some(&**source)),
        Some(sqlx::Error::Encode(source)) => ("a value cannot be written".to_owned(), Some(&**source)),
        _ => (error.to_string(), error.source()),
    }
}

/// `PostgreSQL answered 23505 on events_pkey`.
fn answered(answer: &dyn DatabaseError) -> String {
    let code = answer.code();
    let code = code.as_deref().unwrap_or("an error");
    match answer.constraint() {
        Some(constraint) => format!("PostgreSQL answered {code} on {constraint}"),
        None if is_transient_answer(answer) => format!("PostgreSQL answered {code}: {}", answer.message()),
        None => format!("PostgreSQL answered {code}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recorded::RecordedError;
    use sqlx::PgPool;

    #[test]
    fn what_serde_says_of_a_value_is_not_told() {
        let source = serde_json::from_str::<u64>("\n\"ada@old.example\"").unwrap_err();
        let unreadable = RecordedError::Payload {
            aggregate_id: "7".into(),
            version: 2,
            event_type: "updated".into(),
            event_version: "1".into(),
            source,
        };

        assert_eq!(
            chain(&unreadable),
            "the payload of updated 1, event 2 of 7, cannot be read: unfit JSON (Data) at line 2 column 17"
        );
    }

    #[tokio::test]
    async fn what_postgresql_says_of_a_row_is_not_told_and_what_it_says_of_itself_is() {
        let pool = PgPool::connect(&tandem_local::test::database().await.url).await.unwrap();
        let answer = async |sql: &str| chain(&sqlx::raw_sql(sql).execute(&pool).await.unwrap_err());

        let cast = answer("SELECT 'ada@old.example'::integer").await;
        let full = answer("DO $$ BEGIN RAISE EXCEPTION 'No space left' USING ERRCODE = 'disk_full'; END $$").await;

        assert_eq!(cast, "PostgreSQL answered 22P02");
        assert_eq!(full, "PostgreSQL answered 53100: No space left");
    }
}
