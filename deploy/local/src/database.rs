//! Databases on a server.

use sqlx::{ConnectOptions, Connection, PgConnection};

use crate::Error;

/// Makes a database on the server of `server_url` (the URL of any database there) unless it exists, and returns its URL.
///
/// # Errors
/// When the text is no URL, the server is away, or its user may not make databases.
pub async fn create_database(server_url: &str, name: &str) -> Result<String, Error> {
    let mut url = url::Url::parse(server_url).map_err(|_| Error::Url("the given text"))?;
    let failed = |source| Error::Database { name: name.to_owned(), source };
    let options = sqlx::postgres::PgConnectOptions::from_url(&url).map_err(failed)?.disable_statement_logging();
    let mut connection = PgConnection::connect_with(&options).await.map_err(failed)?;
    let exists: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)")
        .bind(name)
        .fetch_one(&mut connection)
        .await
        .map_err(failed)?;
    if !exists {
        // A name can't be bound; quoted like this it can hold anything.
        let quoted = name.replace('"', "\"\"");
        let statement = format!("CREATE DATABASE \"{quoted}\" TEMPLATE template0");
        sqlx::query(&statement).execute(&mut connection).await.map_err(failed)?;
    }
    connection.close().await.map_err(failed)?;
    url.set_path(name);
    Ok(url.into())
}
