//! The servers start, are killed, come back with their data, and leave nothing behind.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use sqlx::{Connection, PgConnection, Row};
use tandem_local::{Postgres, PostgresOptions, Scratch, create_database, test, tools};

#[tokio::test]
async fn every_test_gets_a_database_of_its_own() {
    let (one, two) = (test::database().await, test::database().await);
    assert_ne!(one.url, two.url);
    for url in [&one.url, &two.url] {
        let mut connection = PgConnection::connect(url).await.unwrap();
        sqlx::query("CREATE TABLE t (x text)").execute(&mut connection).await.unwrap();
        let lower = sqlx::query("SELECT lower('ÄDA')").fetch_one(&mut connection).await.unwrap();
        assert_eq!(lower.get::<String, _>(0), "äda");
    }
}

/// Runs it on a thread and a runtime of its own, as tests are.
fn as_a_test<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
    let on_its_own = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(work)
    };
    std::thread::spawn(on_its_own).join().unwrap()
}

#[test]
fn the_shared_servers_outlive_the_test_that_started_them() {
    // The first starts them, and ends.
    for _ in 0..2 {
        as_a_test(async {
            let database = test::database().await;
            PgConnection::connect(&database.url).await.unwrap();
            assert!(greets(&test::nats().await));
        });
    }
}

#[test]
fn a_database_is_dropped_when_its_test_is_over() {
    let over = as_a_test(async { test::database().await.url });
    as_a_test(async move {
        let mut looks = test::Looks::default();
        // Who makes the next one drops it: we, or another test that has begun to.
        test::database().await;
        while PgConnection::connect(&over).await.is_ok() {
            looks.pause().await;
        }
    });
}

#[tokio::test]
async fn what_is_committed_survives_a_kill() {
    let mut postgres = test::own_postgres().await;
    let url = create_database(&postgres.url("postgres"), "it's \"odd\"").await.unwrap();
    let mut connection = PgConnection::connect(&url).await.unwrap();
    sqlx::query("CREATE TABLE t AS SELECT 7 AS x").execute(&mut connection).await.unwrap();

    postgres.kill();
    assert!(PgConnection::connect(&url).await.is_err());
    postgres.restart().unwrap();

    let mut connection = PgConnection::connect(&url).await.unwrap();
    let row = sqlx::query("SELECT x FROM t").fetch_one(&mut connection).await.unwrap();
    assert_eq!(row.get::<i32, _>(0), 7);
}

#[tokio::test]
async fn a_password_is_needed() {
    let postgres = test::own_postgres().await;
    let mut url = url::Url::parse(&postgres.url("postgres")).unwrap();
    url.set_password(Some("guess")).unwrap();
    assert!(PgConnection::connect(url.as_str()).await.unwrap_err().to_string().contains("password"));
}

#[tokio::test]
async fn nats_comes_back_on_its_port() {
    let mut nats = test::own_nats().await;
    let url = nats.url();
    nats.kill();
    assert!(!greets(&url));
    nats.restart().unwrap();
    assert_eq!(nats.url(), url);
    assert!(greets(&url));
    nats.stop();
    assert!(!greets(&url));
}

#[test]
fn an_initialisation_that_was_cut_short_is_begun_again() {
    let scratch = Scratch::new().unwrap();
    let data = scratch.path().join("postgres");
    std::fs::create_dir(scratch.path().join("postgres.new")).unwrap();
    std::fs::write(scratch.path().join("postgres.new/half"), "made").unwrap();
    std::fs::write(scratch.path().join("postgres.password"), "old").unwrap();
    Postgres::start(&tools().unwrap(), PostgresOptions::new(data)).unwrap().stop();
}

#[test]
fn a_dead_servers_pid_file_does_not_block_its_data() {
    let scratch = Scratch::new().unwrap();
    let data = scratch.path().join("postgres");
    let mut postgres = Postgres::start(&tools().unwrap(), PostgresOptions::new(&data)).unwrap();
    let pid_file = data.join("postmaster.pid");
    let left_behind = std::fs::read_to_string(&pid_file).unwrap();
    postgres.stop();
    // Its process id has gone to another program: ours.
    let rest = left_behind.split_once('\n').unwrap().1;
    std::fs::write(&pid_file, format!("{}\n{rest}", std::process::id())).unwrap();
    postgres.restart().unwrap();
}

#[test]
fn a_server_that_cannot_start_says_why() {
    let scratch = Scratch::new().unwrap();
    let settings = vec![("no_such_setting", "1".to_owned())];
    let options = PostgresOptions { settings, ..PostgresOptions::new(scratch.path().join("postgres")) };
    let error = Postgres::start(&tools().unwrap(), options).unwrap_err().to_string();
    assert!(error.contains("no_such_setting"), "{error}");
}

#[test]
fn data_below_a_closed_folder_can_be_served() {
    use std::os::unix::fs::PermissionsExt;
    let scratch = Scratch::new().unwrap();
    let closed = scratch.path().join("closed");
    std::fs::create_dir(&closed).unwrap();
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o700)).unwrap();
    let mut postgres = Postgres::start(&tools().unwrap(), PostgresOptions::new(closed.join("postgres"))).unwrap();
    postgres.stop();
    postgres.restart().unwrap();
}

#[test]
fn servers_end_when_their_starter_is_killed() {
    let program = env!("CARGO_BIN_EXE_tandem-local");
    let echo = "echo $TANDEM_TEST_DATABASE_URL; echo $TANDEM_TEST_NATS_URL; read line";
    let mut starter = Command::new(program)
        .args(["test", "--", "sh", "-c", echo])
        // Servers of its own, though `make test` has named some for everybody.
        .env_remove(tandem_local::test::DATABASE_URL)
        .env_remove(tandem_local::test::NATS_URL)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(starter.stdout.take().unwrap()).lines();
    let urls = [lines.next().unwrap().unwrap(), lines.next().unwrap().unwrap()];
    assert!(urls.iter().all(|url| listens(url)));

    starter.kill().unwrap();
    starter.wait().unwrap();

    eventually(|| urls.iter().all(|url| !listens(url)));
}

#[test]
fn the_exit_code_of_a_test_command_is_passed_on() {
    let run =
        |script| Command::new(env!("CARGO_BIN_EXE_tandem-local")).args(["test", "--", "sh", "-c", script]).status();
    assert_eq!(run("exit 3").unwrap().code(), Some(3));
    assert_eq!(run("kill -9 $$").unwrap().code(), Some(137));
}

fn greets(nats: &str) -> bool {
    let mut greeting = [0; 4];
    TcpStream::connect(nats.trim_start_matches("nats://"))
        .is_ok_and(|mut stream| stream.read_exact(&mut greeting).is_ok())
        && greeting == *b"INFO"
}

fn listens(url: &str) -> bool {
    let url = url::Url::parse(url).unwrap();
    TcpStream::connect((url.host_str().unwrap(), url.port().unwrap())).is_ok()
}

fn eventually(mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(30), "it never came true");
        std::thread::sleep(Duration::from_millis(5));
    }
}
