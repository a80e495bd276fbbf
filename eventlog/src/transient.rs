//! Which database errors pass by themselves.

use sqlx::error::DatabaseError;

/// Whether trying again later can help: the connection broke, the server restarts or takes no writes, locks or resources
/// ran out.
///
/// Everything else (a violated constraint, a value that does not fit, a missing table) comes back the same each time.
pub fn is_transient(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::BeginFailed => true,
        sqlx::Error::Database(answer) => is_transient_answer(answer.as_ref()),
        _ => false,
    }
}

/// Whether it is for what is stored, or was to be stored: it cannot be read, or is not allowed. What else there is (a role, a right or a
/// table that is not there in a failover) is mended elsewhere, and is no reason to take what is stored for broken.
pub(crate) fn is_of_the_data(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Decode(_) | sqlx::Error::ColumnDecode { .. } => true,
        // 22 data exceptions, 23 constraints, 54 limits such as that of an index row.
        sqlx::Error::Database(answer) => {
            answer.code().is_some_and(|code| ["22", "23", "54"].iter().any(|class| code.starts_with(class)))
        }
        _ => false,
    }
}

/// The same as [`is_transient`] of what the server answered.
pub(crate) fn is_transient_answer(answer: &dyn DatabaseError) -> bool {
    answer.code().is_some_and(|code| {
        // A standby, or a server that is set read-only for a while.
        if code == "25006" {
            return true;
        }
        // 08 connection, 40 rollback (deadlock, serialization), 53 resources, 55 locks, 57 operator intervention
        // (shutdown, cancelled), 58 system error.
        ["08", "40", "53", "55", "57", "58"].iter().any(|class| code.starts_with(class))
    })
}
