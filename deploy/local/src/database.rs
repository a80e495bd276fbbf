//! Databases on a server.

use sqlx::{ConnectOptions, Connection, PgConnection};

use crate::Error;

/// The database without anything in it, which every server has.
pub(crate) const EMPTY: &str = "template0";

/// Makes an empty database on the server of `server_url` (the URL of any database there) unless it exists, and returns its URL.
///
/// # Errors
/// When the text is no URL, the server is away, or its user may not make databases.
pub async fn create_database(server_url: &str, name: &str) -> Result<String, Error> {
    copy_database(server_url, name, EMPTY).await
}

/// The same with what is in another one, to which nobody may be connected meanwhile.
pub(crate) async fn copy_database(server_url: &str, name: &str, of: &str) -> Result<String, Error> {
    let mut url = parsed(server_url)?;
    let failed = |source| Error::Database { name: name.to_owned(), source };
    let mut connection = connect(&url).await.map_err(failed)?;
    let exists: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)")
        .bind(name)
        .fetch_one(&mut connection)
        .await
        .map_err(failed)?;
    if !exists {
        // Its files are copied, instead of written to the log page by page: half the work ("CREATE DATABASE", Strategy).
        let statement = format!("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy", quoted(name), quoted(of));
        sqlx::query(&statement).execute(&mut connection).await.map_err(failed)?;
    }
    connection.close().await.map_err(failed)?;
    url.set_path(name);
    Ok(url.into())
}

/// Drops a database if it exists, and cuts who is connected to it.
pub(crate) async fn drop_database(server_url: &str, name: &str) -> Result<(), Error> {
    let url = parsed(server_url)?;
    let failed = |source| Error::Database { name: name.to_owned(), source };
    let mut connection = connect(&url).await.map_err(failed)?;
    let statement = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", quoted(name));
    sqlx::query(&statement).execute(&mut connection).await.map_err(failed)?;
    connection.close().await.map_err(failed)
}

fn parsed(server_url: &str) -> Result<url::Url, Error> {
    url::Url::parse(server_url).map_err(|_| Error::Url("the given text"))
}

async fn connect(server: &url::Url) -> Result<PgConnection, sqlx::Error> {
    let options = sqlx::postgres::PgConnectOptions::from_url(server)?.disable_statement_logging();
    PgConnection::connect_with(&options).await
}

/// A name can't be bound; quoted like this it can hold anything.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
