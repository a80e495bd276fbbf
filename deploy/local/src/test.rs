//! Real servers for tests: one of each is shared by all tests of a process (or of a whole `make test`), and a test that
//! kills servers starts its own.
//!
//! These functions panic when a server does not start: a test has nothing better to do.

mod looks;
mod proxy;

use std::cell::RefCell;
use std::env;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, OnceLock};

use crate::database::{EMPTY, copy_database, drop_database};
use crate::error::io;
use crate::{Error, Nats, NatsOptions, Postgres, PostgresOptions, Scratch, port, tools};

pub use looks::Looks;
pub use proxy::Proxy;

/// Names a PostgreSQL server for tests, by the URL of any database on it; its user must be allowed to make databases.
pub const DATABASE_URL: &str = "TANDEM_TEST_DATABASE_URL";
/// Names a nats-server with JetStream for tests.
pub const NATS_URL: &str = "TANDEM_TEST_NATS_URL";
/// Names a database on that PostgreSQL server that tests copy instead of migrating one each: `tandem migrate` has made it.
pub const TEMPLATE: &str = "TANDEM_TEST_TEMPLATE";

/// Names the program `tandem` that tests start. Without it they take the one that was built last.
pub const TANDEM: &str = "TANDEM_TEST_TANDEM";

/// A database of one test's own.
#[derive(Debug, Clone)]
pub struct TestDatabase {
    /// Where to connect.
    pub url: String,
}

/// A server of one test's own, gone with its data when dropped.
#[derive(Debug)]
pub struct Own<S> {
    // Before its folder: a server must have ended when that is removed.
    server: S,
    _scratch: Scratch,
}

/// A fresh database on the shared server, to migrate: it is empty, or migrated and otherwise empty. It is there until the
/// thread that asked for it ends, as a test's does. Tests of one process may hold some 400 connections together.
///
/// # Panics
/// When PostgreSQL can't be started or reached.
pub async fn database() -> TestDatabase {
    let template = env::var(TEMPLATE).ok().filter(|name| !name.is_empty());
    copy_of(template.as_deref().unwrap_or(EMPTY)).await
}

/// A fresh empty database on the shared server, with a history (`epoch`) of its own once it is migrated.
///
/// # Panics
/// When PostgreSQL can't be started or reached.
pub async fn empty_database() -> TestDatabase {
    copy_of(EMPTY).await
}

async fn copy_of(template: &str) -> TestDatabase {
    let server = shared(env::var(DATABASE_URL), || {
        static SHARED: OnceLock<Own<Postgres>> = OnceLock::new();
        SHARED.get_or_init(|| or_panic(start_postgres())).url("postgres")
    })
    .await;
    let name = format!("tandem_test_{:016x}", rand::random::<u64>());
    let ended = ENDED.lock().map(|mut ended| std::mem::take(&mut *ended)).unwrap_or_default();
    for ended in ended {
        or_panic(drop_database(&server, &ended).await);
    }
    let url = or_panic(copy_database(&server, &name, template).await);
    IN_USE.with_borrow_mut(|in_use| in_use.0.push(name));
    TestDatabase { url }
}

/// Databases of tests that are over: whoever makes the next one drops them.
static ENDED: Mutex<Vec<String>> = Mutex::new(vec![]);

thread_local! {
    // A test is over when its thread ends, whichever way that happens.
    static IN_USE: RefCell<InUse> = const { RefCell::new(InUse(vec![])) };
}

struct InUse(Vec<String>);

impl Drop for InUse {
    fn drop(&mut self) {
        if let Ok(mut ended) = ENDED.lock() {
            ended.append(&mut self.0);
        }
    }
}

/// The URL of the shared nats-server: use a stream name and subjects of your own.
///
/// # Panics
/// When nats-server can't be started.
pub async fn nats() -> String {
    shared(env::var(NATS_URL), || {
        static SHARED: OnceLock<Own<Nats>> = OnceLock::new();
        SHARED.get_or_init(|| or_panic(start_nats())).url()
    })
    .await
}

/// A PostgreSQL server that this test may kill. It has the database `postgres`; more by [`crate::create_database`].
///
/// # Panics
/// When it can't be started.
pub async fn own_postgres() -> Own<Postgres> {
    or_panic(blocking(start_postgres).await)
}

/// The same, which writes to disk only when a commit waits for that: what none has waited for, a kill takes for certain.
///
/// # Panics
/// When it can't be started.
pub async fn own_forgetful_postgres() -> Own<Postgres> {
    or_panic(blocking(|| start_postgres_with(vec![("wal_writer_delay", "10s".to_owned())])).await)
}

/// A nats-server that this test may kill.
///
/// # Panics
/// When it can't be started.
pub async fn own_nats() -> Own<Nats> {
    or_panic(blocking(start_nats).await)
}

/// A nats-server that this test may kill, with a configuration of its own: who may do what, TLS. Its text may use the folder
/// that the function is given, which is there for as long as the server.
///
/// # Panics
/// When it can't be started.
pub async fn own_nats_with(config: impl FnOnce(&std::path::Path) -> String + Send + 'static) -> Own<Nats> {
    let start = move || -> Result<Own<Nats>, Error> {
        let scratch = Scratch::in_memory()?;
        let file = scratch.path().join("nats.conf");
        std::fs::write(&file, config(scratch.path())).map_err(io(format!("write {}", file.display())))?;
        let options = NatsOptions { config: Some(file), ..NatsOptions::new(scratch.path().join("nats")) };
        Ok(Own { server: Nats::start(&tools()?, options)?, _scratch: scratch })
    };
    or_panic(blocking(start).await)
}

/// Starts a server as tests want it: all is written as in production (to memory, where there is plenty: what a killed server
/// has written outlives it there, too), with room for many tests at once.
///
/// # Errors
/// When it can't be started.
pub fn start_postgres() -> Result<Own<Postgres>, Error> {
    start_postgres_with(vec![])
}

fn start_postgres_with(settings: Vec<(&'static str, String)>) -> Result<Own<Postgres>, Error> {
    let scratch = Scratch::in_memory()?;
    let data_dir = scratch.path().join("postgres");
    let mut options = PostgresOptions { sync_new_data: false, ..PostgresOptions::new(data_dir) };
    // Autovacuum visits each database once a minute: of hundreds that are used for seconds, one every tenth of a second.
    let usual = [("max_connections", "400"), ("shared_buffers", "64MB"), ("autovacuum", "off")];
    options.settings.extend(usual.map(|(key, value)| (key, value.to_owned())));
    options.settings.extend(settings);
    Ok(Own { server: Postgres::start(&tools()?, options)?, _scratch: scratch })
}

/// Starts a nats-server as tests want it: as in production.
///
/// # Errors
/// When it can't be started.
pub fn start_nats() -> Result<Own<Nats>, Error> {
    let scratch = Scratch::in_memory()?;
    let options = NatsOptions::new(scratch.path().join("nats"));
    Ok(Own { server: Nats::start(&tools()?, options)?, _scratch: scratch })
}

/// Starts three nats-servers that are one cluster, each with the data of its own: for a stream of three copies.
///
/// # Panics
/// When they can't be started.
pub async fn own_nats_cluster() -> [Own<Nats>; 3] {
    or_panic(blocking(start_nats_cluster).await)
}

/// The servers find each other while they start: JetStream answers once they have chosen a leader.
fn start_nats_cluster() -> Result<[Own<Nats>; 3], Error> {
    let routes = [port::free()?, port::free()?, port::free()?];
    let urls = routes.map(|port| format!("nats://127.0.0.1:{port}")).join(", ");
    let start = |index: usize| {
        let scratch = Scratch::in_memory()?;
        let config = scratch.path().join("nats.conf");
        let listen = routes[index];
        let text = format!(
            "server_name: n{index}\ncluster {{ name: tandem, listen: \"127.0.0.1:{listen}\", routes: [{urls}] }}\n"
        );
        std::fs::write(&config, text).map_err(io(format!("write {}", config.display())))?;
        let options = NatsOptions { config: Some(config), ..NatsOptions::new(scratch.path().join("nats")) };
        Ok(Own { server: Nats::start(&tools()?, options)?, _scratch: scratch })
    };
    Ok([start(0)?, start(1)?, start(2)?])
}

impl<S> Deref for Own<S> {
    type Target = S;

    fn deref(&self) -> &S {
        &self.server
    }
}

impl<S> DerefMut for Own<S> {
    fn deref_mut(&mut self) -> &mut S {
        &mut self.server
    }
}

/// Each test has a runtime of its own, which ends with it: what is shared must not live on one.
async fn shared(named: Result<String, env::VarError>, start: fn() -> String) -> String {
    match named {
        Ok(url) if !url.is_empty() => url,
        _ => blocking(start).await,
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

fn or_panic<T>(result: Result<T, impl Into<Box<dyn std::error::Error>>>) -> T {
    result.unwrap_or_else(|error| {
        let error = error.into();
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            message = format!("{message}: {cause}");
            source = cause.source();
        }
        panic!("{message}")
    })
}
