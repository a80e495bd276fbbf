//! What makes PostgreSQL stand still: seen in `/readyz`, `tandem status` and the measurements; nothing skipped; gone on by
//! itself once it is healed.

use serde_json::{Value, json};
use sqlx::PgPool;
use tandem_local::test::own_postgres;
use tandem_tests::{Customer, Setup, Tandem};

/// A Tandem that calls nothing ready that is half a second behind, and a customer in step.
async fn impatient(database_url: Option<String>) -> (Tandem, Customer) {
    let env = vec![
        ("TANDEM_HTTP__READY_LAG_SECONDS", "0.5".to_owned()),
        ("TANDEM_DATABASE__ACQUIRE_TIMEOUT_MS", "3000".to_owned()),
        ("TANDEM_STRIPE__SWEEP_INTERVAL_MS", "500".to_owned()),
    ];
    let tandem = Tandem::start_with(Setup { env, database_url, ..Setup::default() }).await;
    let ada = tandem.create("Ada", "ada@old.example").await;
    tandem.settled().await;
    (tandem, ada)
}

/// `/readyz` says that it is not ready, and `tandem status` that it is not healthy, with these words.
async fn is_seen(tandem: &Tandem, problem: impl Fn(&Value) -> bool, words: &str) {
    tandem
        .until("/readyz tells", || async {
            let answer = tandem.http().get(tandem.at("/readyz")).send().await.unwrap();
            answer.status() == 503 && problem(&answer.json().await.unwrap())
        })
        .await;
    tandem
        .until("tandem status tells", || async {
            let (code, said) = tandem.command(&["status"]).await;
            code == Some(3) && said.contains(words) && said.contains("NOT healthy")
        })
        .await;
}

/// Everything is done that was asked for, in both places, and the feed has no gap.
async fn goes_on(tandem: &mut Tandem, ada: &Customer, name: &str) {
    tandem.ready().await;
    tandem.until("her name", || async { tandem.get(&ada.id).await.name.as_deref() == Some(name) }).await;
    tandem.settled().await;
    tandem.assert_equal(&ada.id).await;
    let (code, said) = tandem.command(&["stream", "check"]).await;
    assert_eq!(code, Some(0), "{said}");
}

async fn run(database: &PgPool, sql: &str) {
    sqlx::raw_sql(sql).execute(database).await.unwrap();
}

#[tokio::test]
async fn a_transaction_that_holds_the_feed_stalls_numbering_and_nothing_is_skipped() {
    let (mut tandem, ada) = impatient(None).await;
    let mut open = tandem.database.begin().await.unwrap();
    sqlx::query("SELECT FROM feed FOR UPDATE").execute(&mut *open).await.unwrap();

    tandem.patch(&ada.id, json!({"name": "Countess"})).await;

    is_seen(&tandem, |ready| ready["relay"]["ok"] == false && ready["relay"]["lag_events"] == 1, "waiting 1 for").await;
    let late = || async { tandem.measured("tandem_relay_unnumbered_seconds").await > 0.5 };
    tandem.until("the measurement tells", late).await;
    open.rollback().await.unwrap();
    goes_on(&mut tandem, &ada, "Countess").await;
}

#[tokio::test]
async fn a_transaction_that_holds_a_checkpoint_stalls_its_projection_and_nothing_is_skipped() {
    let (mut tandem, ada) = impatient(None).await;
    let mut open = tandem.database.begin().await.unwrap();
    sqlx::query("SELECT FROM checkpoints WHERE name = 'customers' FOR UPDATE").execute(&mut *open).await.unwrap();

    tandem.patch(&ada.id, json!({"name": "Countess"})).await;

    let behind = |ready: &Value| {
        let projectors = ready["projectors"].as_array().unwrap();
        projectors.iter().any(|one| one["name"] == "customers" && one["ok"] == false && one["lag_events"] == 1)
    };
    is_seen(&tandem, behind, "1 events and").await;
    let late = || async { tandem.measured("tandem_projector_lag_seconds").await > 0.5 };
    tandem.until("the measurement tells", late).await;
    open.rollback().await.unwrap();
    goes_on(&mut tandem, &ada, "Countess").await;
}

#[tokio::test]
async fn a_transaction_that_holds_a_link_stalls_its_gateway_and_nothing_is_skipped() {
    let (mut tandem, ada) = impatient(None).await;
    let mut open = tandem.database.begin().await.unwrap();
    sqlx::query("SELECT FROM links FOR UPDATE").execute(&mut *open).await.unwrap();

    tandem.patch(&ada.id, json!({"name": "Countess"})).await;

    let behind = |ready: &Value| {
        let projectors = ready["projectors"].as_array().unwrap();
        projectors.iter().any(|one| one["name"] == "gateway.stripe" && one["ok"] == false)
    };
    is_seen(&tandem, behind, "projector   gateway.stripe: position 2, 1 events").await;
    open.rollback().await.unwrap();
    goes_on(&mut tandem, &ada, "Countess").await;
}

/// Fails if the refusal of a standby counts as one that trying again cannot help: projections would stop for good.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_takes_no_writes_is_waited_for() {
    let postgres = own_postgres().await;
    let (mut tandem, ada) = impatient(Some(postgres.url("postgres"))).await;
    let remote = tandem.remote_id(&ada.id).await;
    // A change on its way: its event is appended, and not numbered yet.
    run(&tandem.database, "ALTER SYSTEM SET default_transaction_read_only = on").await;
    let mut open = tandem.database.begin().await.unwrap();
    sqlx::query("SELECT FROM feed FOR UPDATE").execute(&mut *open).await.unwrap();
    tandem.patch(&ada.id, json!({"name": "Countess"})).await;
    run(&tandem.database, "SELECT pg_reload_conf()").await;
    tandem
        .until("the setting is there", || async {
            let set: bool = sqlx::query_scalar("SELECT current_setting('default_transaction_read_only')::boolean")
                .fetch_one(&tandem.database)
                .await
                .unwrap();
            set
        })
        .await;
    open.rollback().await.unwrap();

    is_seen(&tandem, |ready| ready["postgresql"]["ok"] == false, "PostgreSQL  takes no writes").await;
    let refuses = || async { tandem.measured("tandem_postgresql_writable").await == 0.0 };
    tandem.until("the measurement tells", refuses).await;
    let refused =
        tandem.http().patch(tandem.at(&format!("/customers/{}", ada.id))).json(&json!({"name": "Eve"})).send().await;
    assert_eq!(refused.unwrap().status(), 503);
    // Stripe tells: it is not acknowledged, and comes again, or the sweep finds it.
    tandem.stripe.edit(&remote, &[("phone", "+44 20 7946 0958")]).await.unwrap();
    run(&tandem.database, "ALTER SYSTEM RESET default_transaction_read_only").await;
    run(&tandem.database, "SELECT pg_reload_conf()").await;

    tandem.until("her phone", || async { tandem.get(&ada.id).await.phone.is_some() }).await;
    goes_on(&mut tandem, &ada, "Countess").await;
}

/// A full disk as PostgreSQL tells it: error 53100, raised here by triggers, since a file system of its own would need a
/// mount. What is appended before is kept, what comes then is refused.
#[tokio::test]
async fn a_full_disk_refuses_writes_and_is_waited_for() {
    let (mut tandem, ada) = impatient(None).await;
    let remote = tandem.remote_id(&ada.id).await;
    let tables = ["feed", "checkpoints", "inbox", "intents", "customers"];
    run(
        &tandem.database,
        "CREATE FUNCTION disk_full() RETURNS trigger LANGUAGE plpgsql
             AS $$ BEGIN RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100'; END $$",
    )
    .await;
    for table in tables {
        let full = format!(
            "CREATE TRIGGER disk_full BEFORE INSERT OR UPDATE ON {table} FOR EACH STATEMENT EXECUTE FUNCTION disk_full()"
        );
        run(&tandem.database, &full).await;
    }
    tandem.patch(&ada.id, json!({"name": "Countess"})).await;
    run(
        &tandem.database,
        "CREATE TRIGGER disk_full BEFORE INSERT OR UPDATE ON events FOR EACH STATEMENT EXECUTE FUNCTION disk_full()",
    )
    .await;

    let failing =
        |ready: &Value| ready["relay"]["problem"].as_str().is_some_and(|problem| problem.contains("No space left"));
    is_seen(&tandem, failing, "waiting 1 for").await;
    let refused =
        tandem.http().patch(tandem.at(&format!("/customers/{}", ada.id))).json(&json!({"name": "Eve"})).send().await;
    assert_eq!(refused.unwrap().status(), 503);
    tandem.stripe.edit(&remote, &[("phone", "+44 20 7946 0958")]).await.unwrap();
    for table in tables.iter().chain(&["events"]) {
        run(&tandem.database, &format!("DROP TRIGGER disk_full ON {table}")).await;
    }

    tandem.until("her phone", || async { tandem.get(&ada.id).await.phone.is_some() }).await;
    goes_on(&mut tandem, &ada, "Countess").await;
}
